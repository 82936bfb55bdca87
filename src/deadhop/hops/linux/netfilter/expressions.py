"""nftables expressions compiled to getters: ``(packet, state) -> value``.

A getter returns None where the kernel would break off the rule, a :class:`~.values.Vague` where the flow does not
determine the value. What cannot be compiled raises :class:`~.values.Unsupported` with its name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deadhop.hops.linux.netfilter.fib_expression import fib
from deadhop.hops.linux.netfilter.payload import payload
from deadhop.hops.linux.netfilter.sets import MISSING, Index, index_of, map_of, vague_in
from deadhop.hops.linux.netfilter.values import (
    BREAK,
    CHECKSUM,
    CT_STATES,
    Unsupported,
    Vague,
    constant,
    flags,
)
from deadhop.hops.linux.packet import Packet

if TYPE_CHECKING:
    from deadhop.hops.linux.netfilter.nft import Ruleset
    from deadhop.hops.linux.netfilter.state import HookState

Getter = Callable[[Packet, "HookState"], Any]
Compiled = tuple[Getter, tuple[str, ...]]


def compile_expression(body: Any, rules: Ruleset, family: str, table: str) -> Compiled:
    """The getter and the types of its value (several for a concatenation)."""
    if not isinstance(body, dict) or len(body) != 1:
        if isinstance(body, (int, str)):
            value = body if isinstance(body, int) else constant(body, "integer")
            return (lambda _p, _s: value), ("integer",)
        raise Unsupported(f"expression {str(body)[:80]}")
    ((kind, inner),) = body.items()
    if kind == "payload":
        read, type_ = payload(inner, family)
        return (lambda p, _s: read(p)), (type_,)
    if kind == "meta":
        return _meta(str(inner.get("key") if isinstance(inner, dict) else inner))
    if kind == "ct":
        return _ct(inner)
    if kind == "fib":
        return fib(inner)
    if kind in _BINARY:
        return _binary(kind, inner, rules, family, table)
    if kind == "concat":
        parts = [compile_expression(part, rules, family, table) for part in inner]
        getters = [getter for getter, _ in parts]

        def concat(p: Packet, s: HookState) -> Any:
            values = tuple(getter(p, s) for getter in getters)
            return BREAK if BREAK in values else values

        return concat, tuple(types[0] for _, types in parts)
    if kind == "map":
        return _map(inner, rules, family, table)
    if kind == "numgen":
        return _numgen(inner)
    if kind in ("exthdr", "ip option"):
        return (lambda _p, _s: 0), ("boolean",)  # a flow has no extension headers and no IP options
    if kind == "tcp option":
        what = Vague(f"TCP option {inner.get('name')}")
        return (lambda p, _s: what if p.proto == 6 else BREAK), ("integer",)
    if kind in ("socket", "osf", "ipsec", "rt", "jhash", "symhash"):
        vague = Vague(f"{kind} {inner.get('key', '') if isinstance(inner, dict) else ''}".strip())
        return (lambda _p, _s: vague), ("integer",)
    raise Unsupported(f"expression {kind}")


_BINARY: dict[str, Callable[[int, int], int]] = {
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "<<": lambda a, b: (a << b) & 0xFFFFFFFF,
    ">>": lambda a, b: a >> b,
}


def _binary(kind: str, inner: Any, rules: Ruleset, family: str, table: str) -> Compiled:
    left, types = compile_expression(inner[0], rules, family, table)
    operation = _BINARY[kind]
    if len(types) != 1:
        raise Unsupported(f"{kind} on a concatenation")
    operands: list[int | Getter] = []
    for operand in inner[1:]:
        if (
            isinstance(operand, dict)
            and next(iter(operand), "") in ("meta", "ct", "payload", *_BINARY)
            and "|" not in operand
        ):
            operands.append(compile_expression(operand, rules, family, table)[0])
        else:
            operands.append(flags(operand, types[0]))

    def compute(p: Packet, s: HookState) -> Any:
        value = left(p, s)
        if value is BREAK or isinstance(value, Vague):
            return value
        for operand in operands:
            other = operand if isinstance(operand, int) else operand(p, s)
            if other is BREAK or isinstance(other, Vague):
                return other
            value = operation(value, other)
        return value

    return compute, types


def _meta(key: str) -> Compiled:
    if key in _META:
        getter, kind = _META[key]
        return getter, (kind,)
    if key in _VAGUE_META:
        vague = Vague(f"meta {key}")
        return (lambda _p, _s: vague), (_VAGUE_META[key],)
    raise Unsupported(f"meta {key}")


def _owner(what: str) -> Getter:
    vague = Vague(f"meta {what}")
    return lambda p, _s: vague if p.iif is None else BREAK  # no socket: NFT_BREAK


def _pkttype(p: Packet, _s: HookState) -> Any:
    multicast = p.dst >> 28 == 0xE or p.dst == 0xFFFFFFFF if p.version == 4 else p.dst >> 120 == 0xFF
    return Vague("meta pkttype") if multicast and p.iif else 0


_META: dict[str, tuple[Getter, str]] = {
    "length": (lambda p, _s: p.length, "integer"),
    "nfproto": (lambda p, _s: 2 if p.version == 4 else 10, "nf_proto"),
    "l4proto": (lambda p, _s: p.proto, "inet_proto"),
    "protocol": (lambda p, _s: 0x0800 if p.version == 4 else 0x86DD, "ether_type"),
    "mark": (lambda p, _s: p.mark, "mark"),
    "iif": (lambda p, _s: p.iif or "", "iface_index"),
    "oif": (lambda p, _s: p.oif or "", "iface_index"),
    "iifname": (lambda p, _s: p.iif or "", "ifname"),
    "oifname": (lambda p, _s: p.oif or "", "ifname"),
    "iifkind": (lambda p, s: s.device_fact(p.iif, "kind"), "ifname"),
    "oifkind": (lambda p, s: s.device_fact(p.oif, "kind"), "ifname"),
    "iifgroup": (lambda p, s: s.device_fact(p.iif, "group"), "devgroup"),
    "oifgroup": (lambda p, s: s.device_fact(p.oif, "group"), "devgroup"),
    "pkttype": (_pkttype, "pkt_type"),
    "skuid": (_owner("skuid"), "uid"),
    "skgid": (_owner("skgid"), "gid"),
    "nftrace": (lambda _p, _s: 0, "boolean"),
    "secpath": (lambda _p, _s: 0, "boolean"),
    "ipsec": (lambda _p, _s: 0, "boolean"),
}
_VAGUE_META = {
    "priority": "integer", "cpu": "integer", "cgroup": "integer", "random": "integer", "rtclassid": "integer",
    "time": "integer", "hour": "integer", "day": "integer", "iiftype": "integer", "oiftype": "integer",
}  # fmt: skip


def _ct(inner: Any) -> Compiled:
    key = str(inner.get("key") if isinstance(inner, dict) else inner)
    if key == "state":
        # Before the conntrack hook, and for invalid packets, there is no connection: NF_CT_STATE_INVALID_BIT.
        return (lambda p, _s: CT_STATES[p.ct or "invalid"]), ("ct_state",)
    if key == "mark":
        return (lambda p, _s: p.ct_mark if p.tracked else BREAK), ("mark",)
    if key == "direction":
        return (lambda p, _s: int(p.reply) if p.tracked else BREAK), ("ct_dir",)
    if key == "status":
        return (lambda p, s: s.ct_status(p) if p.tracked else BREAK), ("ct_status",)
    if key in ("l3proto", "protocol"):
        kind = "nf_proto" if key == "l3proto" else "inet_proto"

        def number(p: Packet, _s: HookState) -> Any:
            if not p.tracked:
                return BREAK
            return p.proto if key == "protocol" else 2 if p.version == 4 else 10

        return number, (kind,)
    if key in ("saddr", "daddr", "ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr", "proto-src", "proto-dst"):
        direction = 1 if isinstance(inner, dict) and inner.get("dir") == "reply" else 0
        field = {"saddr": 0, "daddr": 1, "proto-src": 2, "proto-dst": 3}[key.split()[-1]]
        version = 4 if key.startswith("ip ") else 6 if key.startswith("ip6") else 0
        kind = "inet_service" if field > 1 else "ipv6_addr" if version == 6 else "ipv4_addr"

        def end(p: Packet, s: HookState) -> Any:
            if not p.tracked or (version and p.version != version):
                return BREAK
            return s.ct_tuple(p, direction)[field]

        return end, (kind,)
    vague = Vague(f"ct {key}")
    return (lambda p, _s: vague if p.tracked else BREAK), ("integer",)


def _numgen(inner: dict[str, Any]) -> Compiled:
    modulus, offset = int(inner["mod"]), int(inner.get("offset", 0))
    options = tuple(range(offset, offset + modulus)) if modulus <= 16 else ()
    vague = Vague(f"numgen {inner.get('mode')} mod {modulus}", options)
    return (lambda _p, _s: vague), ("integer",)


def _map(inner: dict[str, Any], rules: Ruleset, family: str, table: str) -> Compiled:
    """``{"map": {"key", "data"}}`` as a value."""
    getter, kinds = compile_expression(inner["key"], rules, family, table)
    data = inner["data"]
    if isinstance(data, str):
        index, types = rules.named_map(family, table, data.lstrip("@"))
    else:
        index = map_of(data["set"], kinds, lambda value: value)
        types = ("raw",)

    def look_up(p: Packet, s: HookState) -> Any:
        key = getter(p, s)
        if key is BREAK:
            return BREAK
        vague = vague_in(key)
        found = index.find(key) if vague is None else find_vague(index, vague, s)
        return BREAK if found is MISSING else found

    return look_up, types


def find_vague(index: Index, vague: Vague, s: HookState) -> Any:
    """A look-up by a value that nobody knows: one of its few options, else any element or none; a checksum is not
    in a set by chance."""
    if vague.options:
        return index.find(vague.options[s.walk.choices.pick(len(vague.options))])
    if vague.what == CHECKSUM:
        s.walk.assume("a checksum equals none of the numbers that rules compare it with")
        return index.fallback
    values = [*index.values(), MISSING]
    s.walk.open_questions.append(f"nft {vague.what}")
    return values[s.walk.choices.pick(len(values))]


def membership(right: Any, kinds: tuple[str, ...], rules: Ruleset, family: str, table: str) -> Index | None:
    """The set that a right-hand side names or spells out, None where it is a single value."""
    if isinstance(right, str) and right.startswith("@"):
        return rules.named_set(family, table, right[1:])
    if isinstance(right, dict) and "set" in right:
        inner = right["set"]
        return index_of(inner if isinstance(inner, list) else [inner], kinds)
    return None
