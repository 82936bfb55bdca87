"""The number that ``… | grep -c PATTERN`` or ``… | wc -l`` prints: how many lines a listing has; rows of ``wc -c FILES``."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.shell import LineCount
from deadhop.model.record import Record

_NUMBER = re.compile(r"^\s*\d{1,9}\s*$")
#: awk that adds up the lengths of the lines.
_SUM = re.compile(r"^[gm]?awk\s+'[^']*\+=\s*length\b[^']*END\s*\{\s*print\s+\w+\s*;?\s*\}'$")
_FILE = re.compile(r"^\s*(?P<count>\d{1,9})\s+(?P<name>[\w./-]+)\s*$")
_WC = re.compile(r"\bwc\s+-(?P<unit>[cl])\s+[^\s|;]")
_GREP = re.compile(
    r"^[ef]?grep\s+(?:-\S+\s+)*?-\w*c\w*\s+(?:-\S+\s+)*(?P<pattern>'[^']*'|\"[^\"]*\"|\S+)\s*$"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    run = context.command
    if run is None or not run.filters or not _NUMBER.match(lines.text[i]):
        return i, []
    last = run.filters[-1].strip()
    grep = _GREP.match(last)
    bytes_ = last == "wc -c" or bool(_SUM.match(last))
    if grep is None and last != "wc -l" and not bytes_:
        return i, []
    pattern = grep["pattern"].strip("'\"") if grep else ""
    count = LineCount(
        source=lines.source(i),
        where=context.where,
        program=run.program,
        count=int(lines.text[i]),
        pattern=pattern,
        unit="bytes" if bytes_ else "lines",
        command=run.line,
    )
    return i + 1, [count]


def _read_file(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    run = context.command
    asked, match = _WC.search(run.line) if run else None, _FILE.match(lines.text[i])
    if run is None or asked is None or match is None:
        return i, []
    if match["name"] == "total":
        return i + 1, []
    unit = "bytes" if asked["unit"] == "c" else "lines"
    count = LineCount(
        source=lines.source(i),
        where=context.where,
        program=run.program,
        count=int(match["count"]),
        unit=unit,
        command=run.line,
        name=match["name"],
    )
    return i + 1, [count]


FORMATS = (
    LineFormat("line-count", _NUMBER, _read, priority=15),
    LineFormat("file-count", _FILE, _read_file, priority=15),
)
