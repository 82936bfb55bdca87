"""How many packets per second one core walks through the Linux model: ``python bench/linux_walk.py``.

The namespace is a router with five devices, policy rules, four tables and a small nftables ruleset; the packets are
of both IP versions and end in every way.
"""

from __future__ import annotations

import itertools
import time

from deadhop.hops.linux.walk import walk_packet
from deadhop.model.net import Address, Link, NextHop, Route, Rule, Sysctl
from deadhop.model.netfilter import NftChain, NftRule, NftRuleset, NftTable
from deadhop.model.netns import NetNamespace, default_rules
from deadhop.model.packet import PacketFlow

DEVICES = [f"d{i}" for i in range(5)]
UP = ("BROADCAST", "MULTICAST", "UP", "LOWER_UP")


def world() -> NetNamespace:
    """The router."""
    links = [Link(ifname="lo", mtu=65536, flags=("LOOPBACK", "UP", "LOWER_UP"), link_type="loopback")]
    addresses = [Address(ifname="lo", local="127.0.0.1", prefixlen=8, family=4, scope="host")]
    four: list[Route] = []
    six: list[Route] = []
    sysctls = {"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"}
    for index, name in enumerate(DEVICES):
        links.append(Link(ifname=name, mtu=1500 if index else 9000, flags=UP, link_type="ether", kind="veth"))
        addresses.append(Address(ifname=name, local=f"10.{index}.0.1", prefixlen=24, family=4))
        addresses.append(Address(ifname=name, local=f"fd00:{index}::1", prefixlen=64, family=6))
        leg = (NextHop(dev=name),)
        four.append(Route(family=4, dst=f"10.{index}.0.0/24", scope="link", legs=leg))
        four.append(
            Route(family=4, dst=f"10.{index}.0.1", type="local", table="local", scope="host", legs=leg)
        )
        six.append(Route(family=6, dst=f"fd00:{index}::/64", legs=leg, metric=256))
        six.append(Route(family=6, dst=f"fd00:{index}::1", type="local", table="local", legs=leg, metric=0))
        sysctls |= {
            f"net.ipv4.conf.{name}.forwarding": "1",
            f"net.ipv4.conf.{name}.rp_filter": str(index % 3),
        }
    for index in range(200):
        hop = (NextHop(dev=DEVICES[index % 5], gateway=f"10.{index % 5}.0.{index % 200 + 2}"),)
        four.append(
            Route(
                family=4,
                dst=f"172.{16 + index % 16}.{index}.0/24",
                table=("main", "100")[index % 2],
                legs=hop,
            )
        )
    four.append(Route(family=4, dst="192.168.0.0/16", type="unreachable"))
    rules = (
        Rule(family=4, priority=10, fwmark=1, table="100"),
        Rule(family=4, priority=20, src="10.3.0.0/24", iif="d3", table="100"),
        *default_rules(4),
    )
    match = {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 22}}
    nft = NftRuleset(
        tables=(NftTable(family="inet", name="t"),),
        chains=(NftChain(family="inet", table="t", name="f", type="filter", hook="forward"),),
        rules=(NftRule(family="inet", table="t", chain="f", expr=(match, {"drop": None})),),
    )
    return NetNamespace(
        name="bench",
        links=tuple(links),
        addresses=tuple(addresses),
        routes4=tuple(four),
        routes6=tuple(six),
        rules4=rules,
        rules6=default_rules(6),
        sysctls={key: Sysctl(key=key, value=value) for key, value in sysctls.items()},
        sysctls_complete=True,
        nft=nft,
    )


def flows() -> list[PacketFlow]:
    """A thousand packets."""
    found = []
    for number, (device, last) in enumerate(itertools.product(range(5), range(2, 202))):
        dst = (f"172.{16 + last % 16}.{last}.9", f"10.{last % 5}.0.9", "192.168.1.1", f"10.{device}.0.1")[
            last % 4
        ]
        src = f"10.{device}.0.{last}"
        if number % 3 == 0:
            src, dst = f"fd00:{device}::{last:x}", f"fd00:{last % 5}::9"
        found.append(
            PacketFlow(
                in_dev=f"d{device}", src=src, dst=dst, proto=("udp", "tcp", "icmp")[last % 3], sport=20000 + last,
                dport=(53, 22, 443)[number % 3], length=(84, 1500)[number % 2], df=number % 4 == 0,
            )
        )  # fmt: skip
    return found


def main() -> None:
    ns, packets = world(), flows()
    walk_packet(ns, packets[0])
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 3:
        for packet in packets:
            walk_packet(ns, packet)
        count += len(packets)
    print(f"{count / (time.perf_counter() - start):,.0f} packets/s on one core")


if __name__ == "__main__":
    main()
