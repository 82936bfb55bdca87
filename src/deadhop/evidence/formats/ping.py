"""``ping`` runs, and what a person noted of one behind its command (``ping -s 1361 fails``)."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.node import Ping
from deadhop.model.record import Record

_HEAD = re.compile(
    r"^PING (?P<name>[^\s(]+) ?\((?P<ip>[^)]+)\)(?: from \S+(?: \S+)?:)?[^\d]*(?P<size>\d+)(?:\((?P<total>\d+)\))?(?: (?:data )?bytes)?"
)
_REPLY = re.compile(r"^\d+ bytes from ")
_SUMMARY = re.compile(r"(?P<sent>\d+) packets transmitted, (?P<got>\d+)(?: packets)? received")
_TOO_LONG = re.compile(r"message too long|Frag needed|Packet too big|local error", re.I)
_UNREACHABLE = re.compile(
    r"Destination (?:Host|Net) Unreachable|Network is unreachable|Operation not permitted", re.I
)
#: ENOBUFS: the neighbour table has no entry to give, or the device's queue is full.
_NO_BUFFER = re.compile(r"sendmsg: No buffer space available", re.I)
_BAD = re.compile(
    r"^ping6?: (?:bad address|unknown host|.*Name or service not known|.*Temporary failure)\W*(?P<name>[\w.-]+)?"
)
_NOTE = re.compile(
    r"^\s*(?:[$#] )?ping6? (?P<args>.*?-s ?(?P<size>\d+).*?)\s+(?:->|=>|:)?\s*(?P<verdict>works?|ok|succeeds?|passes|fails?|lost|100% (?:packet )?loss|times? out|no reply)\b",
    re.I,
)
_START = re.compile(
    r"^PING |^--- \S+ ping6? statistics|^ping6?: |^\s*(?:[$#] )?ping6? .*\b(works?|ok|succeeds?|passes|fails?|lost|loss|times? out|no reply)\b|^\d+ bytes from|packets transmitted"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    if match := _BAD.match(line.strip()):
        return i + 1, [
            Ping(
                source=lines.source(i),
                where=context.where,
                target=match["name"] or "",
                ok=False,
                error="unresolved",
                text=line.strip(),
            )
        ]
    start = i
    target = name = ""
    size: int | None = None
    ok: bool | None = None
    error = ""
    argv = context.command.argv if context.command and context.ran("ping", "ping6") else ()
    seen = False
    while i < len(lines.text):
        line = lines.text[i].strip()
        if match := _HEAD.match(line):
            if seen and target:
                break
            target, size, name = match["ip"], int(match["size"]), match["name"]
        elif _REPLY.match(line):
            ok = True
        elif match := _SUMMARY.search(line):
            ok = int(match["got"]) > 0
            error = "" if ok else error or "lost"
        elif _TOO_LONG.search(line):
            ok, error = False, "too-long"
        elif _UNREACHABLE.search(line):
            ok, error = False, "unreachable"
        elif _NO_BUFFER.search(line):
            ok, error = False, "no-buffer"
        elif not re.match(r"^(rtt|round-trip|---|$|From |ping: )", line) or (
            not line
            and not _SUMMARY.search(lines.text[i + 1] if i + 1 < len(lines.text) else "")
            and not (i + 1 < len(lines.text) and lines.text[i + 1].startswith("---"))
        ):
            break
        seen = True
        i += 1
    if not seen:
        return start, []
    if size is None:
        size, target = _asked(argv, target)
    df = any("do" in a for a in argv if a in ("do", "-Mdo")) or "-D" in argv
    return i, [
        Ping(
            source=lines.source(start, i - 1),
            where=context.where,
            target=target,
            name=name,
            size=size,
            df=df,
            ok=ok,
            error=error,
            text=lines.text[start].strip(),
        )
    ]


def _asked(argv: tuple[str, ...], target: str) -> tuple[int | None, str]:
    """Payload size and target of the command line, for output whose first line was cut off."""
    joined = re.search(r"(?:^| )-s ?(\d{1,5})(?: |$)", " ".join(argv))
    named = next((a for a in reversed(argv[1:]) if not a.startswith("-") and re.search(r"[.:]", a)), "")
    return (int(joined[1]) if joined else None), target or named


def _read_note(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    if match := _NOTE.match(line):
        works = match["verdict"].lower().startswith(("work", "ok", "succ", "pass"))
        return i + 1, [
            Ping(
                source=lines.source(i),
                where=context.where,
                size=int(match["size"]),
                df="-M do" in match["args"],
                ok=works,
                error="" if works else "lost",
                text=line.strip(),
            )
        ]
    return i, []


FORMATS = (
    LineFormat("ping", _START, _read, priority=28),
    LineFormat("ping-note", _NOTE, _read_note, priority=10),
)
