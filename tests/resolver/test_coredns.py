"""CoreDNS: the Corefile's text, who answers, and the size of the answer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deadhop.hops.dns import Client, KubeService, Served, World, deliver, parse_corefile, serve
from deadhop.hops.dns.serve import PLUGIN_ORDER, block_for, chain
from deadhop.hops.dns.size import bufsize_of, message_of, udp_limit
from deadhop.model.dns import RR

CLUSTER = """
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {   # the cluster
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30
    hosts /etc/coredns/customdomains.db k8s.intra {
      172.17.0.2 echo.k8s.intra
      fallthrough
    }
}
"""

SERVICES = (
    KubeService(namespace="default", name="web", cluster_ips=("10.96.0.50",), ports=(("http", "TCP", 80),)),
    KubeService(namespace="db", name="pg", endpoints=(("pg-0", "10.1.0.4"), ("pg-1", "10.1.0.5"))),
    KubeService(namespace="default", name="out", external_name="api.example.com"),
)


def upstream(name: str, qtype: str) -> Served | None:
    if name == "api.example.com.":
        rrs = (RR(name, 300, "CNAME", "edge.example.net."), RR("edge.example.net.", 60, "A", "192.0.2.1"))
        return Served(rcode="NOERROR", answers=rrs if qtype == "A" else rrs[:1])
    return Served(rcode="NXDOMAIN") if name.endswith(".example.com.") else None


WORLD = World(services=SERVICES, upstream=upstream, files={"/etc/coredns/customdomains.db": ""})


def ask(
    name: str, qtype: str = "A", text: str = CLUSTER, client: Client | None = None, world: World = WORLD
) -> Served:
    parsed = parse_corefile(text)
    assert parsed.problems == ()
    return serve(parsed, world, name, qtype, client)


def data(served: Served) -> list[str]:
    return [rr.data for rr in served.answers]


def test_structure() -> None:
    parsed = parse_corefile(CLUSTER)
    (block,) = parsed.servers
    assert [(z.name, z.port) for z in block.zones] == [(".", 53)]
    assert [d.name for d in block.directives][:4] == ["errors", "health", "ready", "kubernetes"]
    (kubernetes,) = block.all("kubernetes")
    assert kubernetes.args == ("cluster.local", "in-addr.arpa", "ip6.arpa")
    assert kubernetes.option("ttl") == ("30",)
    assert kubernetes.line == 8
    order = [d.name for d in chain(block)]
    assert order == sorted(order, key=PLUGIN_ORDER.index)
    assert order[-4:] == ["cache", "hosts", "kubernetes", "forward"]


def test_zones_snippets_and_quotes() -> None:
    text = """
