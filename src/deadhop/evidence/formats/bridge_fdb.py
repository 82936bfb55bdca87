"""``bridge fdb show``: behind which tunnel end a link-layer address lies (iproute2 bridge/fdb.c; with ``dev`` where all devices are shown)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deadhop.evidence.asked import option
from deadhop.evidence.fields import is_ip
from deadhop.evidence.format import Context, LineFormat, Lines, Locate, ValueFormat
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


def _rows(value: Any) -> list[dict[str, Any]]:
    rows = [r for r in value if isinstance(r, dict) and "mac" in r] if isinstance(value, list) else []
    return [r for r in rows if is_ip(str(r.get("dst", ""))) and "lladdr" not in r]


def _read_json(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    for row in _rows(value):
        fields = tuple((k, str(row[j])) for k, j in (("mac", "mac"), ("dst", "dst"), ("dev", "ifname")) if j in row)  # fmt: skip
        yield Message(source=locate("dst"), where=context.where, emitter="bridge", kind="tunnel-peer", fields=fields, text=" ".join(v for _k, v in fields))  # fmt: skip


FORMATS = (
    LineFormat("bridge-fdb", _LINE, _read, priority=19),
    ValueFormat("bridge-fdb-json", lambda v: bool(_rows(v)), _read_json, priority=24),
)
