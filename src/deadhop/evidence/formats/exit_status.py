"""The exit status that ``…; echo $?`` prints behind a lookup or a dial: zero, or why not."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.shell import Attempt
from deadhop.model.record import Record

_NUMBER = re.compile(r"^\s*(?:(?:rc|exit(?: code| status)?)\s*[=:]\s*)?\d{1,3}\s*$")
_ECHO = re.compile(r";\s*echo\s+\S*\$\?\S*\s*['\")]*\s*$")
_PROGRAMS = ("getent", "nc", "ncat", "curl", "wget", "ping", "nslookup", "host", "dig")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    run = context.command
    if (
        run is None
        or not context.ran(*_PROGRAMS)
        or not _ECHO.search(run.line)
        or not _NUMBER.match(lines.text[i])
    ):
        return i, []
    words = [w.rstrip(";") for w in run.argv[1 : run.argv.index("echo") if "echo" in run.argv else None]]
    named = [
        w
        for w in words
        if w and not w.startswith(("-", "+", "@")) and w not in ("hosts", "ahosts", "ahostsv4")
    ]
    value = int(re.sub(r"\D", "", lines.text[i]))
    return i + 1, [
        Attempt(
            source=lines.source(i), where=context.where, command=" ".join([run.program, *words]), ok=value == 0,
            target=named[0] if named else "", text=lines.text[i].strip(),
        )
    ]  # fmt: skip


FORMAT = LineFormat("exit-status", _NUMBER, _read, priority=12)
