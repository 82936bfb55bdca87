"""IPv6 receipt: ip6_rcv_core's checks, PRE_ROUTING, the route, local input (net/ipv6/ip6_input.c, route.c).

There is no martian check and no rp_filter; a spoofed or own source passes (specification "Linux forwarding" §7.6).
"""

from __future__ import annotations

from typing import NoReturn

from deadhop.hops.linux import forward, icmp
from deadhop.hops.linux.context import Walk
from deadhop.hops.linux.devices import Device
from deadhop.hops.linux.errors import EACCES, EINVAL
from deadhop.hops.linux.fib import Found
from deadhop.hops.linux.netfilter import traverse
from deadhop.hops.linux.packet import Packet
from deadhop.hops.linux.route4 import Dst, route_sources
from deadhop.hops.linux.route6 import is_multicast6, route_input6

LOOPBACK = 1
ALL_NODES = {0xFF01 << 112 | 1, 0xFF02 << 112 | 1}
ALL_ROUTERS = {0xFF01 << 112 | 2, 0xFF02 << 112 | 2, 0xFF05 << 112 | 2}
SOLICITED_NODE = 0xFF0200000000000000000001FF000000


def receive(walk: Walk, packet: Packet, device: Device) -> NoReturn:
    """ip6_rcv_core: what is malformed by its addresses never reaches netfilter."""
    if device.disable_ipv6.need():
        walk.step(
            f"sysctl {device.disable_ipv6.name} = 1",
            "IPv6 is off here",
            "ip6_rcv_core",
            device.disable_ipv6.sources,
            ok=False,
        )
        walk.drop("IPV6DISABLED", "ip6_rcv_core", ("Ip6InDiscards",))
    bad = "" if device.loopback else _malformed(packet)
    if is_multicast6(packet.src):
        bad = f"{packet.src_text} cannot be a source"
    if bad:
        walk.step("header check", bad, "ip6_rcv_core", ok=False)
        walk.drop("IP_INHDR", "ip6_rcv_core", ("Ip6InHdrErrors",))
    traverse(walk, packet, "prerouting")
    if device.vrf is not None:
        packet.iif = device.vrf
    if packet.route is not None:
        local_deliver(walk, packet, device)
    found, dst = route_input6(walk, packet, device)
    if found.error:
        _rejected(walk, packet, device, found)
    alias = dst.alias
    assert alias is not None
    kind = "an address of this namespace" if alias.type in ("local", "anycast") else "elsewhere"
    walk.step(
        f"route {alias.text}",
        f"{packet.dst_text} is {kind}",
        "ip6_pol_route",
        route_sources(alias, found.by),
        table=alias.table,
        rule=getattr(found.by, "text", None),
    )
    if alias.type in ("local", "anycast"):
        packet.route = dst
        local_deliver(walk, packet, device)
    if dst.type == "multicast":
        _multicast(walk, packet, device, dst)
    forward.forward6(walk, packet, device, dst)


def _malformed(packet: Packet) -> str:
    if packet.src == LOOPBACK or packet.dst == LOOPBACK:
        return "::1 does not appear on a wire (RFC 4291 2.5.3)"
    if is_multicast6(packet.dst) and (packet.dst >> 112) & 0xF in (0, 1):
        return f"{packet.dst_text} does not leave its interface (RFC 4291 2.7)"
    return ""


def local_deliver(walk: Walk, packet: Packet, device: Device) -> NoReturn:
    """ip6_input: the INPUT hook, then the local protocol."""
    packet.oif = None
    traverse(walk, packet, "input")
    walk.step(
        "local input",
        f"{packet.dst_text} is handed to the local protocol",
        "ip6_input_finish",
        (device.source,),
    )
    walk.deliver("ip6_input_finish")


def joined(device: Device, group: int) -> bool:
    """ipv6_chk_mcast_addr for the groups that the kernel joins by itself."""
    if group in ALL_NODES:
        return True
    if group in ALL_ROUTERS:
        return bool(device.forwarding6.need())
    if group & ~0xFFFFFF == SOLICITED_NODE:
        low = group & 0xFFFFFF
        anycast = (
            [a.local & ~((1 << (128 - a.prefixlen)) - 1) for a in device.inet6]
            if device.forwarding6.value
            else []
        )
        return low in {a.local & 0xFFFFFF for a in device.inet6} | {a & 0xFFFFFF for a in anycast}
    return False


def _multicast(walk: Walk, packet: Packet, device: Device, dst: Dst) -> NoReturn:
    """ip6_mc_input."""
    if joined(device, packet.dst):
        packet.route = dst
        local_deliver(walk, packet, device)
    walk.assume(f"no program has joined {packet.dst_text} on {device.name}")
    walk.step(
        f"device {device.name}",
        f"{packet.dst_text} is not joined here",
        "ip6_mc_input",
        (device.source,),
        ok=False,
    )
    walk.drop("NOT_SPECIFIED", "ip6_mc_input")


def _rejected(walk: Walk, packet: Packet, device: Device, found: Found) -> NoReturn:
    """ip6_pkt_drop and dst_discard: the input functions of reject routes."""
    alias = found.alias
    by = f"route {alias.text}" if alias is not None else "routing"
    if alias is None and found.by is not None:
        by = f"rule {getattr(found.by, 'text', '')}"
    text = f"no route to {packet.dst_text}" if alias is None else f"{packet.dst_text} ends here"
    sources = route_sources(alias, found.by)
    if found.error == EINVAL:
        walk.step(by, text, "dst_discard", sources, ok=False)
        walk.drop("NOT_SPECIFIED", "dst_discard")
    prohibited = found.error == EACCES
    function = "ip6_pkt_prohibit" if prohibited else "ip6_pkt_discard"
    walk.step(by, text, function, sources, ok=False)
    told = icmp.send6(walk, packet, device, 1, 1 if prohibited else 0)
    reason = "IP_INADDRERRORS" if packet.dst == 0 else "IP_INNOROUTES"
    walk.drop(reason, function, ("Ip6InAddrErrors",) if packet.dst == 0 else ("Ip6InNoRoutes",), told)
