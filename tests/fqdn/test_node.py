"""Answers, identities, one node end to end, options, output."""

from __future__ import annotations

import base64
import json

import pytest

from deadhop.fqdn import flow_words, flows, formats
from deadhop.fqdn.answers import (
    NO_TTL,
    ExtractError,
    MessageDetails,
    bad_answer_reaches_client,
    extract_request,
    extract_response,
)
from deadhop.fqdn.gc import Endpoint
from deadhop.fqdn.identity import FIRST_LOCAL_IDENTITY, NameManager, name_lock, preallocated_label_sets
from deadhop.fqdn.node import Node, QueryOutcome
from deadhop.fqdn.options import (
    FLAGS,
    LATEST,
    V1_13,
    V1_14,
    V1_15,
    V1_16,
    V1_17,
    V1_18,
    VERSIONS,
    Options,
    Version,
    options_for,
    parse_duration,
)
from deadhop.fqdn.policy import OPEN, CIDRAllow, DNSAllow, EgressPolicy, FQDNAllow, PortSpec
from deadhop.fqdn.restore import read_endpoint_state
from deadhop.fqdn.selectors import FQDNSelector
from deadhop.model.dns import RR, Message, Question

CILIUM = FQDNSelector(match_name="cilium.io")


def answer(qname: str, *rrs: RR, rcode: int = 0, qtype: str = "A") -> Message:
    return Message(response=True, rcode=rcode, questions=(Question(qname, qtype),), answers=rrs)


def test_every_address_is_filed_under_the_name_asked_for() -> None:
    message = answer(
        "WWW.example.com.",
        RR("WWW.example.com.", 300, "CNAME", "Cdn.example.net."),
        RR("cdn.EXAMPLE.net.", 60, "A", "192.0.2.1"),
        RR("cdn.example.net.", 90, "A", "192.0.2.2"),
    )
    for version in VERSIONS:
        details = extract_response(message, version)
        assert (details.qname, details.ttl) == ("www.example.com.", 60)
        assert details.ips == ("192.0.2.1", "192.0.2.2")
        assert details.cnames == ("Cdn.example.net.",)
        assert details.learned


def test_unrelated_owners_count_since_1_18() -> None:
    message = answer("foo.", RR("foo.", 60, "A", "192.0.2.1"), RR("bar.", 30, "A", "192.0.2.2"))
    for version in VERSIONS:
        if version < V1_18:
            with pytest.raises(ExtractError):
                extract_response(message, version)
        else:
            assert extract_response(message, version).ips == ("192.0.2.1", "192.0.2.2")
        assert bad_answer_reaches_client(version) is (version[:2] != (1, 17))


def test_what_teaches_nothing() -> None:
    nothing = [
        answer("foo.", rcode=3),
        answer("foo.", RR("foo.", 5, "A", "192.0.2.1"), rcode=2),
        answer("foo.", RR("foo.", 5, "CNAME", "bar.")),
        answer("foo.", RR("foo.", 5, "MX", "10 mx."), qtype="MX"),
    ]
    assert not any(extract_response(message, LATEST).learned for message in nothing)
    assert extract_response(nothing[3], LATEST).ttl == NO_TTL
    assert extract_response(nothing[3], LATEST).answer_types == (15,)
    mapped = extract_response(answer("foo.", RR("foo.", 5, "AAAA", "::ffff:192.0.2.9"), qtype="AAAA"), LATEST)
    assert mapped.ips == ("192.0.2.9",)
    with pytest.raises(ExtractError):
        extract_response(Message(questions=(Question("foo.", "A"),)), LATEST)
    with pytest.raises(ExtractError):
        extract_request(Message())


def test_labels_are_a_union_and_one_identity_each() -> None:
    manager = NameManager(LATEST, policy_cidrs=["192.0.2.0/24", "2001:db8::/32"])
    manager.register(CILIUM)
    manager.register(FQDNSelector(match_pattern="*.io"))
    manager.update(0, "cilium.io.", ["192.0.2.1", "192.0.2.2", "198.51.100.1"], 5)
    manager.update(0, "other.com.", ["192.0.2.3"], 5)
    labels = {"fqdn:cilium.io", "fqdn:*.io", "reserved:world"}
    assert manager.labels_of("192.0.2.1") == labels | {"cidr:192.0.2.0/24"}
    assert manager.labels_of("198.51.100.1") == labels
    assert manager.labels_of("192.0.2.3") is None
    assert manager.identity_of("192.0.2.1") == manager.identity_of("192.0.2.2") == FIRST_LOCAL_IDENTITY
    assert manager.identity_of("198.51.100.1") == FIRST_LOCAL_IDENTITY + 1
    manager.register(FQDNSelector(match_name="other.com"))
    assert manager.names_behind("192.0.2.3", FQDNSelector(match_name="other.com")) == ["other.com."]


