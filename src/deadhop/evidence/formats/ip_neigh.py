"""``ip neigh`` text."""

from __future__ import annotations

import re

from deadhop.evidence.fields import is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.net import Neighbour
from deadhop.model.record import Record

_STATES = "REACHABLE|STALE|DELAY|PROBE|FAILED|INCOMPLETE|PERMANENT|NOARP|NONE"
_LINE = re.compile(
    rf"^\s*(?P<dst>[0-9a-fA-F.:]+) dev (?P<dev>[\w.@-]+)(?: lladdr (?P<mac>(?:[0-9a-f]{{2}}:){{5}}[0-9a-f]{{2}}))?(?: \w+)*? (?P<state>{_STATES})\s*$"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _LINE.match(lines.text[i])
    if match is None or not is_ip(match["dst"]):
        return i, []
    return i + 1, [
        Neighbour(
            source=lines.source(i),
            where=context.where,
            dst=match["dst"],
            dev=match["dev"],
            lladdr=match["mac"],
            state=(match["state"],),
        )
    ]


FORMAT = LineFormat(
    "ip-neigh", re.compile(rf"^\s*[0-9a-fA-F.:]+ dev \S+.* (?:{_STATES})\s*$"), _read, priority=19
)
