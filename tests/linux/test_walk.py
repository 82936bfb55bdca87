"""The Linux hop reads like the manual: given this namespace, a packet ends like this, because of that."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from deadhop.hops import linux
from deadhop.hops.linux.walk import walk_packet
from deadhop.model.drop_reasons import REASONS
from deadhop.model.net import Address, Link, Listing, NextHop, Route, Rule, Sysctl
from deadhop.model.netfilter import ConntrackEntry, NftChain, NftRule, NftRuleset, NftTable
from deadhop.model.netns import NetNamespace, assemble, default_rules
from deadhop.model.packet import PacketAnswer, PacketFlow
from deadhop.model.record import Record

UP = ("BROADCAST", "MULTICAST", "UP", "LOWER_UP")


def node(*records: Record, **sysctls: int) -> NetNamespace:
    """A node in Cilium's shape: an uplink, ``cilium_host``, and a pod's device without an address."""
    base: list[Record] = [
        Link(ifname="lo", mtu=65536, flags=("LOOPBACK", "UP", "LOWER_UP"), link_type="loopback"),
        Link(ifname="eth0", mtu=9001, flags=UP),
        Link(ifname="cilium_host", mtu=9001, flags=UP),
        Link(ifname="lxc0", mtu=1500, flags=UP),
        Address(ifname="eth0", local="192.168.7.1", prefixlen=24, family=4),
        Address(ifname="cilium_host", local="10.0.0.150", prefixlen=32, family=4),
        Route(family=4, dst="192.168.7.0/24", legs=(NextHop(dev="eth0"),), scope="link"),
        Route(family=4, dst="10.0.0.0/24", legs=(NextHop(dev="cilium_host", gateway="10.0.0.150"),)),
        Route(family=4, dst="10.0.0.63", legs=(NextHop(dev="lxc0"),), table="pods", scope="link"),
        Route(
            family=4,
            dst="10.0.0.150",
            type="local",
            table="local",
            legs=(NextHop(dev="cilium_host"),),
            scope="host",
        ),
        *(
            Sysctl(key=f"net.ipv4.conf.{dev}.forwarding", value="1")
            for dev in ("eth0", "cilium_host", "lxc0")
        ),
        *(Sysctl(key=key.replace("__", "."), value=str(value)) for key, value in sysctls.items()),
        Listing(what="sysctls"),
        Listing(what="routes4"),
        *default_rules(4),
        NftRuleset(),
    ]
    return assemble([*base, *records], "node")


REPLY = PacketFlow(in_dev="lxc0", src="10.0.0.63", dst="10.0.0.150", proto="tcp", sport=8080, dport=40000)


@pytest.mark.parametrize(
    ("every", "own", "reason"),
    [(0, 0, ""), (0, 1, "IP_RPFILTER"), (0, 2, "IP_RPFILTER"), (2, 0, "IP_RPFILTER"), (1, 2, "IP_RPFILTER")],
)
def test_rp_filter_drops_the_pods_reply_even_when_loose(every: int, own: int, reason: str) -> None:
    """Specification §2: a device without an address fails loose mode when the reverse route is another device's."""
    ns = node(net__ipv4__conf__all__rp_filter=every, net__ipv4__conf__lxc0__rp_filter=own)
    answer = walk_packet(ns, REPLY)
    assert (str(answer.disposition), answer.reason) == (("dropped", reason) if reason else ("delivered", ""))


def test_an_endpoint_route_or_the_sysctl_mends_it() -> None:
    ns = node(net__ipv4__conf__lxc0__rp_filter=2)
    assert walk_packet(ns, REPLY).reason == "IP_RPFILTER"
    route = Route(family=4, dst="10.0.0.63", legs=(NextHop(dev="lxc0"),), scope="link")
    assert str(walk_packet(ns.with_route(route), REPLY).disposition) == "delivered"
    assert (
        str(walk_packet(ns.with_sysctl("net.ipv4.conf.lxc0.rp_filter", 0), REPLY).disposition) == "delivered"
    )
    assert walk_packet(ns, REPLY).reason == "IP_RPFILTER"


