"""nftables statements compiled to operations: ``(packet, state) -> outcome``.

An operation returns :data:`NEXT` to go on with the rule, :data:`STOP` where the rule does not match, or a verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deadhop.hops.linux.errors import Unknown
from deadhop.hops.linux.netfilter import nat, reject
from deadhop.hops.linux.netfilter.expressions import compile_expression, find_vague
from deadhop.hops.linux.netfilter.matches import compare
from deadhop.hops.linux.netfilter.sets import MISSING, map_of, vague_in
from deadhop.hops.linux.netfilter.values import BREAK, Unsupported, Vague, constant
from deadhop.hops.linux.netfilter.verdicts import (
    ACCEPT,
    DROP,
    NEXT,
    RETURN,
    STOP,
    Operation,
    Rejected,
    Verdict,
)
from deadhop.hops.linux.packet import Packet
from deadhop.model.protocols import ICMPX_CODES, TCP, UNREACHABLE_CODES, UNREACHABLE_CODES6

if TYPE_CHECKING:
    from deadhop.hops.linux.netfilter.nft import Ruleset
    from deadhop.hops.linux.netfilter.state import HookState


#: Statements that change nothing a single packet's fate depends on.
HARMLESS = {"counter", "log", "last", "secmark", "dup", "flow", "meter", "ct timeout", "ct helper", "tproxy"}
SIMPLE = {"accept": ACCEPT, "drop": DROP, "return": RETURN, "continue": NEXT}


def verdict(body: dict[str, Any]) -> Verdict:
    """A verdict's JSON: ``{"accept": null}``, ``{"jump": {"target": "c"}}``…"""
    ((kind, inner),) = body.items()
    if kind in SIMPLE:
        return SIMPLE[kind]
    if kind in ("jump", "goto"):
        return Verdict(kind, str(inner["target"]))
    raise Unsupported(f"verdict {kind}")


def compile_statement(body: Any, rules: Ruleset, family: str, table: str) -> Operation:
    """The operation of one statement. What cannot be compiled decides nothing silently: it is uncertain or unknown."""
    if body == "accept" or body == "drop":
        body = {body: None}
    if not isinstance(body, dict) or len(body) != 1:
        return _refuse(f"nft statement {str(body)[:80]}")
    ((kind, inner),) = body.items()
    try:
        if kind == "match":
            return compare(inner, rules, family, table)
        if kind in SIMPLE or kind in ("jump", "goto"):
            result = verdict(body)
            return lambda _p, _s: result
        if kind in HARMLESS:
            return lambda _p, _s: NEXT
        if kind == "vmap":
            return _vmap(inner, rules, family, table)
        if kind == "mangle":
            return _mangle(inner, rules, family, table)
        if kind == "reject":
            return _reject(inner or {}, family)
        if kind == "notrack":
            return _notrack
        if kind in ("snat", "dnat", "masquerade", "redirect"):
            return _nat(kind, inner or {}, rules, family, table)
        if kind in ("limit", "quota"):
            return _limit(kind, inner)
        if kind in ("set", "map") and isinstance(inner, dict) and "op" in inner:
            return lambda _p, _s: NEXT
    except Unsupported as unsupported:
        what = f"nft {unsupported}"
        if kind == "match":
            return lambda _p, s: NEXT if s.walk.uncertain(what) else STOP
        return _refuse(what)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError):
        return _refuse(f"nft statement {str(body)[:80]}")
    return _refuse(f"nft statement {kind}")


def _refuse(what: str) -> Operation:
    def operation(_p: Packet, _s: HookState) -> Verdict:
        raise Unknown(what)

    return operation


def _vmap(inner: dict[str, Any], rules: Ruleset, family: str, table: str) -> Operation:
    getter, kinds = compile_expression(inner["key"], rules, family, table)
    data = inner["data"]
    if isinstance(data, str):
        index = rules.named_map(family, table, data.lstrip("@"))[0]
    else:
        index = map_of(data["set"], kinds, verdict)

    def operation(p: Packet, s: HookState) -> Verdict:
        key = getter(p, s)
        if key is BREAK:
            return STOP
        vague = vague_in(key)
        found = index.find(key) if vague is None else find_vague(index, vague, s)
        return STOP if found is MISSING else found

    return operation


def _limit(kind: str, inner: Any) -> Operation:
    """A single packet is within every limit: ``over`` does not match."""
    inverted = bool(isinstance(inner, dict) and inner.get("inv"))

    def operation(_p: Packet, s: HookState) -> Verdict:
        s.walk.assume(f"the packet is within nft's {kind}")
        return STOP if inverted else NEXT

    return operation


def _notrack(p: Packet, _s: HookState) -> Verdict:
    if p.ct is None:
        p.ct = "untracked"
    return NEXT


