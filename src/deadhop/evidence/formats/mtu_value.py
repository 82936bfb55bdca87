"""An MTU by itself: what ``grep -o 'mtu [0-9]*'`` leaves of a listing, and what ``/sys/class/net/DEV/mtu`` holds."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.net import Link
from deadhop.model.record import Record

_LINE = re.compile(r"^\s*(?:mtu )?(?P<mtu>\d{3,5})\s*$")
_SYS = re.compile(r"^/sys/class/net/(?P<dev>[\w.@-]+)/mtu$")


def _devices(context: Context) -> list[str]:
    """The devices that the command asks for, in the order of its lines of output."""
    run = context.command
    if run is None:
        return []
    if context.ran("cat", "grep", "head"):
        return [m["dev"] for word in run.argv[1:] if (m := _SYS.match(word))]
    if context.ran("ip") and "link" in run.argv and any("mtu" in f for f in run.filters):
        words = [w for w in run.argv[run.argv.index("link") + 1 :] if w not in ("show", "list", "ls", "dev")]
        return words[:1]
    return []


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    records: list[Record] = []
    for dev in _devices(context):
        match = _LINE.match(lines.text[i]) if i < len(lines.text) else None
        if match is None:
            break
        records.append(Link(source=lines.source(i), where=context.where, ifname=dev, mtu=int(match["mtu"])))
        i += 1
    return i, records


FORMAT = LineFormat("mtu-value", _LINE, _read, priority=12)