def test_the_step_names_route_and_sysctl() -> None:
    source_line = node(net__ipv4__conf__lxc0__rp_filter=1)
    step = walk_packet(source_line, REPLY).steps[-1]
    assert step.function == "fib_validate_source"
    assert step.ok is False
    assert "rp_filter" in step.decided_by
    assert "10.0.0.0/24 via 10.0.0.150 dev cilium_host" in step.text


BIG = PacketFlow(
    in_dev="eth0", src="192.168.7.9", dst="10.0.0.63", sport=53, dport=4000, length=2379, df=True
)
TO_POD = Route(family=4, dst="10.0.0.63", legs=(NextHop(dev="lxc0"),), scope="link")


def test_a_large_answer_with_df_dies_in_ip_forward() -> None:
    answer = walk_packet(node(TO_POD), BIG)
    assert (str(answer.disposition), answer.reason, answer.function) == (
        "rejected",
        "PKT_TOO_BIG",
        "ip_forward",
    )
    assert answer.icmp is not None
    assert (answer.icmp.type, answer.icmp.code, answer.icmp.mtu) == (3, 4, 1500)
    assert "Ip:FragFails" in answer.counters


def test_a_larger_mtu_lets_it_through() -> None:
    answer = walk_packet(node(TO_POD).with_mtu("lxc0", 9001), BIG)
    assert answer.out == (("lxc0", "10.0.0.63"),)


def filtered(hook: str, *expr: object) -> NftRuleset:
    return NftRuleset(
        tables=(NftTable(family="inet", name="t"),),
        chains=(NftChain(family="inet", table="t", name="c", type="filter", hook=hook),),
        rules=(NftRule(family="inet", table="t", chain="c", handle=7, expr=expr),),
    )


def test_mtu_comes_before_the_forward_hook() -> None:
    ns = node(TO_POD).with_nft(filtered("forward", {"drop": None}))
    assert walk_packet(ns, BIG).reason == "PKT_TOO_BIG"