def _mangle(inner: dict[str, Any], rules: Ruleset, family: str, table: str) -> Operation:
    ((kind, key),) = inner["key"].items()
    name = str(key.get("key", key.get("field")) if isinstance(key, dict) else key)
    if (
        kind == "tcp option"
        or (kind == "meta" and name in ("priority", "nftrace", "secmark"))
        or (kind == "ct" and name != "mark")
    ):
        return lambda _p, _s: NEXT
    _, kinds = compile_expression(inner["key"], rules, family, table)
    value = inner["value"]
    if (
        isinstance(value, dict) and not {"prefix", "range"} & set(value) and "|" not in value
    ) or _is_expression(value):
        getter = compile_expression(value, rules, family, table)[0]
    else:
        fixed = constant(value, kinds[0])
        getter = lambda _p, _s: fixed  # noqa: E731
    write = _WRITERS.get((kind if kind != "payload" else str(key.get("protocol")), name))
    if write is None:
        raise Unsupported(f"set {kind} {name}")
    dependency = {"ip": 4, "ip6": 6}.get(str(key.get("protocol"))) if isinstance(key, dict) else None

    def operation(p: Packet, s: HookState) -> Verdict:
        if dependency is not None and p.version != dependency:
            return STOP
        new = getter(p, s)
        if new is BREAK:
            return STOP
        if isinstance(new, Vague):
            raise Unknown(f"the value that nft sets: {new.what}")
        write(p, constant(new, kinds[0]))
        return NEXT

    return operation


def _is_expression(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in (
        "meta", "ct", "payload", "&", "|", "^", "<<", ">>", "map", "numgen", "jhash", "fib", "rt", "socket"
    )  # fmt: skip


def _set_mark(p: Packet, value: int) -> None:
    p.mark = value & 0xFFFFFFFF


def _set_ct_mark(p: Packet, value: int) -> None:
    if p.tracked:
        p.ct_mark = value & 0xFFFFFFFF


def _set_dscp(p: Packet, value: int) -> None:
    p.tos = value << 2 | p.tos & 3


def _set_ecn(p: Packet, value: int) -> None:
    p.tos = p.tos & 0xFC | value


def _attribute(name: str) -> Callable[[Packet, int], None]:
    return lambda p, value: setattr(p, name, value)


_WRITERS: dict[tuple[str, str], Callable[[Packet, int], None]] = {
    ("meta", "mark"): _set_mark,
    ("ct", "mark"): _set_ct_mark,
    ("ip", "dscp"): _set_dscp,
    ("ip6", "dscp"): _set_dscp,
    ("ip", "ecn"): _set_ecn,
    ("ip6", "ecn"): _set_ecn,
    ("ip", "ttl"): _attribute("ttl"),
    ("ip6", "hoplimit"): _attribute("ttl"),
    ("ip", "saddr"): _attribute("src"),
    ("ip", "daddr"): _attribute("dst"),
    ("ip6", "saddr"): _attribute("src"),
    ("ip6", "daddr"): _attribute("dst"),
    ("tcp", "sport"): _attribute("sport"),
    ("tcp", "dport"): _attribute("dport"),
    ("udp", "sport"): _attribute("sport"),
    ("udp", "dport"): _attribute("dport"),
    ("th", "sport"): _attribute("sport"),
    ("th", "dport"): _attribute("dport"),
}


def _reject(inner: dict[str, Any], family: str) -> Operation:
    kind = str(inner.get("type", "icmp" if family == "ip" else "icmpv6" if family == "ip6" else "icmpx"))
    name = inner.get("expr", "port-unreachable")
    if kind == "tcp reset":

        def reset(p: Packet, s: HookState) -> Verdict:
            if p.proto != TCP:
                return STOP
            return Rejected(None, reject.reset(s.walk, p))

        return reset
    if kind == "icmp":
        codes = {4: name if isinstance(name, int) else UNREACHABLE_CODES[name]}
    elif kind == "icmpv6":
        codes = {6: name if isinstance(name, int) else UNREACHABLE_CODES6[name]}
    else:
        codes = dict(zip((4, 6), ICMPX_CODES[name], strict=True))

    def operation(p: Packet, s: HookState) -> Verdict:
        if p.version not in codes:
            return STOP
        return Rejected(reject.unreachable(s.walk, p, codes[p.version]), False)

    return operation


def _nat(kind: str, inner: dict[str, Any], rules: Ruleset, family: str, table: str) -> Operation:
    version = {"ip": 4, "ip6": 6}.get(str(inner.get("family")))
    address, port = inner.get("addr"), inner.get("port")
    reader = compile_expression(address, rules, family, table)[0] if _is_expression(address) else None
    port_reader = compile_expression(port, rules, family, table)[0] if _is_expression(port) else None
    manip = "src" if kind in ("snat", "masquerade") else "dst"

    def operation(p: Packet, s: HookState) -> Verdict:
        if version is not None and p.version != version:
            return STOP
        value = reader(p, s) if reader else address
        if reader and value is BREAK:
            return STOP
        new, new_port, note = nat.target(value, p.src if manip == "src" else p.dst, p.version)
        if port is not None:
            new_port, port_note = nat.port_of(port_reader(p, s) if port_reader else port)
            note = note or port_note
        if kind == "masquerade":
            new = nat.masquerade_source(p, s)
        elif kind == "redirect":
            new = nat.redirect_target(p, s)
        if new == 0:
            return DROP
        if note:
            s.walk.assume(f"{kind} to {note}")
        nat.settle(p, manip, new, new_port if p.has_ports else None)
        return ACCEPT

    return operation
