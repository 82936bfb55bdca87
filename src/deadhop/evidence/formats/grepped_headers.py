"""Response headers that grep left of curl's or wget's output: ``curl -sv … 2>&1 | grep -i NAME``, directly behind the command."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.formats.curl import split, target
from deadhop.model.observed.http import HttpExchange
from deadhop.model.record import Record

_HEADER = re.compile(r"^\s{0,4}(?:< ?)?(?P<name>[A-Za-z][\w-]{1,60}): ?(?P<value>\S[^\r\n]{0,400}?)\s*$")
_SHOWS = re.compile(r"\s(?:-\w*[viID]\w*|--verbose|--include|--head|--dump-header)(?:\s|$)|\bwget\b.*\s-\w*S")
_FOLLOWS = re.compile(r"\s(?:-\w*L\w*|--location)(?:\s|$)|\bwget\b")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    run = context.command
    if (
        run is None
        or run.program not in ("curl", "wget")
        or max(run.source.line, run.source.end) + 1 != lines.first + i
    ):
        return i, []  # fmt: skip
    typed = run.line.partition("|")[0]
    if not any("grep" in f for f in run.filters) or not _SHOWS.search(typed) or _FOLLOWS.search(typed):
        return i, []
    found: list[tuple[str, str]] = []
    end = i
    while end < len(lines.text) and (match := _HEADER.match(lines.text[end])):
        found.append((match["name"].lower(), match["value"]))
        end += 1
    url, host, method, _verbose = target(run.argv)
    name, port = split(url) if url else ("", None)
    if not found or not url:
        return i, []
    return end, [
        HttpExchange(source=lines.source(i, end - 1), where=context.where, tool="curl", url=url, method=method, host=host or name, port=port, headers=tuple(found))
    ]  # fmt: skip


FORMAT = LineFormat("grepped-headers", _HEADER, _read, priority=13)