(common) {
    errors
    cache 10
}
Example.org:1053, tls://example.net dns://a.b {
    import common
    template ANY A {
        match "^a b$"
        answer "{{ .Name }} 60 IN A 192.0.2.1"
    }
}
10.0.0.0/24 {
    whoami
}
"""
    parsed = parse_corefile(text)
    assert parsed.problems == ()
    first, second = parsed.servers
    assert [(z.scheme, z.name, z.port) for z in first.zones] == [
        ("dns", "example.org.", 1053),
        ("tls", "example.net.", 853),
        ("dns", "a.b.", 53),
    ]
    assert [d.name for d in first.directives] == ["errors", "cache", "template"]
    assert first.directives[2].option("match") == ("^a b$",)
    assert second.zones[0].name == "0.0.10.in-addr.arpa."


def test_one_block_without_braces() -> None:
    parsed = parse_corefile("example.org\nerrors\ncache 9\n")
    assert [d.name for d in parsed.servers[0].directives] == ["errors", "cache"]


@pytest.mark.parametrize(
    "text, problem",
    [
        (". {\n errors\n", "never closed"),
        ("}\n", "without its block"),
        (". {\n import ../x.conf\n}\n", "import ../x.conf"),
        ("a:b {\n}\n", "not a zone"),
        ('. {\n log "x\n}\n', "quote"),
        (". {\n" * 1 + "a {\n" * 40 + "}\n" * 41, "nested too deep"),
    ],
)
def test_problems(text: str, problem: str) -> None:
    assert any(problem in said for _, said in parse_corefile(text).problems)


@given(st.text(alphabet=' \n{}"#.:a(),\\import', max_size=80))
@settings(max_examples=300)
def test_any_text_parses(text: str) -> None:
    parsed = parse_corefile(text)
    serve(parsed, World(), "a.example.org", "A")


def test_the_longest_zone_answers() -> None:
    parsed = parse_corefile(
        ".:53 {\n forward . 1.1.1.1\n}\ncorp.test:53 {\n errors\n}\nx.corp.test:54 {\n}\n"
    )
    found = block_for(parsed, "x.corp.test.")
    assert found is not None
    assert found[1] == "corp.test."
    assert serve(parsed, World(), "x.corp.test").rcode == "SERVFAIL"
    assert serve(parsed, World(), "corp.test.example").upstream == ("1.1.1.1",)
    assert serve(parse_corefile("a.test {\n}"), World(), "b.test").rcode == "REFUSED"


def test_services() -> None:
    assert data(ask("web.default.svc.cluster.local")) == ["10.96.0.50"]
    assert ask("web.default.svc.cluster.local").answers[0].ttl == 30
    assert ask("web.default.svc.cluster.local", "AAAA").rcode == "NOERROR"
    assert ask("nope.default.svc.cluster.local").rcode == "NXDOMAIN"
    assert ask("x.web.default.svc.cluster.local").rcode == "NXDOMAIN"
    assert ask("default.svc.cluster.local").rcode == "NOERROR"
    assert ask("api.example.com.default.svc.cluster.local").rcode == "NXDOMAIN"
    assert data(ask("pg.db.svc.cluster.local")) == ["10.1.0.4", "10.1.0.5"]
    assert data(ask("pg-1.pg.db.svc.cluster.local")) == ["10.1.0.5"]
    assert data(ask("_http._tcp.web.default.svc.cluster.local", "SRV")) == [
        "0 100 80 web.default.svc.cluster.local."
    ]
    assert data(ask("10-1-2-3.default.pod.cluster.local")) == ["10.1.2.3"]
    assert data(ask("50.0.96.10.in-addr.arpa", "PTR")) == ["web.default.svc.cluster.local."]
    assert data(ask("out.default.svc.cluster.local")) == [
        "api.example.com.",
        "edge.example.net.",
        "192.0.2.1",
    ]


def test_forward_cache_and_hosts() -> None:
    outside = ask("api.example.com")
    assert (outside.by, outside.upstream, outside.upstream_transport) == (
        "forward",
        ("/etc/resolv.conf",),
        "udp",
    )
    assert [rr.ttl for rr in outside.answers] == [30, 30]
    assert ask("gone.example.com").rcode == "NXDOMAIN"
    assert ask("elsewhere.test").unknown
    echo = ask("echo.k8s.intra")
    assert (echo.by, data(echo), echo.answers[0].ttl) == ("hosts", ["172.17.0.2"], 30)
    assert ask("echo.k8s.intra", "AAAA").rcode == "NOERROR"
    assert ask("other.k8s.intra").by == "forward"
    strict = ". {\n hosts {\n 192.0.2.9 a.test\n }\n forward . 9.9.9.9 {\n force_tcp\n except b.test\n }\n}"
    assert ask("b.test", text=strict).rcode == "SERVFAIL"
    assert data(ask("a.test", text=strict)) == ["192.0.2.9"]
    tcp = ". {\n forward . 9.9.9.9 {\n force_tcp\n except b.test\n }\n}"
    assert ask("api.example.com", text=tcp).upstream_transport == "tcp"
    assert ask("b.test", text=tcp).rcode == "SERVFAIL"
    assert ask("a.test", text=". {\n hosts /etc/hosts\n}").unknown


def test_templates_and_rewrites() -> None:
    text = r"""
