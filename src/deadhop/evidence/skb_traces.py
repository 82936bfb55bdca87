"""JSON objects of one skb event each (pwru, ``deadhop ktrace``, retis), gathered into the traces of single packets.

The tools print one object a line, the packets interleaved; a trace is what one packet's objects say together, in order.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from deadhop.evidence.format import Context, Lines
from deadhop.model.observed.packets import SkbStep, SkbTrace
from deadhop.model.record import Record

#: An object to the packet that it is about and the step; None where it tells of no step.
ToStep = Callable[[dict[str, Any], int], tuple[str, SkbStep] | None]
_REASON = re.compile(r"^(?P<func>[\w.]+)(?:\[[\w-]+\])?\s*\((?P<reason>\w+)\)$")


def read_lines(
    lines: Lines, i: int, context: Context, to_step: ToStep, mine: Callable[[Any], bool]
) -> tuple[int, list[Record]]:
    """Consecutive lines of objects that are ``mine``, or of arrays of them; a line that is cut off or of another kind
    ends them."""
    traces: dict[str, list[SkbStep]] = {}
    start = i
    while i < len(lines.text):
        try:
            value = msgspec.json.decode(lines.text[i])
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
            break
        events = value if isinstance(value, list) and value else [value]
        if not all(map(mine, events)):
            break
        for event in events:
            found = to_step(event, lines.first + i)
            if found:
                traces.setdefault(found[0], []).append(found[1])
        i += 1
    if not traces:
        return start, []
    records: list[Record] = []
    for skb, steps in traces.items():
        source = lines.source(steps[0].line - lines.first, steps[-1].line - lines.first)
        records.append(SkbTrace(source=source, where=context.where, skb=skb, steps=tuple(steps)))
    return i, records


def split_reason(func: str) -> tuple[str, str]:
    """``kfree_skb_reason(SKB_DROP_REASON_X)`` as (function, reason); a module in brackets is left out."""
    match = _REASON.match(func)
    return (match["func"], match["reason"]) if match else (func.partition("[")[0], "")


def number(value: Any) -> int | None:
    """An integer as JSON or as text has it, decimal or hexadecimal."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        try:
            return int(value, 0)
        except ValueError:
            return None
    return None


def tuple_text(src: str, dst: str, sport: Any, dport: Any, proto: Any) -> str:
    """``10.0.0.1:53->10.0.0.2:4000(udp)`` as pwru prints it."""
    if not src and not dst:
        return ""
    left, right = (f"[{a}]" if ":" in a and not a.startswith("[") else a for a in (src, dst))
    named = (
        {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp"}.get(proto)
        if isinstance(proto, int)
        else proto
    )
    return f"{left}:{number(sport) or 0}->{right}:{number(dport) or 0}" + (f"({named})" if named else "")