def test_selectors_are_counted_by_user() -> None:
    manager = NameManager(LATEST, dual_stack=True)
    manager.register(CILIUM)
    manager.register(CILIUM)
    manager.update(0, "cilium.io.", ["2001:db8::1"], 5)
    manager.unregister(CILIUM)
    assert manager.ipcache() == {"2001:db8::1/128": {"fqdn:cilium.io", "reserved:world-ipv6"}}
    manager.unregister(CILIUM)
    assert manager.ipcache() == {}


def test_one_cidr_identity_for_each_address_until_1_15() -> None:
    manager = NameManager(V1_15)
    manager.register(CILIUM)
    manager.update(0, "cilium.io.", ["192.0.2.1", "192.0.2.2"], 5)
    assert manager.labels_of("192.0.2.1") == {"cidr:192.0.2.1/32", "reserved:world"}
    assert manager.identity_of("192.0.2.1") != manager.identity_of("192.0.2.2")
    assert manager.allows("192.0.2.1", [CILIUM]) == CILIUM


def test_only_news_is_waited_for() -> None:
    manager = NameManager(LATEST)
    manager.register(CILIUM)
    assert manager.update(0, "cilium.io.", ["192.0.2.1"], 5).waits
    assert not manager.update(1, "cilium.io.", ["192.0.2.1"], 5).waits
    assert not manager.update(1, "other.io.", ["192.0.2.1"], 5).waits
    manager.bootstrapped = False
    assert manager.update(2, "cilium.io.", ["192.0.2.1"], 5).waits


def test_preallocated_identities_and_name_locks() -> None:
    assert preallocated_label_sets(CILIUM, ipv4=True, ipv6=False) == [{"fqdn:cilium.io", "reserved:world"}]
    assert len(preallocated_label_sets(CILIUM, ipv4=True, ipv6=True)) == 2
    assert name_lock("", 131) == 0x811C9DC5 % 131
    assert name_lock("a", 1 << 32) == 0x050C5D7E


POLICY = EgressPolicy(
    dns=(DNSAllow(rules=(FQDNSelector(match_pattern="*"),)),),
    fqdns=(FQDNAllow(selectors=(FQDNSelector(match_pattern="*.k8s.intra"),)),),
)


def node(version: Version = LATEST) -> Node:
    made = Node(version, options_for(version)[0], cluster_addresses=["10.0.0.9"])
    made.apply(1, POLICY)
    made.apply(2, POLICY)
    return made


def learn(made: Node, endpoint: int, name: str, ip: str, now: float, ttl: int = 30) -> None:
    assert made.query(endpoint, name) is QueryOutcome.FORWARDED
    made.response(endpoint, extract_response(answer(name, RR(name, ttl, "A", ip)), made.version), now)


def test_what_one_endpoint_learns_opens_the_address_for_the_node() -> None:
    here, there = node(), node()
    assert not here.connect(1, "172.17.0.2")
    learn(here, 1, "echo.k8s.intra.", "172.17.0.2", 0)
    for endpoint in (1, 2):
        allowed = here.connect(endpoint, "172.17.0.2")
        assert allowed
        assert allowed.names == ("echo.k8s.intra.",)
        assert allowed.until == 30
    assert not there.connect(1, "172.17.0.2")
    learn(here, 1, "echo.k8s.intra.", "172.17.0.3", 10)
    learn(there, 1, "echo.k8s.intra.", "172.17.0.3", 10)
    assert here.connect(2, "172.17.0.2")
    assert here.connect(2, "172.17.0.3")
    assert not there.connect(2, "172.17.0.2")


