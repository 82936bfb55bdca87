"""The catalogue of log messages: what known programs write in known situations, one file per program.

An entry is a pattern with named groups, a kind, and where the text comes from. The record keeps the groups as
fields, so that a cause reads values and never text. A digit at the end of a group's name marks another place where the
same field may stand (``mtu`` and ``mtu2``); the record has it under the plain name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import digits

from deadhop.evidence.fields import rfc3339, syslog_time
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.message import Message
from deadhop.model.record import Record

#: What stands before the time in a log line: a bracket, or logfmt's key.
_BEFORE_TIME = re.compile(r"^[\[\s]*(?:(?:time|ts|timestamp)=\"?)?")


@dataclass(frozen=True, slots=True)
class Entry:
    """One message. ``kind`` is kebab-case and names the situation; ``reference`` the program's source or manual."""

    kind: str
    pattern: re.Pattern[str]
    reference: str


def entry(kind: str, pattern: str, reference: str) -> Entry:
    return Entry(kind, re.compile(pattern), reference)


def catalogue(emitter: str, entries: tuple[Entry, ...], priority: int = 40) -> LineFormat:
    """The format that reads the messages of one program."""
    start = re.compile("|".join(f"(?:{re.sub(r'[?]P<[^>]+>', '?:', e.pattern.pattern)})" for e in entries))

    def read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
        line = lines.text[i]
        for known in entries:
            if match := known.pattern.search(line):
                fields = tuple((k.rstrip(digits), v.strip()) for k, v in match.groupdict().items() if v)
                when = rfc3339(_BEFORE_TIME.sub("", line)[:40]) or syslog_time(line[:40], context.year)
                return i + 1, [
                    Message(
                        source=lines.source(i),
                        where=context.where,
                        time=when,
                        emitter=emitter,
                        kind=known.kind,
                        fields=fields,
                        text=line.strip()[:500],
                    )
                ]
        return i, []

    return LineFormat(f"messages-{emitter}", start, read, priority)
