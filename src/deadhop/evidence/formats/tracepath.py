"""``tracepath``: the path MTU that it found, which is also what the kernel then knows of the route."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.node import RouteGet
from deadhop.model.record import Record

_HOP = re.compile(r"^\s*\d+\??:\s+(?:\[LOCALHOST\]|no reply|send failed|\S+)(?:\s|$).*$")
_RESUME = re.compile(r"^\s*(?:Resume:|Too many hops:) pmtu (?P<mtu>\d{2,5})\b")
_TARGET = re.compile(r"^(?:\d{1,3}(?:\.\d{1,3}){3}|[\da-f]*:[\da-f:]+)$", re.I)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    start = i
    while i < len(lines.text) and i < start + 40 and _HOP.match(lines.text[i]):
        i += 1
    resume = _RESUME.match(lines.text[i]) if i < len(lines.text) else None
    told = [int(m[1]) for row in lines.text[start:i] if (m := re.search(r"\bpmtu (\d{2,5})\b", row))]
    if resume is None and (not told or i - start < 2):
        return start, []
    last = i if resume else i - 1
    mtu = int(resume["mtu"]) if resume else min(told)
    argv = context.command.argv if context.command and context.ran("tracepath", "tracepath6") else ()
    target = next((a for a in reversed(argv[1:]) if _TARGET.match(a)), "")
    if not target:
        # A name was asked for: the address of the last hop, where it was reached.
        reached = [
            m[1] for row in lines.text[start:i] if (m := re.match(r"^\s*\d+:\s+(\S+)\s.*\breached\b", row))
        ]
        target = next((r for r in reached if _TARGET.match(r)), "")
    return last + 1, [
        RouteGet(
            source=lines.source(start, last),
            where=context.where,
            dst=target,
            mtu=mtu,
            expires=True,
        )
    ]


FORMAT = LineFormat("tracepath", re.compile(r"^\s*1\?:\s+\[LOCALHOST\]|^\s*Resume: pmtu"), _read, priority=18)
