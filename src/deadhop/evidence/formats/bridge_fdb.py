"""``bridge fdb show``: behind which tunnel end a link-layer address lies (iproute2 bridge/fdb.c; with ``dev`` where all devices are shown)."""

from __future__ import annotations

import re

from deadhop.evidence.asked import option
from deadhop.evidence.fields import is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.message import Message
from deadhop.model.record import Record

_LINE = re.compile(
    r"^\s*(?P<mac>(?:[\da-f]{2}:){5}[\da-f]{2}) (?:dev (?P<dev>[\w.@-]+) )?(?:\w+ )*?dst (?P<dst>[\da-fA-F.:]+)(?: .*)?$"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _LINE.match(lines.text[i])
    if match is None or not is_ip(match["dst"]):
        return i, []
    argv = context.command.argv if context.command and context.ran("bridge") else ()
    dev = match["dev"] or option(argv, "dev", "brport")
    fields = (("mac", match["mac"]), ("dst", match["dst"]), ("dev", dev))
    return i + 1, [
        Message(source=lines.source(i), where=context.where, emitter="bridge", kind="tunnel-peer", fields=fields, text=lines.text[i].strip())
    ]  # fmt: skip


FORMAT = LineFormat("bridge-fdb", _LINE, _read, priority=19)
