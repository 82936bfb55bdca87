"""Lines of sysctl files as ``grep`` prints them, with the file in front."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.formats.sysctl import normal
from deadhop.model.observed.node import SysctlSetting
from deadhop.model.record import Record

_LINE = re.compile(
    r"^\s*(?P<path>/(?:etc|usr/lib|lib|run|usr/local/lib)/[\w./@-]+):(?:\d+:)?\s*(?P<dash>-)?(?P<key>net[./][\w./*@-]+)\s*(?:=\s*(?P<value>\S.*?)\s*)?$"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _LINE.match(lines.text[i])
    if match is None or not (match["value"] or match["dash"]):
        return i, []
    return i + 1, [
        SysctlSetting(
            source=lines.source(i),
            where=context.where,
            key=normal(match["key"]),
            value=match["value"] or "",
            path=match["path"],
            ignore_errors=bool(match["dash"]),
            exclude=not match["value"],
        )
    ]


FORMAT = LineFormat("sysctl-grep", re.compile(r"^\s*/[\w./@-]+:(?:\d+:)?\s*-?net[./]"), _read, priority=29)
