"""IPv4 routing decisions: ip_route_input_slow and ip_route_output_key_hash_rcu (net/ipv4/route.c)."""

from __future__ import annotations

from deadhop.hops.linux.context import Walk
from deadhop.hops.linux.devices import Device
from deadhop.hops.linux.errors import EINVAL, ENETUNREACH
from deadhop.hops.linux.fib import SCOPE_LINK, Alias, Leg
from deadhop.hops.linux.packet import Packet
from deadhop.hops.linux.rules import CompiledRule, FlowKey
from deadhop.hops.linux.saddr import select4
from deadhop.model.protocols import ICMP
from deadhop.model.record import Source

LBCAST = 0xFFFFFFFF


def is_multicast(address: int) -> bool:
    return address >> 28 == 0xE


def is_local_multicast(address: int) -> bool:
    return address >> 8 == 0xE00000


def is_loopback(address: int) -> bool:
    return address >> 24 == 127


class Dst:
    """struct rtable: where a route leads. ``error`` is the errno of an unusable output route."""

    __slots__ = ("alias", "device", "error", "leg", "local", "src", "type")

    def __init__(
        self, type_: str, device: Device | None, alias: Alias | None = None, leg: Leg | None = None
    ) -> None:
        self.type = type_
        self.device = device
        self.alias = alias
        self.leg = leg
        self.error = 0
        self.local = type_ in ("local", "broadcast", "multicast")
        self.src = 0

    def next_hop(self, version: int, dst: int) -> tuple[int, int]:
        """The address that the neighbour layer resolves."""
        if self.leg is not None and self.leg.gateway is not None and self.type == "unicast":
            return self.leg.gateway
        return version, dst


def route_sources(alias: Alias | None, by: object | None = None) -> tuple[Source, ...]:
    sources: tuple[Source, ...] = (alias.route.source,) if alias is not None else ()
    if isinstance(by, CompiledRule):
        sources += (by.rule.source,)
    return sources


def pick_leg(walk: Walk, alias: Alias, leg: Leg) -> Leg:
    """fib_select_multipath: the hash may pick any living leg."""
    if len(alias.legs) < 2:
        return leg
    living = [each for each in alias.legs if each.alive()]
    seen: dict[tuple[str, str], Leg] = {}
    for each in living:
        seen.setdefault((each.dev, each.text), each)
    distinct = list(seen.values())
    return distinct[walk.choices.pick(len(distinct))] if distinct else leg


def output_ports(packet: Packet) -> tuple[int, int]:
    """``(sport, dport)`` as flowi4 has them for a local sender; ICMP's type and code share the ports' place."""
    if packet.proto == ICMP:
        return 0, packet.icmp_type << 8 | packet.icmp_code
    return packet.sport, packet.dport


def route_output(
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
    any_src: bool = False,
) -> Dst:
    """The output route of a locally made packet. A :class:`Dst` with ``error`` set is a failure."""
    world = walk.world
    if src:
        if is_multicast(src) or src == LBCAST:
            return _failed(EINVAL)
        owner = world.local4.get(src) or _local_device(walk, src)
        if oif is None and (is_multicast(dst) or dst == LBCAST):
            if owner is None:
                return _failed(EINVAL)
            oif = owner
            return _made(walk, "broadcast" if dst == LBCAST else "multicast", oif, src)
        if owner is None and not any_src:
            return _failed(EINVAL)
    if oif is not None:
        device = world.device(oif)
        if not device.up:
            return _failed(ENETUNREACH)
        if is_local_multicast(dst) or dst == LBCAST:
            source = src or select4(world, device, 0, SCOPE_LINK)
            return _made(walk, "broadcast" if dst == LBCAST else "multicast", oif, source)
    if not dst:
        lo = world.loopback()
        result = Dst("local", lo)
        result.src = src or 0x7F000001
        return result
    flow = FlowKey(dst, src, oif=oif, mark=mark, tos=tos, proto=proto, sport=sport, dport=dport)
    if oif is not None:
        flow.vrf = world.device(oif).vrf
    found = world.fib4.lookup(flow)
    if found.error or found.alias is None or found.leg is None:
        if oif is not None:
            result = Dst("unicast", world.device(oif))  # "routing tables are wrong": assumed on link
            result.src = src or select4(world, result.device, 0, SCOPE_LINK)
            return result
        result = _failed(found.error)
        result.alias = found.alias
        return result
    alias, leg = found.alias, found.leg
    if alias.type == "local":
        # __mkroute_output: the destination's own kind goes before the route's.
        kind = "multicast" if is_multicast(dst) else "broadcast" if dst == LBCAST else "local"
        result = Dst(kind, world.loopback(), alias, leg)
        result.src = src or alias.prefsrc or dst
        return result
    if oif is None:
        if len(alias.legs) > 1:
            leg = pick_leg(walk, alias, leg)
        elif not alias.length:
            siblings = world.fib4.siblings(flow, alias, found.by)
            alias = siblings[walk.choices.pick(len(siblings))]
            leg = alias.legs[0]
    result = Dst("broadcast" if alias.type == "broadcast" else "unicast", world.device(leg.dev), alias, leg)
    result.src = (
        src
        or alias.prefsrc
        or select4(
            world, result.device, leg.gateway[1] if leg.gateway and leg.gateway[0] == 4 else 0, alias.scope
        )
    )
    if is_multicast(dst):
        result.type, result.local = "multicast", True
        if alias.length < 4:
            result.leg = None
    out = result.device
    if is_loopback(result.src) and out is not None and not out.loopback and not out.route_localnet.need():
        return _failed(EINVAL)
    return result


def _failed(error: int) -> Dst:
    result = Dst("unicast", None)
    result.error = error
    return result


def _made(walk: Walk, kind: str, oif: str, src: int) -> Dst:
    result = Dst(kind, walk.world.device(oif))
    result.src = src
    return result


def _local_device(walk: Walk, address: int) -> str | None:
    """__ip_dev_find's fall-back: addresses that the local table covers without being configured (127.0.0.2)."""
    found = walk.world.fib4.local.lookup(address, 0)
    if found.error == 0 and found.alias is not None and found.alias.type == "local" and found.leg is not None:
        return found.leg.dev
    return None
