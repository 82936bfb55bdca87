"""Forwarding: ip_forward and ip6_forward, in the kernel's order.

TTL before MTU before the FORWARD hook: what dies of TTL or MTU, netfilter's forward chains never see
(specification "Linux forwarding" §7.1, §7.6).
"""

from __future__ import annotations

from typing import NoReturn

from deadhop.hops.linux import icmp
from deadhop.hops.linux.context import Walk
from deadhop.hops.linux.devices import Device
from deadhop.hops.linux.mtu import route_mtu4, route_mtu6
from deadhop.hops.linux.neighbour import transmit
from deadhop.hops.linux.netfilter import traverse
from deadhop.hops.linux.packet import Packet
from deadhop.hops.linux.route4 import Dst, route_sources

#: The first ten bits of fe80::/10.
LINK_LOCAL = 0x3FA


def forward4(walk: Walk, packet: Packet, dst: Dst) -> NoReturn:
    """ip_forward: ``dst`` is the unicast route out."""
    out = dst.device
    assert out is not None
    packet.route = dst
    if packet.ttl <= 1:
        walk.step("TTL", f"TTL {packet.ttl} ends here", "ip_forward", ok=False)
        told = icmp.send4(walk, packet, 11, 0, local=False)
        walk.drop("IP_INHDR", "ip_forward", ("Ip:InHdrErrors",), told)
    mtu, by = route_mtu4(dst.alias, dst.leg, out)
    sources = (*route_sources(dst.alias), out.source)
    if packet.df and packet.wire_length > mtu:
        walk.step(by, f"{packet.length} bytes with DF do not fit {mtu}", "ip_forward", sources, ok=False)
        told = icmp.send4(walk, packet, 3, 4, mtu, local=False)
        walk.drop("PKT_TOO_BIG", "ip_forward", ("Ip:FragFails", "Ip:ForwDatagrams"), told)
    packet.ttl -= 1
    packet.oif = out.name
    traverse(walk, packet, "forward")
    traverse(walk, packet, "postrouting")
    if packet.wire_length > mtu:
        walk.step(
            by,
            f"{packet.length} bytes leave as fragments of at most {mtu}",
            "ip_fragment",
            sources,
            fragments=True,
        )
    transmit(walk, packet, dst)


def forward6(walk: Walk, packet: Packet, device: Device, dst: Dst) -> NoReturn:
    """ip6_forward."""
    out = dst.device
    assert out is not None
    packet.route = dst
    allowed = walk.world.sysctl("net.ipv6.conf.all.forwarding")
    if not allowed and not device.force_forwarding6.value:
        text = f"{packet.dst_text} is not an address of this namespace and IPv6 forwarding is off"
        found = walk.world.ns.sysctls.get("net.ipv6.conf.all.forwarding")
        by_all = (found.source,) if found else ()
        walk.step("sysctl net.ipv6.conf.all.forwarding = 0", text, "ip6_forward", by_all, ok=False)
        walk.drop("IP_INADDRERRORS", "ip6_forward", ("Ip6InAddrErrors",))
    if packet.ttl <= 1:
        walk.step("hop limit", f"hop limit {packet.ttl} ends here", "ip6_forward", ok=False)
        told = icmp.send6(walk, packet, device, 3, 0)
        walk.drop("IP_INHDR", "ip6_forward", ("Ip6InHdrErrors",), told)
    if out.name != device.name:
        _check_source(walk, packet, device)
    mtu, by = route_mtu6(dst.alias, out, forwarding=True)
    if packet.wire_length > mtu:
        sources = (*route_sources(dst.alias), out.source)
        walk.step(by, f"{packet.length} bytes do not fit {mtu}", "ip6_forward", sources, ok=False)
        told = icmp.send6(walk, packet, out, 2, 0, mtu)
        walk.drop("PKT_TOO_BIG", "ip6_forward", ("Ip6InTooBigErrors", "Ip6FragFails"), told)
    packet.ttl -= 1
    packet.oif = out.name
    traverse(walk, packet, "forward")
    traverse(walk, packet, "postrouting")
    own, by = route_mtu6(dst.alias, out, forwarding=False)
    if packet.wire_length > own:
        # ip6_forward asks the device alone; the route's own mtu is met in ip6_fragment, which may not fragment.
        walk.step(
            by, f"{packet.length} bytes do not fit {own}", "ip6_fragment", route_sources(dst.alias), ok=False
        )
        told = icmp.send6(walk, packet, out, 2, 0, own)
        walk.drop("NOT_SPECIFIED", "ip6_fragment", ("Ip6FragFails",), told)
    transmit(walk, packet, dst)


def _check_source(walk: Walk, packet: Packet, device: Device) -> None:
    """The check that ip6_forward calls security critical."""
    src = packet.src
    if src == 0 or src == 1 or src >> 120 == 0xFF:
        walk.step("source check", f"{packet.src_text} is never forwarded", "ip6_forward", ok=False)
        walk.drop("IP_INADDRERRORS", "ip6_forward", ("Ip6InAddrErrors",))
    if src >> 118 == LINK_LOCAL:
        walk.step(
            "source check",
            f"link-local {packet.src_text} does not leave {device.name}",
            "ip6_forward",
            ok=False,
        )
        told = icmp.send6(walk, packet, device, 1, 2)
        walk.drop("IP_INADDRERRORS", "ip6_forward", ("Ip6InAddrErrors",), told)
