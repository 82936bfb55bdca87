"""Dials to an IPv6 address that fail, in the words of tools whose lines carry the address: curl, wget, apt, npm, nc, Java."""

from __future__ import annotations

import re

from deadhop.evidence.fields import integer, is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.http import DialFailure
from deadhop.model.record import Record

_V6 = re.compile(
    r"(?:(?<![\w:.])|(?<=ipv6:))(?P<ip>[0-9a-fA-F]{1,4}:[0-9a-fA-F:]*:[0-9a-fA-F:]*)(?:\]?:| port |[|] ?:| )?(?P<port>\d{1,5})?"
)
_VERB = re.compile(
    r"connect|dial|[Tt]rying|initiat|^\s*(?:[$#] )?(?:nc|ncat|curl|telnet|ping6?|wget)\s|Exception|://", re.I
)
_WHAT = re.compile(
    r"[Nn]etwork (?:is )?unreachable|ENETUNREACH|EHOSTUNREACH|EADDRNOTAVAIL|ETIMEDOUT|[Nn]o route to host|[Cc]annot assign requested address|"
    r"[Ii]mmediate connect fail|Address not available|[Cc]onnection timed out|i/o timeout|\b[Tt]imed? ?out"
)
_HOST = re.compile(
    r"(?<![\w.@/-])(?P<host>[a-z][\w-]*(?:\.[\w-]+)*\.[a-z]{2,})(?::(?P<port>\d+))?(?=[ |(/\]:,]|$)"
)
#: Brackets as gRPC's target names escape them.
_BRACKET = re.compile(r"%5[BD]")
_START = re.compile(r"(?:(?<![\w:.])|(?<=%5B))[0-9a-fA-F]{1,4}:[0-9a-fA-F:]*:[0-9a-fA-F:]*")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = _BRACKET.sub(lambda m: "[" if m[0].endswith("B") else "]", lines.text[i])
    if len(line) > 2000 or not _VERB.search(line):
        return i, []
    what = _WHAT.search(line)
    if not what:
        return i, []
    for match in _V6.finditer(line):
        ip, port = _split(match["ip"], integer(match["port"]))
        if not ip:
            continue
        host = _HOST.search(line)
        port = port or (integer(host["port"]) if host else None)
        return i + 1, [
            DialFailure(
                source=lines.source(i), where=context.where, target=ip, ip=ip, host=host["host"] if host else "",
                port=port if port and port < 65536 else None, error="timeout" if "time" in what[0].lower() else "unreachable", text=line.strip()[:500],
            )
        ]  # fmt: skip
    return i, []


def _split(text: str, port: int | None) -> tuple[str, int | None]:
    """The address and the port of ``a:b::c:443`` where the last group may be the port; empty where it is none."""
    text = text.rstrip(":") if not text.endswith("::") else text
    if text.count(":") < 2:
        return "", None
    if is_ip(text):
        return text, port
    head, _, tail = text.rpartition(":")
    return (head, integer(tail)) if is_ip(head) and tail.isdigit() else ("", None)


FORMAT = LineFormat("dial-v6", _START, _read, priority=55)