def test_min_ttl_until_1_13_keeps_an_hour() -> None:
    made = node(V1_13)
    learn(made, 1, "echo.k8s.intra.", "172.17.0.2", 0)
    made.dns_gc(60)
    assert made.cache_rows()[0].ttl == 3600
    assert made.connect(1, "172.17.0.2").until == 3600


def test_the_row_turns_from_lookup_to_connection() -> None:
    made = node()
    learn(made, 1, "echo.k8s.intra.", "172.17.0.2", 0)
    learn(made, 1, "echo.k8s.intra.", "172.17.0.3", 0, 600)
    made.dns_gc(60)
    assert [(r.source, r.ttl, r.ips) for r in made.cache_rows()] == [
        ("lookup", 600, ("172.17.0.3",)),
        ("connection", 0, ("172.17.0.2",)),
    ]
    assert {r.source for r in made.global_rows()} == {"global"}
    made.conntrack_gc([(1, "172.17.0.2")], 70, 370)
    made.dns_gc(120)
    assert [r.expiration for r in made.cache_rows() if r.source == "connection"] == [370]
    learn(made, 1, "echo.k8s.intra.", "172.17.0.2", 130)
    assert [r.source for r in made.cache_rows()] == ["lookup", "lookup"]


def test_dns_without_rules_teaches_nothing() -> None:
    made = node()
    made.apply(1, EgressPolicy(dns=(DNSAllow(),), fqdns=POLICY.fqdns))
    assert made.query(1, "echo.k8s.intra.") is QueryOutcome.UNSEEN
    made.apply(1, EgressPolicy(fqdns=POLICY.fqdns))
    assert made.query(1, "echo.k8s.intra.") is QueryOutcome.DROPPED
    made.apply(1, EgressPolicy(dns=(*POLICY.dns, DNSAllow())))
    assert made.query(1, "anything.") is QueryOutcome.FORWARDED
    made.apply(1, EgressPolicy(dns=(DNSAllow(rules=(CILIUM,)),)))
    assert made.query(1, "anything.") is QueryOutcome.REJECTED
    assert made.query(1, "cilium.io", port=5353) is QueryOutcome.DROPPED
    made.apply(1, OPEN)
    assert made.query(1, "anything.") is QueryOutcome.UNSEEN
    assert made.connect(1, "203.0.113.1")
    made.remove_endpoint(2)
    assert made.names.index.match("a.k8s.intra.") == []


def test_pod_addresses_ports_and_cidrs() -> None:
    made = node()
    learn(made, 1, "pod.k8s.intra.", "10.0.0.9", 0)
    assert not made.connect(1, "10.0.0.9")
    web = (PortSpec(443, "TCP"), PortSpec(8000, "TCP", 8010))
    made.apply(1, EgressPolicy(dns=POLICY.dns, fqdns=(FQDNAllow(selectors=(CILIUM,), ports=web),)))
    learn(made, 1, "cilium.io.", "192.0.2.1", 0)
    assert [bool(made.connect(1, "192.0.2.1", port=p)) for p in (443, 80, 8005, 8011)] == [
        True,
        False,
        True,
        False,
    ]
    made.apply(1, EgressPolicy(cidrs=(CIDRAllow(cidr="10.0.0.0/8", excepts=("10.0.0.8/30",)),)))
    assert made.connect(1, "10.1.0.1").cidr == "10.0.0.0/8"
    assert not made.connect(1, "10.0.0.9")
    assert not made.connect(1, "2001:db8::1")


def test_defaults_by_version() -> None:
    assert [FLAGS["tofqdns-min-ttl"].default(v) for v in VERSIONS] == [3600] * 3 + [0] * 7
    assert [FLAGS["tofqdns-endpoint-max-ip-per-hostname"].default(v) for v in VERSIONS] == [50] * 6 + [
        1000
    ] * 4
    assert FLAGS["dnsproxy-lock-count"].default(V1_13) is None
    assert [FLAGS["dnsproxy-lock-count"].default(v) for v in (V1_14, V1_15, V1_16)] == [128, 131, 131]
    assert [FLAGS["standalone-dns-proxy-server-port"].default(v) for v in VERSIONS[6:]] == [
        None,
        40045,
        10095,
        10095,
    ]
    options, complaints = options_for(
        V1_17,
        {
            "tofqdns-min-ttl": "60",
            "tofqdns-idle-connection-grace-period": "1m30s",
            "tofqdns-enable-dns-compression": "no",
        },
    )
    assert (options.min_ttl, options.idle_connection_grace_period) == (60, 90)
    assert options.enable_dns_compression
    assert complaints == (("tofqdns-enable-dns-compression", "not a boolean: 'no'"),)
    assert Version.parse("v1.18.5-rc.0") == (1, 18, 5)
    assert str(Version(1, 18, 5)) == "1.18.5"
    for text in ("", "1", "one.two"):
        with pytest.raises(ValueError):
            Version.parse(text)