def test_a_blocked_icmp_error_makes_the_loss_silent() -> None:
    blocked = ({"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "icmp"}}, {"drop": None})
    answer = walk_packet(node(TO_POD).with_nft(filtered("output", *blocked)), BIG)
    assert (str(answer.disposition), answer.reason, answer.icmp) == ("dropped", "PKT_TOO_BIG", None)
    assert "dies on its way back" in answer.steps[-1].text
    assert "handle 7" in answer.steps[-1].text


def test_an_unsupported_match_is_harmless_where_both_ways_end_alike() -> None:
    odd = {"match": {"op": "==", "left": {"meta": {"key": "skynet"}}, "right": 1}}
    same = node(TO_POD).with_nft(filtered("forward", odd, {"accept": None}))
    small = PacketFlow(in_dev="eth0", src="192.168.7.9", dst="10.0.0.63", length=100)
    assert str(walk_packet(same, small).disposition) == "forwarded"
    answer = walk_packet(node(TO_POD).with_nft(filtered("forward", odd, {"drop": None})), small)
    assert str(answer.disposition) == "unknown"
    assert "skynet" in answer.unknown
    assert {str(a.disposition) for a in answer.alternatives} == {"forwarded", "dropped"}


def test_an_unsupported_statement_is_unknown_and_named() -> None:
    ns = node(TO_POD).with_nft(filtered("forward", {"queue": {"num": 1}}))
    answer = walk_packet(ns, PacketFlow(in_dev="eth0", src="192.168.7.9", dst="10.0.0.63"))
    assert (str(answer.disposition), answer.unknown) == ("unknown", "nft statement queue")


def test_missing_evidence_is_unknown_not_default() -> None:
    ns = node(TO_POD)
    small = PacketFlow(in_dev="eth0", src="192.168.7.9", dst="10.0.0.63", length=100)
    assert "netfilter" in walk_packet(ns.replace(nft=None), small).unknown
    assert "ip rule" in walk_packet(ns.replace(rules4=None), small).unknown
    assumed = walk_packet(ns.replace(rules4=None, nft=None).assuming_defaults(), small)
    assert str(assumed.disposition) == "forwarded"
    assert len(assumed.assumed) == 3 or len(assumed.assumed) == 2
    partial = ns.replace(sysctls={}, sysctls_complete=False)
    assert "forwarding" in walk_packet(partial, small).unknown


def test_main_beats_local_by_prefix_until_the_first_rule() -> None:
    """Specification §4.9."""
    wide = Route(
        family=4, dst="203.0.113.0/25", type="local", table="local", legs=(NextHop(dev="lo"),), scope="host"
    )
    host = Route(family=4, dst="203.0.113.9", legs=(NextHop(dev="lxc0"),), scope="link")
    ns = node(wide, host)
    flow = PacketFlow(in_dev="eth0", src="192.168.7.9", dst="203.0.113.9")
    assert str(walk_packet(ns, flow).disposition) == "forwarded"
    split = ns.with_rule(Rule(family=4, priority=100, fwmark=9, table="pods"))
    assert str(walk_packet(split, flow).disposition) == "delivered"


def test_multipath_is_a_set() -> None:
    both = Route(
        family=4,
        dst="198.51.100.0/24",
        legs=(NextHop(dev="eth0", gateway="192.168.7.4"), NextHop(dev="lxc0", gateway="10.0.0.63")),
    )
    answer = walk_packet(node(both), PacketFlow(in_dev="cilium_host", src="10.0.0.9", dst="198.51.100.1"))
    assert answer.out == (("eth0", "192.168.7.4"), ("lxc0", "10.0.0.63"))
    line = answer.line("x")
    assert line["out_dev"] == ["eth0", "lxc0"]
    assert line["next_hop"] == ["192.168.7.4", "10.0.0.63"]


def translated(answer: PacketAnswer) -> list[str]:
    return [step.text for step in answer.steps if step.decided_by == "NAT"]


def test_a_known_connection_is_translated_both_ways() -> None:
    entry = ConntrackEntry(
        family=4,
        proto=17,
        original=("192.168.7.9", "10.96.0.10", 4000, 53),
        reply=("10.0.0.63", "192.168.7.9", 53, 4000),
    )
    ns = node(TO_POD, entry).with_nft(
        filtered(
            "forward",
            {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "established"}},
            {"accept": None},
        )
    )
    there = PacketFlow(in_dev="eth0", src="192.168.7.9", dst="10.96.0.10", sport=4000, dport=53)
    answer = walk_packet(ns, there)
    assert answer.out == (("lxc0", "10.0.0.63"),)
    assert translated(answer) == ["192.168.7.9 > 10.96.0.10 becomes 192.168.7.9 > 10.0.0.63"]
    back = PacketFlow(in_dev="lxc0", src="10.0.0.63", dst="192.168.7.9", sport=53, dport=4000)
    answer = walk_packet(ns, back)
    assert translated(answer) == ["10.0.0.63 > 192.168.7.9 becomes 10.96.0.10 > 192.168.7.9"]


def test_every_reason_is_in_the_table() -> None:
    folder = Path(linux.__file__).parent
    text = "\n".join(path.read_text() for path in folder.rglob("*.py"))
    used = set(re.findall(r'(?:walk\.drop\(|reason=|_SOURCE, RPFILTER = )\s*"([A-Z_0-9]+)"', text))
    assert used
    assert used <= set(REASONS)


def test_early_demux_spares_an_open_connection_the_reverse_path_check() -> None:
    strict = {"net.ipv4.conf.lxc0.rp_filter": 1, "net.ipv4.conf.all.rp_filter": 0}
    settings = [Sysctl(key=key, value=str(value)) for key, value in strict.items()]
    ns = node(*settings)
    waited_for = msgspec.structs.replace(REPLY, demuxed=True)
    assert walk_packet(ns, REPLY).reason == "IP_RPFILTER"
    assert walk_packet(ns, waited_for).disposition == "delivered"
    switched_off = ns.with_sysctl("net.ipv4.ip_early_demux", 0)
    assert walk_packet(switched_off, waited_for).reason == "IP_RPFILTER"


def test_gso_is_compared_by_its_segments() -> None:
    ns = node(Rule(family=4, priority=100, table="pods"))
    big = PacketFlow(
        in_dev="eth0", src="192.168.7.9", dst="10.0.0.63", proto="tcp", sport=1, dport=2, length=9000, df=True
    )
    assert walk_packet(ns, big).reason == "PKT_TOO_BIG"
    assert walk_packet(ns, msgspec.structs.replace(big, gso=1500)).disposition == "forwarded"
    assert walk_packet(ns, msgspec.structs.replace(big, gso=1501)).reason == "PKT_TOO_BIG"


def test_a_full_conntrack_table_leaves_a_new_connection_open_and_spares_a_known_one() -> None:
    tracking = NftRuleset(
        tables=(NftTable(family="ip", name="t"),),
        chains=(NftChain(family="ip", table="t", name="c", type="filter", hook="forward", prio=0, policy="accept"),),
        rules=(NftRule(family="ip", table="t", chain="c", handle=1, expr=({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "established"}}, {"accept": None})),),
    )  # fmt: skip
    full = {"net.netfilter.nf_conntrack_max": 64, "net.netfilter.nf_conntrack_count": 64}
    ns = node(
        Rule(family=4, priority=100, table="pods"), *(Sysctl(key=k, value=str(v)) for k, v in full.items())
    ).with_nft(tracking)
    packet = PacketFlow(in_dev="eth0", src="192.168.7.9", dst="10.0.0.63", sport=1, dport=2, length=100)
    answer = walk_packet(ns, packet)
    assert answer.disposition == "unknown"
    assert "full conntrack table" in answer.unknown
    assert {a.reason for a in answer.alternatives} == {"", "NETFILTER_DROP"}
    assert walk_packet(ns, msgspec.structs.replace(packet, ct_state="established")).disposition == "forwarded"
    assert (
        walk_packet(ns.with_sysctl("net.netfilter.nf_conntrack_count", 63), packet).disposition == "forwarded"
    )


