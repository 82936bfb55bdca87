"""Two traces of like packets: where their ways part, and why.

The functions are aligned from the start; in a listing with gaps, and where one side lists functions that the other
does not know, alignment goes on at the next function that both have. The first step after which they cannot be aligned
is the parting: the last function that both passed, and what each did next. What explains it is read off the
catalogue and off the steps' own numbers: a packet larger than the MTU, a drop reason, another namespace or device, a
changed tuple or mark.
"""

from __future__ import annotations

from difflib import SequenceMatcher

import msgspec

from deadhop.model import drop_reasons, kernel_functions
from deadhop.model.kernel_functions import KernelFunction
from deadhop.model.observed.packets import SkbStep, SkbTrace

#: A function that tells the sender; an error that quotes the packet starts here.
_ERRORS = ("icmp_send", "__icmp_send", "icmp6_send", "icmp_ndo_send", "nf_send_unreach")
#: Where a packet's own way ends.
_ENDS = ("kfree_skb", "kfree_skb_reason", "sk_skb_reason_drop")
_DELIVERED = ("skb_consume_udp", "__udp_enqueue_schedule_skb", "tcp_data_queue", "tcp_rcv_established")


class Parting(msgspec.Struct, frozen=True, kw_only=True):
    """The step where two ways part. ``last`` is the last common function, ``a`` and ``b`` what each did next (None:
    its trace ends)."""

    last: SkbStep
    last_b: SkbStep
    a: SkbStep | None
    b: SkbStep | None


class TraceDiff(msgspec.Struct, frozen=True, kw_only=True):
    """``common`` counts the functions passed alike before the parting; ``parting`` is None where the ways are the
    same. ``reasons`` explain it, best first; ``ends`` tell how each way ended; ``causes`` are slugs."""

    common: int
    parting: Parting | None
    reasons: tuple[str, ...] = ()
    ends: tuple[str, str] = ("", "")
    causes: tuple[str, ...] = ()
    gaps: bool = False
    packets: tuple[int, int] = (1, 1)


def compare(first: list[SkbTrace], second: list[SkbTrace]) -> TraceDiff:
    """Compares the two traces among ``first`` and ``second`` that are most alike; both lists have at least one."""
    a, b = max(
        ((x, y) for x in first for y in second),
        key=lambda pair: (_likeness(*pair), len(pair[0].steps) + len(pair[1].steps)),
    )
    gaps = a.edited or b.edited
    pairs = _aligned(a, b, gaps)
    ends = (_end(a), _end(b))
    packets = (len(first), len(second))
    if not pairs:
        only = Parting(last=a.steps[0], last_b=b.steps[0], a=a.steps[0], b=b.steps[0])
        return TraceDiff(
            common=0,
            parting=only,
            reasons=("they have no function in common",),
            ends=ends,
            gaps=gaps,
            packets=packets,
        )
    i, j = pairs[-1]
    after_a, after_b = _next(a, i), _next(b, j)
    if after_a is None and after_b is None:
        return TraceDiff(common=len(pairs), parting=None, ends=ends, gaps=gaps, packets=packets)
    parting = Parting(last=a.steps[i], last_b=b.steps[j], a=after_a, b=after_b)
    reasons = _reasons(a, b, i, j, parting)
    return TraceDiff(
        common=len(pairs), parting=parting, reasons=tuple(reasons), ends=ends, causes=_causes(parting, reasons),
        gaps=gaps, packets=packets,
    )  # fmt: skip


def _likeness(a: SkbTrace, b: SkbTrace) -> float:
    same = a.steps[0].tuple == b.steps[0].tuple and a.steps[0].tuple != ""
    return (2.0 if same else 0.0) + SequenceMatcher(None, _names(a), _names(b), autojunk=False).ratio()


def _names(trace: SkbTrace) -> list[str]:
    return [step.func.partition(".")[0] for step in trace.steps]


def _aligned(a: SkbTrace, b: SkbTrace, gaps: bool) -> list[tuple[int, int]]:
    """Pairs of steps that the two have in common, up to the parting.

    A stretch that one side alone lists ends the alignment unless it is a detour: both meet again soon, and in the same
    namespace and on neither side with an ICMP error or the packet's end. In listings with gaps the last function that
    both list before such an event counts, whatever is missing between.
    """
    names_a, names_b = _names(a), _names(b)
    pairs: list[tuple[int, int]] = []
    for block in SequenceMatcher(None, names_a, names_b, autojunk=False).get_matching_blocks():
        if not block.size:
            continue
        i, j = pairs[-1] if pairs else (-1, -1)
        between = (*names_a[i + 1 : block.a], *names_b[j + 1 : block.b])
        if pairs and any(name in _ERRORS or name in _ENDS for name in between):
            break
        if pairs and between and not gaps and len(between) > 6:
            break
        pairs += [(block.a + k, block.b + k) for k in range(block.size)]
    return pairs


def _next(trace: SkbTrace, place: int) -> SkbStep | None:
    return trace.steps[place + 1] if place + 1 < len(trace.steps) else None


