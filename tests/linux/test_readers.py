"""Readers of a namespace's folder are total: any bytes give records, never an exception."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from deadhop.evidence.namespace import READERS, load, read
from deadhop.hops.linux.walk import walk_packet
from deadhop.model.net import Route, Rule
from deadhop.model.netfilter import ConntrackEntry, IptablesTable
from deadhop.model.packet import PacketFlow
from deadhop.model.record import Problem, Record

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 99999) | st.text(max_size=8) | st.sampled_from(["default", "10.0.0.0/8", "d0", "all", "0x1"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["dst", "dev", "gateway", "table", "type", "nexthops", "metrics", "mtu", "priority", "src", "srclen", "fwmark",
             "ifname", "addr_info", "local", "prefixlen", "flags", "id", "group", "nftables", "rule", "chain", "expr",
             "family", "name", "hook", "prio", "match", "left", "right", "op", "payload", "protocol", "field", "set", "elem"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip
FLOW = PacketFlow(in_dev="d0", src="10.0.0.9", dst="10.1.0.9")


@given(name=st.sampled_from(sorted(READERS)), data=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes(name: str, data: bytes) -> None:
    for record in read({name: data}):
        assert isinstance(record, Record)


@given(
    files=st.dictionaries(
        st.sampled_from([n for n in READERS if n.endswith(".json")]), json_values, max_size=4
    )
)
@settings(max_examples=200, deadline=None)
def test_any_json_can_be_walked(files: dict[str, object]) -> None:
    ns, problems = load({name: json.dumps(value).encode() for name, value in files.items()})
    assert all(isinstance(problem, Problem) for problem in problems)
    answer = walk_packet(ns.assuming_defaults(), FLOW)
    assert str(answer.disposition) == "unknown"


@given(
    lines=st.lists(st.text(alphabet="-AjsdpmACEPTFORWAD.0123456789/ \"'*:COMMIT!", max_size=40), max_size=6)
)
@settings(max_examples=150, deadline=None)
def test_any_iptables_save(lines: list[str]) -> None:
    text = (
        "*filter\n:FORWARD ACCEPT [0:0]\n" + "\n".join(f"-A FORWARD {line}" for line in lines) + "\nCOMMIT\n"
    )
    ns, _ = load({"iptables-save.txt": text.encode()})
    walk_packet(ns, FLOW)


def one(name: str, text: str, kind: type[Record]) -> Record:
    (found,) = [record for record in read({name: text.encode()}) if isinstance(record, kind)]
    return found


def test_a_route_with_two_legs() -> None:
    text = json.dumps(
        [{"dst": "10.9.0.0/16", "table": "100", "metrics": [{"mtu": 1400}], "flags": [],
          "nexthops": [{"gateway": "10.0.0.4", "dev": "d0", "weight": 2, "flags": ["onlink"]}, {"dev": "d1", "weight": 1, "flags": []}]}]
    )  # fmt: skip
    route = one("ip-route.json", text, Route)
    assert isinstance(route, Route)
    assert str(route) == "10.9.0.0/16 via 10.0.0.4 dev d0 dev d1 table 100 mtu 1400"
    assert route.legs[0].weight == 2
    assert str(route.source) == "ip-route.json#0"


def test_a_rule_keeps_an_unknown_selector() -> None:
    rule = one("ip-rule.json", '[{"priority": 5, "src": "all", "table": "main", "flowlabel": 9}]', Rule)
    assert isinstance(rule, Rule)
    assert rule.unsupported == ("flowlabel",)


def test_a_truncated_table_is_a_problem() -> None:
    records = list(read({"iptables-save.txt": b"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\n"}))
    assert [record.kind for record in records if isinstance(record, Problem)] == ["truncated"]
    assert not any(isinstance(record, IptablesTable) for record in records)


def test_a_conntrack_line() -> None:
    line = (
        "udp      17 28 src=10.0.0.9 dst=10.96.0.10 sport=4000 dport=53 [UNREPLIED] "
        "src=10.1.0.5 dst=10.0.0.9 sport=53 dport=4000 mark=0 use=1\n"
    )
    entry = one("conntrack.txt", line, ConntrackEntry)
    assert isinstance(entry, ConntrackEntry)
    assert entry.original == ("10.0.0.9", "10.96.0.10", 4000, 53)
    assert entry.reply[0] == "10.1.0.5"
    assert entry.status == ("UNREPLIED",)