@pytest.mark.parametrize(
    "text, seconds", [("0", 0), ("100ms", 0.1), ("1h30m", 5400), ("2.5s", 2.5), ("0s", 0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "5x", "s", "1m x"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


def test_state_file() -> None:
    state = {
        "ID": 725,
        "K8sPodName": "web-0",
        "K8sNamespace": "shop",
        "IPv4": "10.0.1.2",
        "OpLabels": {"OrchestrationIdentity": {"k8s:app=web": {}}},
        "SecLabel": {"id": 26450},
        "DNSRulesV2": {
            "17891381": [{"Re": "^(?:a[.]io[.])$", "IPs": {"10.0.0.1": {}}}],
            "9": [],
            "x": [],
            "53": [{"Re": "(x+)+"}],
        },
        "DNSHistory": [{"fqdn": "a.io."}],
        "DNSZombies": {"deletes": {}},
    }
    text = json.dumps(state)
    read = read_endpoint_state(text)
    assert (read.id, read.pod, read.identity, read.labels) == (725, "web-0", 26450, ("k8s:app=web",))
    assert [(str(key), len(rules)) for key, rules in read.rules] == [("UDP/53", 1)]
    assert len(read.complaints) == 2
    header = f"/*\n * CILIUM_BASE64_1.15.0:{base64.b64encode(text.encode()).decode()}\n */\n"
    assert read_endpoint_state(header) == read
    for bad in ("", "[]", "{", "CILIUM_BASE64_:!!!!"):
        with pytest.raises(ValueError):
            read_endpoint_state(bad)


def test_summaries() -> None:
    details = MessageDetails(qname="foo.", qtypes=(1, 28), response=True, ttl=NO_TTL)
    assert flows.dns_summary(details) == "DNS Answer  TTL: 4294967295 (Proxy foo. A,AAAA)"
    assert flows.dns_summary(details, "agent") == "DNS Answer  TTL: 4294967295 (Query foo. A,AAAA)"
    assert flows.dns_summary(MessageDetails(qname="foo.", qtypes=(99,))) == "DNS Query foo. Unknown"
    for rcode, text in ((1, "Format Error"), (2, "Server Failure"), (5, "Query Refused"), (11, "Unknown")):
        refused = MessageDetails(qname="foo.", qtypes=(1,), response=True, rcode=rcode, ttl=0)
        assert flows.dns_summary(refused) == f"DNS Answer RCode: {text} TTL: 0 (Proxy foo. A)"
    line = flows.monitor_line(
        MessageDetails(qname="cilium.io.", qtypes=(1,), response=True, ttl=30, ips=("1.2.3.4",)),
        source="0 ([k8s:k8s-app=kube-dns])",
        destination="725 ([k8s:app=x])",
        source_identity=9313,
        destination_identity=26450,
        verdict="Forwarded",
    )
    assert line.endswith("verdict Forwarded DNS proxy: cilium.io. A TTL: 30 Answer: '1.2.3.4'")


def test_compact_lines() -> None:
    flow = flows.Flow(
        time="2024-10-16T10:28:45.5995Z",
        node_name="n1",
        verdict="FORWARDED",
        ip=flows.IPPair("10.0.0.1", "2001:db8::1"),
        l4=flows.Layer4(tcp=flows.Ports(40000, 443)),
        source=flows.FlowEndpoint(namespace="shop", pod_name="web-0", identity=26450),
        destination=flows.FlowEndpoint(identity=2),
        event_type=flows.EventType(flow_words.EVENT_POLICY_VERDICT),
        traffic_direction="EGRESS",
        policy_match_type=1,
        is_reply=False,
        summary="TCP Flags: SYN",
    )
    assert flows.compact_line(flow, node=True) == (
        "Oct 16 10:28:45.599 [n1]: shop/web-0:40000 (ID:26450) -> [2001:db8::1]:443 (world) "
        "policy-verdict:L3-Only EGRESS ALLOWED (TCP Flags: SYN)"
    )
    named = flows.decode_line(
        '{"flow":{"IP":{"source":"1.1.1.1"},"source_names":["a.io","b.io"],"verdict":"ERROR","odd":1}}'
    )
    assert flows.compact_line(named.flow) == "N/A: a.io,b.io (unknown) <>  (unknown) UNKNOWN ERROR ()"
    assert flows.encode_line(flows.FlowLine(flows.Flow(summary="<&>"))) == (
        '{"flow":{"Summary":"\\u003c\\u0026\\u003e"}}'
    )


def test_cache_list() -> None:
    row = formats.CacheRow(endpoint=1, source="connection", fqdn="a.", ttl=0, expiration=0, ips=("1.2.3.4",))
    assert formats.cache_list([]) == ["Endpoint   Source   FQDN   TTL   ExpirationTime   IPs   "]
    assert (
        formats.cache_list([row])[1]
        == "1          connection   a.     0     1970-01-01T00:00:00.000Z   1.2.3.4   "
    )
    keys = list(json.loads(formats.cache_list_json([row]))[0])
    assert keys == ["endpoint-id", "expiration-time", "fqdn", "ips", "lookup-time", "source"]


def test_policy_selectors() -> None:
    labels = (
        formats.Label(formats.POLICY_NAME, "k8s", "dns"),
        formats.Label(formats.POLICY_NAMESPACE, "k8s", "shop"),
    )
    rows = [
        formats.SelectorRow(selector=str(CILIUM), users=1, identities=(16777217, 16777218), labels=labels),
        formats.SelectorRow(selector="&LabelSelector{}", users=2),
    ]
    assert [line.rstrip() for line in formats.policy_selectors(rows, LATEST)] == [
        "SELECTOR                               LABELS     USERS   IDENTITIES",
        "&LabelSelector{}                                  2",
        "MatchName: cilium.io, MatchPattern:    shop/dns   1       16777217",
        "                                                          16777218",
    ]
    assert (
        formats.policy_selectors(rows, V1_14)[0]
        == "SELECTOR                               USERS   IDENTITIES"
    )
    assert "k8s:io.cilium.k8s.policy.name=dns" in formats.policy_selectors(rows, LATEST, verbose=True)[2]
    assert json.loads(formats.policy_selectors_json(rows))[1]["labels"][0]["source"] == "k8s"


def test_other_lists() -> None:
    lines = formats.endpoint_list([formats.EndpointRow(id=7, labels=("k8s:b=2", "k8s:a=1"), ipv4="10.0.0.1")])
    assert lines[0].startswith("ENDPOINT   POLICY (ingress)   POLICY (egress)   IDENTITY")
    assert lines[1].split() == ["ENFORCEMENT", "ENFORCEMENT"]
    assert lines[2].split() == ["7", "Disabled", "Disabled", "0", "k8s:a=1", "10.0.0.1", "ready"]
    assert lines[3].split() == ["k8s:b=2"]
    row = formats.IPRow(cidr="192.0.2.1/32", identity=16777217, labels=("fqdn:a.io", "reserved:world"))
    assert [line.split() for line in formats.ip_list([row])][1:] == [
        ["192.0.2.1/32", "fqdn:a.io", "generated"],
        ["reserved:world"],
    ]
    assert formats.ip_list([row], numeric=True)[1].split() == ["192.0.2.1/32", "16777217", "generated"]
    values = {v: formats.ipcache_value(formats.IPCacheRow(prefix="::/0", identity=2), v) for v in VERSIONS}
    plain = "identity=2 encryptkey=0 tunnelendpoint=0.0.0.0"
    assert values[V1_17] == values[LATEST] == f"{plain} flags=<none>"
    assert values[V1_16] == f"{plain}, flags=<none>"
    assert values[V1_15] == values[VERSIONS[0]] == plain
    assert values[V1_14] == f"{plain} nodeid=0x0"


def test_endpoint_uses_the_options() -> None:
    endpoint = Endpoint(1, LATEST, Options(min_ttl=9, max_ips_per_hostname=3))
    assert (endpoint.history.min_ttl, endpoint.zombies.per_host_limit) == (9, 3)
