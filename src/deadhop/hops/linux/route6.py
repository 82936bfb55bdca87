"""IPv6 routing decisions: ip6_route_input and ip6_route_output (net/ipv6/route.c)."""

from __future__ import annotations

from deadhop.hops.linux.context import Walk
from deadhop.hops.linux.devices import Device
from deadhop.hops.linux.errors import EADDRNOTAVAIL
from deadhop.hops.linux.fib import Alias, Found, Leg
from deadhop.hops.linux.packet import Packet
from deadhop.hops.linux.route4 import Dst
from deadhop.hops.linux.rules import FlowKey
from deadhop.hops.linux.saddr import select6
from deadhop.model.protocols import ICMPV6

LINK_LOCAL = 0x3FA


def is_multicast6(address: int) -> bool:
    return address >> 120 == 0xFF


def need_strict(address: int) -> bool:
    """rt6_need_strict: the address means something on one link alone."""
    return is_multicast6(address) or address >> 118 == LINK_LOCAL or address == 1


def route_input6(walk: Walk, packet: Packet, device: Device) -> tuple[Found, Dst]:
    """ip6_route_input_lookup. :class:`Dst` is only meaningful where ``Found.error`` is 0."""
    flow = FlowKey(
        packet.dst,
        packet.src,
        iif=packet.iif or device.name,
        mark=packet.mark,
        tos=packet.tos,
        vrf=device.vrf,
    )
    flow.proto = packet.proto
    if walk.world.fib6.wants_ports:
        flow.sport, flow.dport = packet.sport, packet.dport
    found, paths = walk.world.fib6.lookup(flow, device.name, strict=need_strict(packet.dst))
    if found.error:
        return found, Dst("unicast", None, found.alias)
    return found, _dst(walk, paths)


def _dst(walk: Walk, paths: list[tuple[Alias, Leg]]) -> Dst:
    seen: dict[tuple[str, str], tuple[Alias, Leg]] = {}
    for alias, leg in paths:
        seen.setdefault((leg.dev, leg.text), (alias, leg))
    distinct = list(seen.values())
    alias, leg = distinct[walk.choices.pick(len(distinct))]
    if alias.type in ("local", "anycast"):
        result = Dst("local", walk.world.loopback(), alias, leg)
        result.type = alias.type
        return result
    result = Dst(
        "multicast" if alias.network >> 120 == 0xFF and alias.length >= 8 else "unicast",
        walk.world.device(leg.dev),
        alias,
        leg,
    )
    result.src = alias.prefsrc or 0
    return result


def route_output6(
    walk: Walk,
    *,
    src: int,
    dst: int,
    mark: int = 0,
    tos: int = 0,
    proto: int = 0,
    sport: int = 0,
    dport: int = 0,
    oif: str | None = None,
) -> Dst:
    """ip6_dst_lookup_tail: without a source the route is looked up first, then a source is chosen for it."""
    strict = need_strict(dst) or (oif is not None and not src)
    flow = FlowKey(
        dst,
        src,
        iif="lo",
        oif=oif,
        mark=mark,
        tos=tos,
        proto=proto,
        sport=sport,
        dport=dport,
        has_src=bool(src),
    )
    found, paths = walk.world.fib6.lookup(flow, oif, strict=strict)
    if src:
        return _output(walk, found, paths, src)
    result = _output(walk, found, paths, 0)
    chosen = result.src or select6(walk.world, result.device if not result.error else None, dst)
    if not chosen:
        result.error = result.error or EADDRNOTAVAIL
        return result
    if result.error:
        flow.src, flow.has_src = chosen, True
        found, paths = walk.world.fib6.lookup(flow, oif, strict=need_strict(dst) or oif is not None)
        return _output(walk, found, paths, chosen)
    result.src = chosen
    return result


def route_output6_once(walk: Walk, dst: int) -> Dst:
    """ip6_route_output by itself, as netfilter asks (__nf_ip6_route): no source is chosen and nothing looked up again."""
    flow = FlowKey(dst, 0, iif="lo", has_src=False)
    found, paths = walk.world.fib6.lookup(flow, None, strict=need_strict(dst))
    return _output(walk, found, paths, 0)


def has_prefsrc(walk: Walk, dst: int) -> bool:
    """icmpv6_rt_has_prefsrc: whether the route to ``dst`` that asks for no source names a preferred one."""
    flow = FlowKey(dst, 0, proto=ICMPV6, has_src=False)
    found, _paths = walk.world.fib6.lookup(flow, None, strict=need_strict(dst))
    return not found.error and found.alias is not None and found.alias.prefsrc is not None


def _output(walk: Walk, found: Found, paths: list[tuple[Alias, Leg]], src: int) -> Dst:
    if found.error:
        result = Dst("unicast", None, found.alias)
        result.error = found.error
        return result
    result = _dst(walk, paths)
    result.src = src or result.src
    return result