. {
    template IN A corp.test {
        match "^(?P<host>[a-z]+)-([0-9]+)[.]corp[.]test[.]$"
        answer "{{ .Name }} 60 IN A 10.0.0.{{ index .Match 2 }}"
        fallthrough
    }
    rewrite name suffix .old.test .corp.test
    rewrite stop name exact x.test api.example.com
    rewrite name regex (.*)\.re\.test {1}.corp.test
    forward . 9.9.9.9
}
"""
    assert data(ask("web-7.corp.test", text=text)) == ["10.0.0.7"]
    assert [(rr.name, rr.data) for rr in ask("web-7.old.test", text=text).answers] == [
        ("web-7.corp.test.", "10.0.0.7")
    ], "a suffix rule does not put the name back by itself"
    auto = text.replace(".old.test .corp.test", ".old.test .corp.test answer auto")
    assert [(rr.name, rr.data) for rr in ask("web-7.old.test", text=auto).answers] == [
        ("web-7.old.test.", "10.0.0.7")
    ]
    assert ask("x.test", text=text).answers[0].name == "x.test."
    assert ask("plain.corp.test", text=text).by == "forward"
    assert data(ask("web-8.re.test", text=text)) == ["10.0.0.8"]
    for answer in ('"{{ .Name | up }} A 1.2.3.4"', '"nonsense"'):
        assert ask("a.test", text=f". {{\n template ANY ANY {{\n answer {answer}\n }}\n}}").unknown
    slow = '. {\n template ANY ANY {\n match "(a+)+$"\n answer "{{ .Name }} A 1.2.3.4"\n }\n}'
    assert "not run" in ask("a" * 40 + "b", text=slow).unknown
    assert ask("a.test", text=". {\n template ANY ANY {\n rcode NXDOMAIN\n }\n}").rcode == "NXDOMAIN"


def test_autopath_answers_the_expansion_with_a_cname() -> None:
    text = CLUSTER.replace("cache 30", "cache 30\n    autopath @kubernetes")
    client = Client(namespace="home")
    served = ask("api.example.com.home.svc.cluster.local", text=text, client=client)
    assert served.answers[0] == RR("api.example.com.home.svc.cluster.local.", 30, "CNAME", "api.example.com.")
    assert data(served)[-1] == "192.0.2.1"
    assert ask("api.example.com.svc.cluster.local", text=text, client=client).rcode == "NXDOMAIN"
    assert ask("api.example.com.home.svc.cluster.local", text=text).rcode == "NXDOMAIN"


def test_acl_any_and_unknown_data() -> None:
    text = ". {\n acl {\n block type A net 10.9.0.0/16\n drop net 10.8.0.0/16\n }\n any\n file db.corp corp.test\n forward . 9.9.9.9\n}"
    assert ask("api.example.com", text=text, client=Client(ip="10.9.1.1")).rcode == "REFUSED"
    assert ask("api.example.com", "AAAA", text, Client(ip="10.9.1.1")).rcode == "NOERROR"
    assert ask("api.example.com", text=text, client=Client(ip="10.8.1.1")).rcode == "TIMEOUT"
    assert ask("a.corp.test", text=text).unknown
    assert ask("a.test", "ANY", text).by == "any"
    assert ask("web.default.svc.cluster.local", world=World()).unknown


def test_sizes() -> None:
    rrs = tuple(
        RR("_kerberos._udp.corp.test.", 600, "SRV", f"0 100 88 kdc{n:02}.corp.test.") for n in range(48)
    )
    message = message_of(Served(rcode="NOERROR", answers=rrs), "_kerberos._udp.corp.test", "SRV")
    large = deliver(message, Client(edns_size=4096))
    assert (large.truncated, large.size) == (False, large.full_size)
    assert large.datagram_ipv4 > 1500
    plain = deliver(message, Client())
    assert plain.truncated
    assert plain.size <= 512
    assert deliver(message, Client(edns_size=4096), bufsize=1232).truncated
    assert not deliver(message, Client(transport="tcp")).truncated
    assert [udp_limit(None), udp_limit(100), udp_limit(4096), udp_limit(4096, 1232)] == [512, 512, 4096, 1232]
    assert bufsize_of(parse_corefile(". {\n bufsize\n}"), "a.") == 1232
    assert bufsize_of(parse_corefile(". {\n bufsize 1100\n}"), "a.") == 1100
    assert bufsize_of(parse_corefile(CLUSTER), "a.") is None


def test_hostile_corefiles_stay_small() -> None:
    laughs = "(s0) {\n errors\n}\n" + "".join(
        f"(s{n}) {{\n import s{n - 1}\n import s{n - 1}\n}}\n" for n in range(1, 40)
    )
    parsed = parse_corefile(laughs + ". {\n import s39\n}\n")
    assert any("imported" in said for _, said in parsed.problems)
    endless = ". {\n" + "rewrite name substring a aa continue\n" * 3000 + "}\n"
    assert serve(parse_corefile(endless), World(), "a.test").unknown
    circle = (
        ". {\n"
        + "rewrite name exact a.test b.test continue\nrewrite name exact b.test a.test continue\n" * 3000
    )
    assert serve(parse_corefile(circle), World(), "a.test").unknown
