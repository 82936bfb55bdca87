"""Dials to an IPv6 address that fail, in the words of tools whose lines carry the address: curl, wget, apt, npm, nc, Java."""

from __future__ import annotations

import re

from deadhop.evidence.fields import integer, is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.http import DialFailure
from deadhop.model.record import Record

_V6 = r"(?P<ip>[0-9a-fA-F]{1,4}:[0-9a-fA-F:]*:[0-9a-fA-F:.]*)"
_WHAT = (
    r"(?P<what>[Nn]etwork (?:is )?unreachable|ENETUNREACH|EHOSTUNREACH|EADDRNOTAVAIL|ETIMEDOUT|[Nn]o route to host|[Cc]annot assign requested address|"
    r"[Ii]mmediate connect fail|Address not available|[Cc]onnection timed out|i/o timeout|[Tt]imed? ?out)"
)
_PATTERNS = (
    re.compile(rf"(?:[Ff]ailed to connect to|[Ii]mmediate connect fail for|Connecting to \S+\|?|Cannot initiate the connection to|Could not connect to|Trying|connect to|connecting to|connect)[^0-9a-fA-F\n]*(?:(?P<host>[\w-]+(?:\.[\w-]+)+)(?::(?P<port0>\d+))?[ |(]+)?\[?{_V6}\]?[^\n]*?(?:port |[:|])?(?P<port>\d{{1,5}})?[^\n]*?{_WHAT}"),
    re.compile(rf"{_WHAT}[^\n]*?[ /\[(]{_V6}\]?(?::(?P<port>\d+))?"),
    re.compile(rf"^\s*(?:nc|ncat|curl|telnet|ping6?)\s[^\n]*?\[?{_V6}\]?\s*(?P<port>\d+)?\s*(?:->|=>|:)\s*[^\n]*?{_WHAT}"),
    re.compile(rf"\[{_V6}\]:(?P<port>\d+)[^\n]*?{_WHAT}"),
)  # fmt: skip
_START = re.compile(
    r"[0-9a-fA-F]{1,4}:[0-9a-fA-F:]*:[^\n]*(?:nreachable|UNREACH|NOTAVAIL|ETIMEDOUT|imed ?out|imeout|route to host|requested address|not available)|"
    r"(?:nreachable|UNREACH|connect fail)[^\n]*[0-9a-fA-F]{1,4}:[0-9a-fA-F:]*:"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    if len(line) > 2000:
        return i, []
    for pattern in _PATTERNS:
        match = pattern.search(line)
        if match and ":" in match["ip"] and is_ip(match["ip"].rstrip(":")):
            said = match.groupdict()
            what = match["what"].lower()
            error = "timeout" if "time" in what else "unreachable"
            port = integer(said.get("port")) or integer(said.get("port0"))
            return i + 1, [
                DialFailure(
                    source=lines.source(i), where=context.where, target=match["ip"], ip=match["ip"].rstrip(":"), host=said.get("host") or "",
                    port=port if port and port < 65536 else None, error=error, text=line.strip()[:500],
                )
            ]  # fmt: skip
    return i, []


FORMAT = LineFormat("dial-v6", _START, _read, priority=55)