def _end(trace: SkbTrace) -> str:
    """How a way ended, as far as it is listed."""
    names = _names(trace)
    for step in reversed(trace.steps):
        if step.func in _ENDS:
            return f"dropped ({step.reason.removeprefix(drop_reasons.PREFIX)})" if step.reason else "dropped"
    if any(name in _DELIVERED for name in names):
        return "delivered"
    if any(name in _ERRORS for name in names):
        return "answered with an ICMP error"
    if "consume_skb" in names:
        return "consumed"
    return f"last seen in {trace.steps[-1].func}"


def _reasons(a: SkbTrace, b: SkbTrace, i: int, j: int, parting: Parting) -> list[str]:
    found: list[str] = []
    for side, other, after in (
        (parting.last, parting.last_b, parting.a),
        (parting.last_b, parting.last, parting.b),
    ):
        if _too_big(side) and not _too_big(other):
            found.append(
                f"in {side.func}: len {side.len} > mtu {side.mtu}, where the other has mtu {other.mtu}"
            )
        elif after and after.func in _ERRORS and side.len and after.mtu and side.len > after.mtu:
            found.append(f"in {side.func}: len {side.len} > mtu {after.mtu}")
    for trace, place in ((a, i), (b, j)):
        for step in trace.steps[place : place + 12]:
            reason = drop_reasons.find(step.reason) if step.reason else None
            if reason:
                found.append(f"{reason.name}: {reason.means}")
                break
    found += _way_out(a, b, i, j, found)
    for what in ("len", "mtu", "mark", "netns", "dev", "ifindex", "proto"):
        left, right = getattr(parting.last, what), getattr(parting.last_b, what)
        told = any(f" {what} " in text for text in found)
        if left not in (None, "") and right not in (None, "") and left != right and not told:
            found.append(f"{what} {left} against {right} in {parting.last.func}")
    return list(dict.fromkeys(found))


def _way_out(a: SkbTrace, b: SkbTrace, i: int, j: int, found: list[str]) -> list[str]:
    """A step's mtu is that of the device that the skb is at; the way out, which decided, shows in the trace that went
    on: the next device in the same namespace."""
    if not any(text.startswith("PKT_TOO_BIG") for text in found):
        return []
    for trace, place, other in ((a, i, b.steps[j]), (b, j, a.steps[i])):
        last = trace.steps[place]
        for step in trace.steps[place + 1 :]:
            if step.netns == last.netns and step.ifindex and step.ifindex != last.ifindex and step.mtu:
                if other.len and last.len and last.len <= step.mtu < other.len:
                    out = step.dev or f"ifindex {step.ifindex}"
                    return [
                        f"the way out is {out} with mtu {step.mtu}: len {last.len} fits, len {other.len} does not"
                    ]
                break
    return []


def _too_big(step: SkbStep) -> bool:
    return step.len is not None and step.mtu is not None and 0 < step.mtu < step.len


def _row(step: SkbStep | None) -> KernelFunction | None:
    return kernel_functions.find(step.func) if step else None


def _causes(parting: Parting, reasons: list[str]) -> tuple[str, ...]:
    """Causes of the drop reason first, then of the functions at the parting."""
    found: list[str] = []
    for text in reasons:
        reason = drop_reasons.REASONS.get(text.partition(":")[0])
        found += reason.causes if reason else ()
    if not found:
        rows = [_row(parting.last)] if any(" > mtu " in text for text in reasons) else []
        rows += [
            row for row in (_row(parting.a), _row(parting.b)) if row and (row.drops or row.part == "icmp")
        ]
        found += [slug for row in rows if row for slug in row.causes]
    return tuple(dict.fromkeys(found))[:4]


def text(found: TraceDiff, a: str = "A", b: str = "B") -> str:
    """The comparison as a person reads it."""
    if found.parting is None:
        return f"The same {found.common} functions in the same order; both {found.ends[0]}."
    parting = found.parting
    listed = "listed functions" if found.gaps else "functions"
    lines = [f"{found.common} {listed} in common; the ways part after {parting.last.func}:"]
    for name, step, end in ((a, parting.a, found.ends[0]), (b, parting.b, found.ends[1])):
        row = _row(step)
        means = f"  ({row.means})" if row else ""
        lines.append(f"  {name}: {step.func if step else 'nothing more'}{means}; {end}")
    last = _row(parting.last)
    if last:
        lines.append(f"{parting.last.func} {last.means} ({last.file})")
    lines += [
        f"  because {reason}" if number == 0 else f"  also {reason}"
        for number, reason in enumerate(found.reasons)
    ]
    if not found.reasons:
        lines.append("  the metadata of the two is alike up to there; nothing in it tells why")
    if found.causes:
        lines.append(f"Related: {', '.join(found.causes)}  (deadhop explain SLUG)")
    if found.packets != (1, 1):
        lines.append(f"Compared the two most alike of {found.packets[0]} and {found.packets[1]} packets.")
    return "\n".join(lines)
