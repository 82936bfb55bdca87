"""The CoreDNS model against a real CoreDNS: the same Corefile and questions, the same rcode, records, TTLs and log lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from deadhop.hops.dns import Client, Served, World, deliver, parse_corefile, serve
from deadhop.hops.dns.size import bufsize_of, message_of
from deadhop.model.dns import RR
from deadhop.wire.zonefile import ZoneFile

from .served import coredns, coredns_binary, served

pytestmark = pytest.mark.skipif(
    not coredns_binary(), reason="no CoreDNS here: scripts/build-coredns makes one"
)

ZONE = """\
$ORIGIN test.
$TTL 7200
@        SOA ns hostmaster 1 3600 600 86400 5000
api.out  A   192.0.2.1
low.out  9   A 192.0.2.2
www.out  CNAME api.out
mix.out  CNAME low.out
tiny.out 2 A 192.0.2.5
long.out 90000 A 192.0.2.6
a.hosts  A   192.0.2.77
c.corp   A   192.0.2.3
d.corp   A   192.0.2.4
""" + "".join(f"big.out SRV 0 100 88 kdc{n:02}.out\n" for n in range(40))

FILE = """\
$TTL 300
@      SOA ns hostmaster 1 3600 600 86400 30
@      NS  ns
ns     A   192.0.2.53
api    30 A 192.0.2.1
api    30 A 192.0.2.2
www    CNAME api
chain  CNAME www
out    CNAME www.out.test.
gone   CNAME none.out.test.
lost   CNAME none
*.wild A   192.0.2.9
*.starred CNAME api
a.deep.tree A 192.0.2.7
sub    NS  ns.sub
ns.sub A   192.0.2.54
"""

#: Name to (Corefile, questions as NAME or NAME TYPE). BLOCKS stand inside `.:PORT { … }`.
CASES: dict[str, tuple[str, str]] = {
    "forward": ("forward . UP", "api.out.test, www.out.test, www.out.test AAAA, none.out.test, low.out.test"),
    "forward zone": ("forward out.test UP", "api.out.test, c.corp.test"),
    "forward except": ("forward . UP {\n except corp.test\n }", "api.out.test, c.corp.test"),
    "two forwards": ("forward corp.test UP\n forward . UP", "api.out.test, c.corp.test"),
    "cache": ("cache 30\n forward . UP", "api.out.test, low.out.test, none.out.test, www.out.test, mix.out.test, mix.out.test MX, tiny.out.test"),
    "cache default": ("cache\n forward . UP", "long.out.test, api.out.test, www.out.test MX, none.out.test"),
    "cache zone": ("cache 30 corp.test\n forward . UP", "api.out.test, c.corp.test"),
    "cache success": ("cache {\n success 100 60\n denial 100 20\n }\n forward . UP", "api.out.test, none.out.test, low.out.test"),
    "cache minimum": ("cache {\n success 100 60 20\n }\n forward . UP", "api.out.test, low.out.test"),
    "hosts": (
        "hosts {\n 192.0.2.9 a.hosts.test b.hosts.test\n 2001:db8::9 a.hosts.test\n 192.0.2.10 a.hosts.test\n fallthrough\n }\n forward . UP",
        "a.hosts.test, a.hosts.test AAAA, b.hosts.test AAAA, api.out.test, a.hosts.test TXT, a.hosts.test MX, 9.2.0.192.in-addr.arpa PTR",
    ),
    "hosts alone": (
        "hosts {\n 192.0.2.9 a.hosts.test\n ttl 77\n }",
        "a.hosts.test, a.hosts.test AAAA, c.hosts.test, hosts.test, 9.2.0.192.in-addr.arpa PTR, 8.2.0.192.in-addr.arpa PTR",
    ),
    "hosts then forward": ("hosts {\n 192.0.2.9 a.hosts.test\n }\n forward . UP", "a.hosts.test, api.out.test, a.hosts.test TXT"),
    "hosts fallthrough zone": (
        "hosts {\n 192.0.2.9 a.hosts.test\n fallthrough out.test\n }\n forward . UP", "api.out.test, c.corp.test",
    ),
    "hosts under cache": ("cache 30\n hosts {\n 192.0.2.9 a.hosts.test\n }", "a.hosts.test"),
    "template": (
        'template IN A corp.test {\n match "^(?P<host>[a-z]+)-([0-9]+)[.]corp[.]test[.]$"\n answer "{{ .Name }} 60 IN A 10.0.0.{{ index .Match 2 }}"\n fallthrough\n }\n forward . UP',
        "web-7.corp.test, web-7.corp.test AAAA, c.corp.test, api.out.test",
    ),
    "template without fallthrough": (
        'template IN A corp.test {\n match "^web"\n answer "{{ .Name }} A 10.0.0.1"\n }\n forward . UP',
        "web.corp.test, c.corp.test, c.corp.test AAAA",
    ),
    "template rcode": ("template ANY ANY corp.test {\n rcode NXDOMAIN\n }\n forward . UP", "c.corp.test, c.corp.test TXT, api.out.test"),
    "template AAAA empty": ("template ANY AAAA {\n rcode NOERROR\n }\n forward . UP", "api.out.test AAAA, api.out.test"),
    "rewrite name": ("rewrite name x.corp.test c.corp.test\n forward . UP", "x.corp.test, c.corp.test, y.x.corp.test"),
    "rewrite suffix": ("rewrite name suffix .old.test .corp.test\n forward . UP", "c.old.test, zz.old.test"),
    "rewrite suffix auto": ("rewrite name suffix .old.test .corp.test answer auto\n forward . UP", "c.old.test, zz.old.test"),
    "rewrite regex": ("rewrite name regex (.*)\\.re\\.test {1}.corp.test\n forward . UP", "c.re.test, re.test"),
    "rewrite regex auto": ("rewrite name regex (.*)\\.re\\.test {1}.corp.test answer auto\n forward . UP", "c.re.test"),
    "rewrite regex answer name": (
        "rewrite name regex (.*)\\.re\\.test {1}.corp.test answer name (.*)\\.corp\\.test {1}.re.test\n forward . UP",
        "c.re.test, none.re.test",
    ),
    "rewrite prefix": ("rewrite name prefix old- d\n forward . UP", "old-.corp.test, d.corp.test"),
    "rewrite substring": ("rewrite name substring old corp\n forward . UP", "c.old.test, d.oldold.test"),
    "rewrite stop": ("rewrite stop name x.test c.corp.test\n rewrite name c.corp.test d.corp.test\n forward . UP", "x.test, c.corp.test"),
    "rewrite continue": ("rewrite continue name x.test c.corp.test\n rewrite name c.corp.test d.corp.test\n forward . UP", "x.test, c.corp.test"),
    "rewrite type": ("rewrite type AAAA A\n forward . UP", "c.corp.test AAAA"),
    "acl": ("acl {\n block type A net 127.0.0.0/8\n }\n forward . UP", "api.out.test, api.out.test AAAA"),
    "acl filter": ("acl corp.test {\n filter net *\n }\n forward . UP", "c.corp.test, api.out.test"),
    "acl allow": ("acl {\n allow net 127.0.0.0/8\n block\n }\n forward . UP", "api.out.test"),
    "any": ("any\n forward . UP", "api.out.test ANY, api.out.test"),
    "local": ("local\n forward . UP", "localhost, localhost AAAA, localhost MX, localhost TXT, localhost.out.test, localhost.out.test MX, a.localhost, 5.0.0.127.in-addr.arpa PTR, 1.0.0.127.in-addr.arpa A, 127.in-addr.arpa A, 0.in-addr.arpa TXT, 9.255.in-addr.arpa PTR, 1.0.0.127.in-addr.arpa PTR"),
    "file": (
        "file FILE corp.test\n forward . UP",
        "api.corp.test, api.corp.test AAAA, api.corp.test MX, www.corp.test, www.corp.test CNAME, none.corp.test, deep.tree.corp.test, a.deep.tree.corp.test, "
        "x.wild.corp.test, y.x.wild.corp.test, wild.corp.test, sub.corp.test, a.sub.corp.test, out.corp.test, out.corp.test AAAA, gone.corp.test, lost.corp.test, corp.test SOA, "
        "corp.test NS, corp.test, api.out.test, chain.corp.test, star.starred.corp.test",
    ),
    "file under cache": ("cache 30\n file FILE corp.test\n forward . UP", "api.corp.test, none.corp.test, out.corp.test"),
    "file with root": ("root ROOT\n file db.corp corp.test", "api.corp.test, api.out.test, out.corp.test"),
    "file after template": ("template IN A api.corp.test {\n answer \"{{ .Name }} 5 IN A 10.9.9.9\"\n }\n file FILE corp.test", "api.corp.test, www.corp.test"),
    "nothing": ("errors", "api.out.test"),
    "order": ("forward . UP\n hosts {\n 192.0.2.9 api.out.test\n fallthrough\n }\n template IN A c.corp.test {\n answer \"{{ .Name }} 5 IN A 10.9.9.9\"\n }", "api.out.test, c.corp.test"),
    "dead upstream": ("forward . 127.0.0.1:1 {\n health_check 10s\n }", "api.out.test"),
}  # fmt: skip
OTHER_BLOCKS = {
    "longest zone": (
        "out.test:PORT {\n bind 127.0.0.1\n forward . UP\n}\ntest:PORT {\n bind 127.0.0.1\n template ANY ANY {\n rcode NXDOMAIN\n }\n}\n",
        "api.out.test, c.corp.test, example.org",
    ),
    "two zones in one block": (
        "out.test:PORT corp.test:PORT {\n bind 127.0.0.1\n forward . UP\n}\n",
        "api.out.test, c.corp.test, a.hosts.test",
    ),
}


def upstream(name: str, qtype: str) -> Served:
    """What our own server tells, straight from the zone."""
    reply = ZoneFile(ZONE).answer(dns.message.make_query(name, qtype))
    return Served(rcode=dns.rcode.to_text(reply.rcode()), answers=records(reply))


def records(reply: dns.message.Message) -> tuple[RR, ...]:
    return tuple(
        RR(s.name.to_text(), s.ttl, dns.rdatatype.to_text(s.rdtype), r.to_text())
        for s in reply.answer
        for r in s
    )


def questions(text: str) -> Iterator[tuple[str, str]]:
    for piece in text.split(","):
        words = piece.split()
        yield words[0] + ".", words[1] if len(words) > 1 else "A"


@pytest.mark.parametrize("case", [*CASES, *OTHER_BLOCKS])
def test_the_same_answers(case: str, tmp_path: Path) -> None:
    body, asked = CASES[case] if case in CASES else OTHER_BLOCKS[case]
    text = f".:PORT {{\n bind 127.0.0.1\n {body}\n}}\n" if case in CASES else body
    path = tmp_path / "db.corp"
    path.write_text(FILE)
    files = {str(path): FILE}
    with served(ZONE) as up:
        text = text.replace("UP", f"127.0.0.1:{up.port}").replace("FILE", str(path))
        text = text.replace("ROOT", str(tmp_path))
        with coredns(coredns_binary(), text, tmp_path) as real:
            parsed = parse_corefile(text.replace("PORT", str(real.port)))
            assert parsed.problems == ()
            dead = World(upstream=lambda _name, _qtype: Served(rcode="SERVFAIL"))
            world = dead if case == "dead upstream" else World(upstream=upstream, files=files)
            differ = []
            for name, qtype in questions(asked):
                query = dns.message.make_query(name, qtype)
                reply = dns.query.udp(query, "127.0.0.1", port=real.port, timeout=30)
                ours = serve(parsed, world, name, qtype, Client(ip="127.0.0.1"), port=real.port)
                told = (dns.rcode.to_text(reply.rcode()), sorted(map(str, records(reply))))
                said = (ours.rcode, sorted(map(str, ours.answers)))
                if told != said:
                    differ.append((name, qtype, "real", told, "model", said, ours.unknown))
            assert not differ, "\n".join(map(str, differ))


@pytest.mark.parametrize(
    "option, by_udp, by_tcp", [("", "udp", "tcp"), ("force_tcp", "tcp", "tcp"), ("prefer_udp", "udp", "udp")]
)
def test_the_transport_to_the_upstream(option: str, by_udp: str, by_tcp: str, tmp_path: Path) -> None:
    with served(ZONE) as up:
        text = f".:PORT {{\n bind 127.0.0.1\n forward . 127.0.0.1:{up.port} {{\n {option}\n }}\n}}\n"
        with coredns(coredns_binary(), text, tmp_path) as real:
            for asked, transport, how in (("a", by_udp, dns.query.udp), ("b", by_tcp, dns.query.tcp)):
                how(dns.message.make_query(f"{asked}.out.test", "A"), "127.0.0.1", port=real.port, timeout=30)
                assert up.asked(transport).count(f"A {asked}.out.test.") == 1
                client = Client(transport="udp" if asked == "a" else "tcp")
                ours = serve(
                    parse_corefile(text.replace("PORT", "53")),
                    World(upstream=upstream),
                    "a.test",
                    "A",
                    client,
                )
                assert ours.upstream_transport == transport


@pytest.mark.parametrize("bufsize", ["", "bufsize 1100", "bufsize"])
@pytest.mark.parametrize("edns", [None, 1232, 4096])
def test_sizes_and_truncation(bufsize: str, edns: int | None, tmp_path: Path) -> None:
    with served(ZONE) as up:
        text = f".:PORT {{\n bind 127.0.0.1\n {bufsize}\n forward . 127.0.0.1:{up.port} {{\n force_tcp\n }}\n}}\n"
        with coredns(coredns_binary(), text, tmp_path) as real:
            query = dns.message.make_query(
                "big.out.test", "SRV", use_edns=edns is not None, payload=edns or 0
            )
            reply = dns.query.udp(query, "127.0.0.1", port=real.port, timeout=30)
            served_ = upstream("big.out.test.", "SRV")
            parsed = parse_corefile(text.replace("PORT", "53"))
            ours = deliver(
                message_of(served_, "big.out.test", "SRV"),
                Client(edns_size=edns),
                bufsize_of(parsed, "big.out.test."),
            )
            assert (ours.truncated, len(reply.to_wire()) <= ours.limit) == (
                bool(reply.flags & dns.flags.TC),
                True,
            )


def test_the_log_lines_are_read_back(tmp_path: Path) -> None:
    from deadhop.evidence import read
    from deadhop.model.observed.dns import DnsQuery, DnsServerError

    with served(ZONE) as up:
        text = (
            f"out.test:PORT {{\n bind 127.0.0.1\n log\n errors\n forward . 127.0.0.1:{up.port}\n}}\n"
            "corp.test:PORT {\n bind 127.0.0.1\n log\n errors\n forward . 127.0.0.1:1\n}\n"
        )
        with coredns(coredns_binary(), text, tmp_path) as real:
            asked = (
                ("api.out.test", "A"),
                ("none.out.test", "AAAA"),
                ("c.corp.test", "A"),
                ("big.out.test", "SRV"),
            )
            for name, kind in asked:
                dns.query.udp(dns.message.make_query(name, kind), "127.0.0.1", port=real.port, timeout=30)
                real.line(f" {name}. udp ")
            real.line("plugin/errors: 2 c.corp.test.")
            path = tmp_path / "coredns.log"
            path.write_text("\n".join(real.lines) + "\n")
    found = read([str(path)])
    queries = [r for r in found.records if isinstance(r, DnsQuery)]
    assert [(q.qname, q.qtype, q.rcode, q.client, q.transport) for q in queries] == [
        ("api.out.test", "A", "NOERROR", "127.0.0.1", "udp"),
        ("none.out.test", "AAAA", "NXDOMAIN", "127.0.0.1", "udp"),
        (
            "c.corp.test",
            "A",
            "",
            "127.0.0.1",
            "udp",
        ),  # the log plugin writes - where the server makes the SERVFAIL
        ("big.out.test", "SRV", "NOERROR", "127.0.0.1", "udp"),
    ]
    (error,) = [r for r in found.records if isinstance(r, DnsServerError)]
    assert (error.qname, error.error, error.upstream) == ("c.corp.test", "refused", "127.0.0.1:1")


def test_a_loop_ends_the_server_and_is_read_back(tmp_path: Path) -> None:
    from deadhop.evidence import read
    from deadhop.model.observed.dns import DnsServerError

    text = ".:PORT {\n bind 127.0.0.1\n loop\n log\n forward . 127.0.0.1:PORT\n}\n"
    with coredns(coredns_binary(), text, tmp_path) as real:
        real.process.wait()
        said = real.line("plugin/loop: ")
    path = tmp_path / "coredns.log"
    path.write_text(said + "\n")
    (record,) = [r for r in read([str(path)]).records if isinstance(r, DnsServerError)]
    assert (record.error, record.qtype) == ("loop", "HINFO")
