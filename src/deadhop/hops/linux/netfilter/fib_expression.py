"""``fib … type|oif|oifname`` (nft_fib_ipv4.c, nft_fib_ipv6.c): routing questions inside rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deadhop.hops.linux.errors import EACCES, EAGAIN, EINVAL
from deadhop.hops.linux.netfilter.values import ADDRTYPES, Unsupported, Vague
from deadhop.hops.linux.packet import Packet
from deadhop.hops.linux.rules import FlowKey

if TYPE_CHECKING:
    from deadhop.hops.linux.netfilter.state import HookState

LBCAST = 0xFFFFFFFF
ERROR_TYPES = {EINVAL: "blackhole", EACCES: "prohibit", EAGAIN: "throw"}


def fib(inner: dict[str, Any]) -> tuple[Callable[[Packet, HookState], Any], tuple[str, ...]]:
    flags = inner.get("flags", [])
    wanted = frozenset([flags] if isinstance(flags, str) else flags)
    result = inner.get("result")
    if result == "type":
        return (lambda p, s: ADDRTYPES[_type(p, s, wanted)]), ("fib_addrtype",)
    if result in ("oif", "oifname", "check"):
        return (lambda p, s: _oif(p, s, wanted) or ""), ("ifname",)
    raise Unsupported(f"fib result {result}")


def _device(p: Packet, flags: frozenset[str]) -> str | None:
    return p.iif if "iif" in flags else p.oif if "oif" in flags else None


def _type(p: Packet, s: HookState, flags: frozenset[str]) -> str:
    address = p.dst if "daddr" in flags else p.src
    device = _device(p, flags)
    return _type4(s, address, device) if p.version == 4 else _type6(p, s, address, device, flags)


def _type4(s: HookState, address: int, device: str | None) -> str:
    """inet_dev_addr_type: the local table's answer, on ``device`` if given."""
    if address in (0, LBCAST):
        return "broadcast"
    if address >> 28 == 0xE:
        return "multicast"
    found = s.world.fib4.local.lookup(address, 0)
    if found.error or found.alias is None or found.leg is None:
        return "unicast"
    return found.alias.type if device is None or device == found.leg.dev else "unicast"


def _type6(p: Packet, s: HookState, address: int, device: str | None, flags: frozenset[str]) -> str:
    """__nft_fib6_eval_type."""
    world = s.world
    owned = device is not None and world.local6.get(address) == device
    flow = _flow6(p, s, flags, device)
    found, _paths = world.fib6.lookup(
        flow, flow.oif, strict=address >> 118 == 0x3FA or address >> 120 == 0xFF
    )
    if found.error or found.alias is None:
        return ERROR_TYPES.get(found.error, "unreachable")
    alias = found.alias
    on_link = alias.type == "unicast" and found.leg is not None and found.leg.gateway is None
    if alias.type == "anycast" or (alias.length < 127 and on_link and alias.network == address):
        return "anycast"
    if owned or (device is None and alias.type == "local"):
        return "local"
    if address >> 120 == 0xFF:
        return "multicast"
    return "unspec" if address == 0 else "unicast"


def _flow6(p: Packet, s: HookState, flags: frozenset[str], device: str | None) -> FlowKey:
    """nft_fib6_flowi_init."""
    dst, src = (p.dst, p.src) if "daddr" in flags else (p.src, p.dst)
    flow = FlowKey(dst, src, mark=p.mark if "mark" in flags else 0, tos=p.tos, proto=p.proto)
    if "daddr" not in flags and s.hook == "forward" and "iif" in flags:
        flow.iif = p.oif or "lo"
    if dst >> 118 == 0x3FA:
        flow.oif = device or p.iif or p.oif
    flow.has_src = src != 0 and src >> 120 != 0xFF
    return flow


def _oif(p: Packet, s: HookState, flags: frozenset[str]) -> str | Vague | None:
    """nft_fib4_eval, nft_fib6_eval: the device of the route, or None where there is none through the asked device."""
    device = _device(p, flags)
    if s.hook in ("prerouting", "input") and p.iif is not None and s.world.device(p.iif).loopback:
        return p.iif
    return _oif4(p, s, flags, device) if p.version == 4 else _oif6(p, s, flags, device)


def _oif4(p: Packet, s: HookState, flags: frozenset[str], device: str | None) -> str | None:
    if p.src == 0 and (p.dst == LBCAST or p.dst >> 8 == 0xE00000):
        return p.iif
    dst, src = (p.dst, p.src) if "daddr" in flags else (p.src, p.dst)
    if src >> 28 == 0xE or src in (0, LBCAST):
        src = 0
    flow = FlowKey(dst, src, mark=p.mark if "mark" in flags else 0, tos=p.tos, proto=p.proto)
    if "daddr" not in flags and s.hook == "forward" and "iif" in flags:
        flow.iif = p.oif or "lo"
    found = s.world.fib4.lookup(flow, ignore_linkstate=True)
    if found.error or found.alias is None or found.leg is None or found.alias.type == "local":
        return None
    if device is None:
        return found.leg.dev
    return device if any(leg.dev == device for leg in found.alias.legs) else None


def _oif6(p: Packet, s: HookState, flags: frozenset[str], device: str | None) -> str | Vague | None:
    flow = _flow6(p, s, flags, device)
    if flow.dst >> 120 == 0xFF:
        return Vague(
            "fib oif of a multicast address"
        )  # measured to differ from the routing decision; not explained
    found, paths = s.world.fib6.lookup(flow, flow.oif, strict=flow.oif is not None)
    if found.error or found.alias is None or found.alias.type in ("local", "anycast"):
        return None
    taken = paths[s.walk.choices.pick(len(paths))][1].dev if paths else ""
    if device is None:
        return taken
    return device if taken == device else None
