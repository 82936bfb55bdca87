"""pwru text in both layouts (before and since 1.0.7), edited or not, and JSON lines.

Before 1.0.7: ``0xffff… 0 [curl] ip_forward netns=4026531992 mark=0x0 ifindex=5 proto=8 mtu=1500 len=2379 tuple``.
Since 1.0.7 the columns are ``SKB CPU PROCESS NETNS MARK/x IFACE PROTO MTU LEN TUPLE FUNC``. An excerpt may hold the
function and the ``key=value`` words alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deadhop.evidence.fields import integer
from deadhop.evidence.format import Context, LineFormat, Lines, Locate, ValueFormat
from deadhop.model.observed.packets import SkbStep, SkbTrace
from deadhop.model.record import Record

_FUNC = r"[A-Za-z_][\w.]*(?:\[[\w-]+\])?"
_OLD = re.compile(
    rf"^\s*(?:(?P<skb>0x[0-9a-f]+)\s+(?P<cpu>\d+)\s+\[?(?P<process>[^\]\s]+(?: [^\]]*)?)\]?\s+)?(?P<func>{_FUNC})(?:\((?P<reason>SKB_\w+)\))?\s+(?P<words>(?:netns|mark|ifindex|proto|mtu|len)=.*)$"
)
_BARE_OLD = re.compile(
    rf"^\s*(?P<skb>0x[0-9a-f]{{8,16}})\s+(?P<cpu>\d+)\s+\[?(?P<process>\S+?)\]?\s+(?P<func>{_FUNC})(?:\((?P<reason>SKB_\w+)\))?(?:\s+(?P<tuple>\S+->\S+))?\s*$"
)
_NEW = re.compile(
    rf"^\s*(?P<skb>0x[0-9a-f]+)\s+(?P<cpu>\d+)\s+(?P<process>\S+)\s+(?:(?P<netns>\d{{6,}})\s+(?P<mark>\S+)\s+(?P<iface>\S+)\s+(?P<proto>0x[0-9a-f]{{4}}|\d+)\s+(?P<mtu>\d+)\s+(?P<len>\d+)\s+)?(?P<tuple>\S+->\S+)\s+(?P<func>{_FUNC})(?:\((?P<reason>SKB_\w+)\))?\s*$"
)
_GAP = re.compile(r"^\s*(\.{3}|…)\s*$")
_HEADER = re.compile(r"^\s*SKB\s+CPU\s+PROCESS\s")
_START = re.compile(
    r"\b(?:netns|ifindex)=\d+.*\b(?:len|mtu)=\d+|^\s*0x[0-9a-f]{8,16}\s+\d+\s+\S+\s|^\s*SKB\s+CPU\s+PROCESS\s"
)


def _step(line: str, number: int) -> tuple[str, SkbStep] | None:
    if match := _OLD.match(line):
        words = dict(w.partition("=")[::2] for w in match["words"].split() if "=" in w)
        tail = next((w for w in match["words"].split() if "->" in w), "")
        index = words.get("ifindex", "")
        return match["skb"] or "", SkbStep(
            func=match["func"].partition("[")[0], line=number, netns=integer(words.get("netns")), ifindex=integer(index), dev=words.get("iface", ""),
            proto=integer(words.get("proto")), mtu=integer(words.get("mtu")), len=integer(words.get("len")), mark=integer(words.get("mark")), tuple=tail,
            reason=match["reason"] or "",
        )  # fmt: skip
    if match := _NEW.match(line):
        iface = match["iface"] or ""
        name, _, index = iface.partition(":")
        return match["skb"], SkbStep(
            func=match["func"], line=number, netns=integer(match["netns"]), dev="" if name.isdigit() else name, ifindex=integer(index or (name if name.isdigit() else "")),
            proto=integer(match["proto"]), mtu=integer(match["mtu"]), len=integer(match["len"]), mark=integer(match["mark"]), tuple=match["tuple"],
            reason=match["reason"] or "",
        )  # fmt: skip
    if match := _BARE_OLD.match(line):
        return match["skb"], SkbStep(
            func=match["func"], line=number, tuple=match["tuple"] or "", reason=match["reason"] or ""
        )
    return None


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    start = i
    if _HEADER.match(lines.text[i]):
        i += 1
    traces: dict[str, list[SkbStep]] = {}
    edited = False
    end = i
    while i < len(lines.text):
        line = lines.text[i]
        if _GAP.match(line):
            edited = True
        elif found := _step(line, lines.first + i):
            skb, step = found
            traces.setdefault(skb, []).append(step)
            end = i + 1
        else:
            break
        i += 1
    if not traces:
        return start, []
    edited = edited or (start > 0 and bool(_GAP.match(lines.text[start - 1])))
    records: list[Record] = []
    for skb, steps in traces.items():
        at = steps[0].line - lines.first
        records.append(
            SkbTrace(
                source=lines.source(at, steps[-1].line - lines.first),
                where=context.where,
                skb=skb,
                steps=tuple(steps),
                edited=edited,
            )
        )
    return end, records


def _match(value: Any) -> bool:
    return isinstance(value, dict) and "func" in value and bool(value.keys() & {"skb", "netns", "tuple"})


def _read_json(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    tup = value.get("tuple")
    if isinstance(tup, dict):
        tup = f"{tup.get('saddr', '')}:{tup.get('sport', '')}->{tup.get('daddr', '')}:{tup.get('dport', '')}"
    iface = str(value.get("iface", value.get("ifindex", "")))
    step = SkbStep(
        func=str(value["func"]), line=locate().line, netns=integer(str(value.get("netns", ""))), dev="" if iface.isdigit() else iface,
        ifindex=integer(iface) if iface.isdigit() else None, proto=integer(str(value.get("proto", ""))), mtu=integer(str(value.get("mtu", ""))),
        len=integer(str(value.get("len", ""))), mark=integer(str(value.get("mark", ""))), tuple=str(tup or ""), reason=str(value.get("reason", "")),
    )  # fmt: skip
    yield SkbTrace(source=locate(), where=context.where, skb=str(value.get("skb", "")), steps=(step,))


FORMATS = (
    LineFormat("pwru", _START, _read, priority=15),
    ValueFormat("pwru-json", _match, _read_json, priority=12),
)
