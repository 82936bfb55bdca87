"""udev rules (udev(7)), one per line."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.node import UdevRule
from deadhop.model.record import Record

_PART = re.compile(
    r'(?P<key>[A-Z_]+(?:\{[^}]*\})?)\s*(?P<op>==|!=|\+=|-=|:=|=)\s*"(?P<value>(?:[^"\\]|\\.)*)"'
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    start = i
    text = lines.text[i]
    while text.rstrip().endswith("\\") and i + 1 < len(lines.text):
        i += 1
        text = text.rstrip()[:-1] + lines.text[i]
    parts = [(m["key"], m["op"], m["value"]) for m in _PART.finditer(text)]
    if len(parts) < 2:
        return start, []
    path = ""
    if context.command and context.command.program in ("cat", "less", "grep"):
        path = next((a for a in context.command.argv[1:] if a.endswith(".rules")), "")
    record = UdevRule(
        source=lines.source(start, i),
        where=context.where,
        match=tuple(p for p in parts if p[1] in ("==", "!=")),
        assign=tuple(p for p in parts if p[1] not in ("==", "!=")),
        path=path,
        text=text.strip(),
    )
    return i + 1, [record]


FORMAT = LineFormat("udev-rule", re.compile(r'^\s*[A-Z_]+(?:\{[^}]*\})?\s*(==|!=)\s*"'), _read, priority=30)