@pytest.mark.parametrize(
    ("mode", "learned", "length", "ends", "df"),
    [
        ("want", 0, 2379, "forwarded", True),
        ("want", 1500, 2379, "forwarded", False),  # it fragments by itself from the second answer on
        ("dont", 0, 2379, "forwarded", False),
        ("do", 1500, 2379, "dropped", None),
        ("do", 0, 2379, "forwarded", True),
        ("probe", 1500, 2379, "forwarded", True),  # what was learned is ignored
        ("interface", 1500, 2379, "forwarded", False),
        ("interface", 0, 9100, "dropped", None),
        ("omit", 0, 9100, "forwarded", False),
    ],
)
def test_the_senders_path_mtu_discovery(
    mode: str, learned: int, length: int, ends: str, df: bool | None
) -> None:
    """Specification §1, measured: who sets DF, who fragments, who is refused with EMSGSIZE."""
    ns = node(
        Route(
            family=4,
            dst="192.168.7.1",
            type="local",
            table="local",
            legs=(NextHop(dev="eth0"),),
            scope="host",
        )
    )
    flow = PacketFlow(
        src="192.168.7.1", dst="192.168.7.9", sport=53, dport=4000, length=length, pmtudisc=mode, pmtu=learned
    )
    answer = walk_packet(ns, flow)
    assert str(answer.disposition) == ends
    assert answer.errno == ("EMSGSIZE" if ends == "dropped" else "")
    fragments = any(step.detail.get("fragments") for step in answer.steps)
    if df is not None:
        assert fragments is ((length > (learned or 9001) and mode in ("want", "dont")) or length > 9001)
