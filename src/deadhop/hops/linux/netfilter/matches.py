"""``match``: one comparison (nft_cmp, nft_bitwise, nft_range, nft_lookup)."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deadhop.hops.linux.netfilter.expressions import compile_expression, membership
from deadhop.hops.linux.netfilter.sets import MISSING, Index, interval, vague_in
from deadhop.hops.linux.netfilter.values import BREAK, CHECKSUM, Unsupported, Vague, constant, flags
from deadhop.hops.linux.netfilter.verdicts import NEXT, STOP, Operation, Verdict
from deadhop.hops.linux.packet import Packet

if TYPE_CHECKING:
    from deadhop.hops.linux.netfilter.nft import Ruleset
    from deadhop.hops.linux.netfilter.state import HookState

ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
#: Types whose constants are bits: a bare name tests one bit, a list tests any of several.
BITS = ("tcp_flag", "ct_state", "ct_status")

Test = Callable[[Any], bool]


def compare(body: dict[str, Any], rules: Ruleset, family: str, table: str) -> Operation:
    """The operation of ``{"match": {"op", "left", "right"}}``; raises :class:`Unsupported`."""
    op = str(body.get("op", "=="))
    left, right = body["left"], body["right"]
    getter, kinds = compile_expression(left, rules, family, table)
    if isinstance(left, dict) and "fib" in left and isinstance(right, bool):
        wanted = right == (op in ("==", "in"))
        return _operation(getter, lambda value: bool(value) == wanted, op)
    index = membership(right, kinds, rules, family, table)
    if index is not None:
        return _operation(getter, _in(index, op), op)
    if isinstance(right, dict) and next(iter(right), "") in ("meta", "ct", "payload", "fib", "numgen"):
        return _two_sided(getter, compile_expression(right, rules, family, table)[0], op)
    return _operation(getter, _test(right, op, kinds), op)


def _in(index: Index, op: str) -> Test:
    inverted = op == "!="
    return lambda value: (index.find(value) is MISSING) == inverted


def _test(right: Any, op: str, kinds: tuple[str, ...]) -> Test:
    if len(kinds) > 1:
        parts = right["concat"] if isinstance(right, dict) and "concat" in right else None
        if parts is None:
            raise Unsupported(f"comparison of a concatenation with {str(right)[:80]}")
        tests = [_test(part, "==", (kind,)) for part, kind in zip(parts, kinds, strict=True)]
        inverted = op == "!="
        return lambda value: all(t(v) for t, v in zip(tests, value, strict=True)) != inverted
    kind = kinds[0]
    if op in ORDER:
        bound, order = constant(right, kind), ORDER[op]
        return lambda value: order(value, bound)
    inverted = op == "!="
    span = interval(right, kind)
    if span is not None:
        low, high = span
        return lambda value: (low <= value <= high) != inverted
    if op == "!":  # nft's short form of (value & bits) == 0
        unwanted = flags(right, kind)
        return lambda value: value & unwanted == 0
    if op == "in" or (isinstance(right, list) and kind in BITS):
        bits = flags(right, kind)
        if op == "!=":
            return lambda value: value & bits == 0
        return lambda value: value & bits != 0
    if kind == "ifname" and isinstance(right, str) and right.endswith("\\*"):
        literal = right[:-2] + "*"
        return lambda value: (value == literal) != inverted
    if kind == "ifname" and isinstance(right, str) and right.endswith("*"):
        start = right[:-1]
        return lambda value: value.startswith(start) != inverted
    if isinstance(right, list):
        wanted = flags(right, kind)
        return lambda value: (value == wanted) != inverted
    fixed = constant(right, kind)
    if kind in ("ct_state", "ct_status") and op == "==" and isinstance(right, str):
        return lambda value: bool(value & fixed)
    return lambda value: (value == fixed) != inverted


def _operation(getter: Callable[[Packet, HookState], Any], test: Test, op: str) -> Operation:
    def operation(p: Packet, s: HookState) -> Verdict:
        value = getter(p, s)
        if value is BREAK:
            return STOP
        if value.__class__ is Vague or value.__class__ is tuple:
            vague = vague_in(value)
            if vague is not None:
                return NEXT if _guess(vague, test, op, s) else STOP
        return NEXT if test(value) else STOP

    return operation


def _guess(vague: Vague, test: Test, op: str, s: HookState) -> bool:
    """A value that nobody knows: one of its few options, else both ways; a checksum equals no constant by chance."""
    if vague.options:
        return test(vague.options[s.walk.choices.pick(len(vague.options))])
    if vague.what == CHECKSUM and op in ("==", "in", "!="):
        s.walk.assume("a checksum equals none of the numbers that rules compare it with")
        return op == "!="
    return s.walk.uncertain(f"nft {vague.what}")


def _two_sided(
    left: Callable[[Packet, HookState], Any], right: Callable[[Packet, HookState], Any], op: str
) -> Operation:
    order: Callable[[Any, Any], bool] = ORDER.get(op, operator.ne if op == "!=" else operator.eq)

    def operation(p: Packet, s: HookState) -> Verdict:
        a, b = left(p, s), right(p, s)
        if a is BREAK or b is BREAK:
            return STOP
        for value in (a, b):
            vague = vague_in(value)
            if vague is not None:
                return NEXT if s.walk.uncertain(f"nft {vague.what}") else STOP
        return NEXT if order(a, b) else STOP

    return operation
