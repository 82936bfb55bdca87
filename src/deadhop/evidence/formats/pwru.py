"""pwru text in both layouts (before and since 1.0.7), edited or not, and JSON lines (``--output-json``).

Before 1.0.7: ``0xffff… 0 [curl] ip_forward netns=4026531992 mark=0x0 ifindex=5 proto=8 mtu=1500 len=2379 tuple``.
Since 1.0.7 the columns are ``SKB CPU PROCESS NETNS MARK/x IFACE PROTO MTU LEN TUPLE FUNC``. An excerpt may hold the
function and the ``key=value`` words alone.
"""

from __future__ import annotations

import re
from typing import Any

from deadhop.evidence.fields import integer
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.skb_traces import number, read_lines, split_reason, tuple_text
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
    rf"^\s*(?:\d{{4}}-\d\d-\d\dT[\d:.]+\s+)?(?P<skb>0x[0-9a-f]+)\s+(?P<cpu>\d+)\s+(?P<process>\S+)\s+(?:(?:\d+\s+)?(?P<netns>\d+)\s+(?P<mark>\S+)\s+(?P<iface>\S+)\s+(?P<proto>0x[0-9a-f]{{4}}|\d+)\s+(?P<mtu>\d+)\s+(?P<len>\d+)\s+)?(?P<tuple>\S+->\S+)\s+(?P<func>{_FUNC})(?:\((?P<reason>SKB_\w+)\))?(?:\s+{_FUNC})?\s*$"
)
_GAP = re.compile(r"^\s*(\.{3}|…)\s*$")
_HEADER = re.compile(r"^\s*(?:TIME\s+)?SKB\s+CPU\s+PROCESS\s")
_START = re.compile(
    r"\b(?:netns|ifindex)=\d+.*\b(?:len|mtu)=\d+|^\s*(?:\d{4}-\d\d-\d\dT[\d:.]+\s+)?0x[0-9a-f]{8,16}\s+\d+\s+\S+\s|^\s*(?:TIME\s+)?SKB\s+CPU\s+PROCESS\s"
)
_JSON = re.compile(
    r'^\s*\{"(?:skb|cpu|process|func)":.*"func":"|^\s*\{"func":"|^\s*\{.*"skb": *".*"func": *"'
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


def _mine(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("func"), str)
        and bool(value.keys() & {"skb", "tuple"})
    )


def _json_step(value: dict[str, Any], line: int) -> tuple[str, SkbStep]:
    tup = value.get("tuple")
    if isinstance(tup, dict):
        ends = (str(tup.get("saddr", "")), str(tup.get("daddr", "")))
        tup = tuple_text(*ends, tup.get("sport"), tup.get("dport"), number(tup.get("proto")))
    name, _, index = str(value.get("iface", value.get("ifindex", ""))).partition(":")
    if name.isdigit():
        name, index = "", name
    func, reason = split_reason(str(value["func"]))
    return str(value.get("skb", "")), SkbStep(
        func=func, line=line, netns=number(value.get("netns")), dev=name, ifindex=integer(index) or None, proto=number(value.get("proto")),
        mtu=number(value.get("mtu")), len=number(value.get("len")), mark=number(value.get("mark", 0)), tuple=str(tup or ""),
        reason=reason or str(value.get("reason", "")),
    )  # fmt: skip


def _json_lines(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    return read_lines(lines, i, context, _json_step, _mine)


FORMATS = (
    LineFormat("pwru", _START, _read, priority=15),
    LineFormat("pwru-json", _JSON, _json_lines, priority=12),
)
