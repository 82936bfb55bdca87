"""``nc``, ``ncat`` and ``telnet``: whether a port took the connection."""

from __future__ import annotations

import re

from deadhop.evidence.fields import is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.shell import Attempt
from deadhop.model.record import Record

_WHY = r"(?P<why>Connection refused|Operation timed out|Connection timed out|timed out|No route to host|Network is unreachable|Connection reset by peer|TIMEOUT)"
#: OpenBSD's, the traditional, GNU's, busybox's and nmap's nc, and telnet.
_FAILED = (
    re.compile(
        rf"^(?:nc|netcat|telnet): connect to (?:address )?(?P<to>\S+) port (?P<port>\d+) \((?P<proto>tcp|udp)\) (?:failed: ?{_WHY}|(?P<why2>timed out)(?:: .*)?$)",
        re.I,
    ),
    re.compile(rf"^(?:nc|netcat): (?P<to>\S+) \((?P<ip>[\da-fA-F.:]+?):(?P<port>\d+)\): {_WHY}", re.I),
    re.compile(rf"^(?:nc|netcat): (?P<to>\S+) (?P<port>\d+)(?: \([\w-]+\))?: {_WHY}", re.I),
    re.compile(
        rf"^(?:\(UNKNOWN\)|(?P<to>[\w.-]+)) \[(?P<ip>[\da-fA-F.:]+)\] (?P<port>\d+)(?: \([\w?-]+\))? ?: {_WHY}",
        re.I,
    ),
    re.compile(
        rf"^(?:Ncat|telnet): (?:[Uu]nable to )?connect(?:ion)? to (?:remote host|address (?P<to>[\w.:-]+))?[^:]*: {_WHY}|^Ncat: {_WHY.replace('?P<why>', '?P<why2>')}\.?$",
        re.I,
    ),
)
_OPEN = (
    re.compile(
        r"^Connection to (?P<to>\S+)(?: \((?P<ip>[\da-fA-F.:]+)\))? (?:port )?(?P<port>\d+) (?:port )?\[[^\]]*\] succeeded!?"
    ),
    re.compile(r"^(?P<to>\S+) \((?P<ip>[\da-fA-F.:]+?):(?P<port>\d+)\) open$"),
    re.compile(
        r"^(?:\(UNKNOWN\)|(?P<to>[\w.-]+)) \[(?P<ip>[\da-fA-F.:]+)\] (?P<port>\d+)(?: \([\w?-]+\))? open$"
    ),
    re.compile(r"^Ncat: Connected to (?P<to>[\w.-]+|\[?[\da-f:]+\]?):(?P<port>\d+)\.?$"),
)
_CLASS = {
    "refused": "refused",
    "timed out": "timeout",
    "timeout": "timeout",
    "route": "unreachable",
    "unreachable": "unreachable",
    "reset": "reset",
}


def _asked(context: Context) -> tuple[str, int | None]:
    """Target and port of the command, for output that does not repeat them."""
    run = context.command
    if run is None or not context.ran("nc", "ncat", "netcat", "telnet"):
        return "", None
    words = [w for w in run.argv[1:] if not w.startswith("-")]
    port = next((int(w) for w in reversed(words) if w.isdigit() and len(w) < 6), None)
    return next((w for w in words if not w.isdigit()), ""), port


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i].strip()
    if len(line) > 400:
        return i, []
    source = lines.source(i)
    for pattern in _OPEN:
        if match := pattern.match(line):
            place = match.groupdict()
            to, port = place.get("ip") or place.get("to") or "", int(match["port"])
            return i + 1, [
                Attempt(source=source, where=context.where, command=f"nc {to} {port}", ok=True, target=f"{to}:{port}", text=line)
            ]  # fmt: skip
    for pattern in _FAILED:
        if match := pattern.match(line):
            place = match.groupdict()
            asked, asked_port = _asked(context)
            to = place.get("ip") or place.get("to") or asked
            why = (place.get("why") or place.get("why2") or "").lower()
            dialled = int(place["port"]) if place.get("port") else asked_port
            named = place.get("to") or asked
            return i + 1, [
                DialFailure(
                    source=source, where=context.where, target=f"{to}:{dialled}" if dialled else to, host="" if is_ip(named) else named,
                    ip=to if is_ip(to) else "", port=dialled, proto=place.get("proto") or "tcp", program="nc", text=line,
                    error=next((name for word, name in _CLASS.items() if word in why), "other"),
                )
            ]  # fmt: skip
    return i, []


FORMAT = LineFormat(
    "nc",
    re.compile(
        r"^\s*(?:nc|netcat|ncat|telnet): |^\s*Connection to \S+ |\] \d+.*(?:open|refused|timed out|TIMEOUT|route)|:\d+\) open",
        re.I,
    ),
    _read,
    priority=26,
)
