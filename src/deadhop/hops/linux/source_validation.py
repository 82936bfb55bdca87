"""Is the source address plausible on this device? (fib_validate_source, net/ipv4/fib_frontend.c)

Specification "Linux forwarding" §7.2. The checks against spoofing run even where ``rp_filter`` is 0, in a short form.
"""

from __future__ import annotations

from deadhop.hops.linux.devices import Device
from deadhop.hops.linux.errors import Unknown
from deadhop.hops.linux.fib import Found
from deadhop.hops.linux.packet import Packet
from deadhop.hops.linux.rules import FlowKey
from deadhop.hops.linux.world import World

LOCAL_SOURCE, INVALID_SOURCE, RPFILTER = "IP_LOCAL_SOURCE", "IP_INVALID_SOURCE", "IP_RPFILTER"


class Verdict:
    """``reason`` is empty where the source may pass; ``route`` is the reverse route that was looked at, if any."""

    __slots__ = ("reason", "route", "text")

    def __init__(self, reason: str, text: str, route: Found | None = None) -> None:
        self.reason = reason
        self.text = text
        self.route = route


OK = Verdict("", "no full check")


def validate_source(world: World, packet: Packet, device: Device, dst: int, oif: str | None) -> Verdict:
    """The verdict for ``packet`` received on ``device``; ``dst`` is 0 for broadcast and multicast, ``oif`` the
    output device of a packet to forward, None for local delivery."""
    rp = device.rp_filter.value
    if rp is None:
        verdict = _validate(world, packet, device, dst, oif, 1)
        loose = _validate(world, packet, device, dst, oif, 2)
        if {verdict.reason, loose.reason, _validate(world, packet, device, dst, oif, 0).reason} == {
            verdict.reason
        }:
            return verdict
        raise Unknown(f"sysctl {device.rp_filter.name}")
    return _validate(world, packet, device, dst, oif, rp)


def _validate(world: World, packet: Packet, device: Device, dst: int, oif: str | None, rp: int) -> Verdict:
    if rp == 0 and (device.name != oif or not device.send_redirects.need()):
        if device.accept_local.need():
            return OK
        if not (world.fib4.custom_local_routes or world.fib4.custom):
            if packet.src in world.local4:
                return Verdict(LOCAL_SOURCE, f"{packet.src_text} is this namespace's own address")
            return OK
    return _full(world, packet, device, dst, oif, rp)


def _full(world: World, packet: Packet, device: Device, dst: int, oif: str | None, rp: int) -> Verdict:
    """__fib_validate_source: the reverse lookup comes in on the output device, or on lo for local delivery."""
    flow = FlowKey(
        packet.src,
        dst,
        iif=oif or "lo",
        mark=packet.mark if device.src_valid_mark.need() else 0,
        tos=packet.tos,
        vrf=device.vrf,
    )
    if world.fib4.wants_ports:
        flow.proto, flow.sport, flow.dport = packet.proto, packet.dport, packet.sport
    found = world.fib4.lookup(flow)
    if found.error or found.alias is None:
        text = f"no route back to {packet.src_text}"
        return Verdict(RPFILTER if rp else "", text, found)
    alias = found.alias
    if alias.type != "unicast":
        if alias.type != "local":
            return Verdict(INVALID_SOURCE, f"the route back to {packet.src_text} is {alias.text}", found)
        if not device.accept_local.need():
            return Verdict(LOCAL_SOURCE, f"{packet.src_text} is this namespace's own address", found)
    if any(leg.dev == device.name for leg in alias.legs) or (device.vrf and alias.legs[0].dev == device.vrf):
        return Verdict("", f"the route back to {packet.src_text} uses {device.name}", found)
    if alias.type == "local" and device.loopback:
        return Verdict("", "loopback", found)
    if not device.inet4:
        text = f"the route back to {packet.src_text} ({alias.text}) leaves {device.name}, which has no IPv4 address"
        return Verdict(RPFILTER if rp else "", text, found)
    if rp == 1:
        return Verdict(
            RPFILTER, f"the route back to {packet.src_text} ({alias.text}) does not use {device.name}", found
        )
    return Verdict("", f"loose: {packet.src_text} is reachable by {alias.text}", found)
