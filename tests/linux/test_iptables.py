"""iptables-save as a node shows it: kube-proxy's chains, a policy, marks, both backends at once."""

from __future__ import annotations

import pytest

from deadhop.evidence.namespace import read
from deadhop.hops.linux.walk import walk_packet
from deadhop.model.net import Address, Link, Listing, NextHop, Route, Sysctl
from deadhop.model.netns import NetNamespace, assemble, default_rules
from deadhop.model.packet import PacketFlow

UP = ("BROADCAST", "MULTICAST", "UP", "LOWER_UP")

SERVICES = """\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:SERVICES - [0:0]
:SVC - [0:0]
:SEP-A - [0:0]
:SEP-B - [0:0]
-A PREROUTING -m comment --comment "service portals" -j SERVICES
-A SERVICES -d 10.96.0.10/32 -p udp -m comment --comment "kube dns" -m udp --dport 53 -j SVC
-A SVC -m statistic --mode random --probability 0.50000000000 -j SEP-A
-A SVC -j SEP-B
-A SEP-A -p udp -m udp -j DNAT --to-destination 10.2.0.4:5353
-A SEP-B -p udp -m udp -j DNAT --to-destination 10.2.0.5:5353
COMMIT
"""
FILTER = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -s 10.1.0.0/24 -p udp -j ACCEPT
-A FORWARD -p tcp -m multiport --dports 22,80:90 -j REJECT --reject-with icmp-admin-prohibited
-A FORWARD -p icmp -m u32 --u32 "0=0" -j ACCEPT
COMMIT
"""


def node(save: str, name: str = "iptables-save.txt") -> NetNamespace:
    records = [
        *(Link(ifname=dev, mtu=1500, flags=UP) for dev in ("eth0", "pods")),
        Address(ifname="eth0", local="10.1.0.1", prefixlen=24, family=4),
        Address(ifname="pods", local="10.2.0.1", prefixlen=24, family=4),
        Route(family=4, dst="10.1.0.0/24", legs=(NextHop(dev="eth0"),), scope="link"),
        Route(family=4, dst="10.2.0.0/24", legs=(NextHop(dev="pods"),), scope="link"),
        *(Sysctl(key=f"net.ipv4.conf.{dev}.forwarding", value="1") for dev in ("eth0", "pods")),
        Listing(what="sysctls"),
        Listing(what="routes4"),
        *default_rules(4),
        *read({name: save.encode()}),
    ]
    return assemble(records, "node")


def packet(**fields: object) -> PacketFlow:
    base: dict[str, object] = {
        "in_dev": "eth0",
        "src": "10.1.0.9",
        "dst": "10.2.0.9",
        "sport": 4000,
        "dport": 53,
    }
    return PacketFlow(**(base | fields))  # type: ignore[arg-type]


def test_a_service_leads_to_each_of_its_endpoints() -> None:
    answer = walk_packet(node(SERVICES + FILTER), packet(dst="10.96.0.10"))
    assert answer.out == (("pods", "10.2.0.4"), ("pods", "10.2.0.5"))


@pytest.mark.parametrize(
    ("fields", "disposition", "code"),
    [
        ({"proto": "udp"}, "forwarded", None),
        ({"proto": "udp", "src": "10.1.1.9"}, "dropped", None),
        ({"proto": "tcp", "dport": 85}, "rejected", 13),
        ({"proto": "tcp", "dport": 443}, "dropped", None),
        ({"proto": "tcp", "dport": 443, "ct_state": "established"}, "forwarded", None),
    ],
)
def test_the_forward_chain(fields: dict[str, object], disposition: str, code: int | None) -> None:
    answer = walk_packet(node(FILTER), packet(**fields))
    assert str(answer.disposition) == disposition
    assert (answer.icmp.code if answer.icmp else None) == code


def test_an_unknown_match_is_an_open_question_under_its_name() -> None:
    answer = walk_packet(node(FILTER), packet(proto="icmp"))
    assert str(answer.disposition) == "unknown"
    assert "u32" in answer.unknown


def test_the_rule_is_named_with_its_line() -> None:
    step = walk_packet(node(FILTER), packet(proto="tcp", dport=22)).steps[-1]
    assert step.decided_by == "iptables filter FORWARD rule 3"
    assert [str(source) for source in step.sources] == ["iptables-save.txt:7"]


def test_leftover_legacy_rules_run_beside_the_others() -> None:
    legacy = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -i eth0 -o pods -j DROP\nCOMMIT\n"
    both = [*read({"iptables-save.txt": FILTER.encode(), "iptables-legacy-save.txt": legacy.encode()})]
    ns = node("").replace(iptables=assemble(both).iptables)
    assert walk_packet(ns, packet()).reason == "NETFILTER_DROP"
    alone = node(FILTER)
    assert str(walk_packet(alone, packet()).disposition) == "forwarded"


def test_marks() -> None:
    save = (
        "*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j MARK --set-xmark 0x200/0xf00\n"
        "-A PREROUTING -m mark --mark 0x200/0xf00 -j MARK --or-mark 0x1\nCOMMIT\n"
        "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m mark ! --mark 0x201 -j DROP\nCOMMIT\n"
    )
    assert str(walk_packet(node(save), packet(mark=0)).disposition) == "forwarded"
    assert str(walk_packet(node(save), packet(mark=0x1000)).disposition) == "dropped"
