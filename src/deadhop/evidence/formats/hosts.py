"""``/etc/hosts`` (hosts(5)): read behind a command that shows it, or where a whole block looks like it."""

from __future__ import annotations

import re

from deadhop.evidence.fields import is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.dns import HostsEntry
from deadhop.model.record import Record

_LINE = re.compile(r"^(?P<address>[0-9a-fA-F.:]{2,45})[ \t]+(?P<names>[A-Za-z0-9_][\w .\t-]*?)\s*(?:#.*)?$")
_KNOWN = frozenset(
    ("localhost", "ip6-localhost", "ip6-loopback", "ip6-allnodes", "ip6-allrouters", "ip6-localnet")
)


def _entry(lines: Lines, i: int, context: Context) -> HostsEntry | None:
    match = _LINE.match(lines.text[i])
    if match is None or not is_ip(match["address"]):
        return None
    return HostsEntry(
        source=lines.source(i),
        where=context.where,
        address=match["address"],
        names=tuple(match["names"].split()),
    )


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    told = context.command is not None and any(word.endswith("/hosts") for word in context.command.argv)
    start, records = i, list[Record]()
    while i < len(lines.text):
        if lines.text[i].lstrip().startswith("#") and records:
            i += 1
            continue
        entry = _entry(lines, i, context)
        if entry is None:
            break
        records.append(entry)
        i += 1
    certain = any(set(r.names) & _KNOWN for r in records if isinstance(r, HostsEntry))
    return (i, records) if records and (told or certain) else (start, [])


FORMAT = LineFormat(
    "hosts", re.compile(r"^[0-9a-fA-F]*[.:][0-9a-fA-F.:]+[ \t]+[A-Za-z0-9_]"), _read, priority=60
)
