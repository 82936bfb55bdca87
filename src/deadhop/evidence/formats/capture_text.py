"""Requests and responses in the payloads that ``tcpdump -A`` and ngrep print: a head of HTTP/1 behind the headers' bytes."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.http import HttpExchange
from deadhop.model.record import Record

_REQUEST = re.compile(
    r"(?:^|[^A-Z])(?P<method>GET|POST|PUT|DELETE|HEAD|OPTIONS|PATCH|CONNECT) (?P<path>/\S*|\*|https?://\S+) HTTP/1\.[01]\.?\s*$"
)
_STATUS = re.compile(r"(?:^|[^A-Z])HTTP/1\.[01] (?P<status>[1-5]\d\d)(?: [^\r\n]*)?$")
_FIELD = re.compile(r"^(?P<name>[A-Za-z][\w-]*): ?(?P<value>.*?)\.?\s*$")
_CAPTURES = ("tcpdump", "ngrep", "tshark", "tcpflow")


def _head(lines: Lines, i: int) -> tuple[int, tuple[tuple[str, str], ...]]:
    found = []
    while i < len(lines.text) and (match := _FIELD.match(lines.text[i].strip())):
        found.append((match["name"].lower(), match["value"]))
        i += 1
    return i, tuple(found)


def _captured(lines: Lines, i: int, context: Context) -> bool:
    """Whether the payload is a capture's: by the command, or by the bytes or the packet's line above it."""
    if context.ran(*_CAPTURES):
        return True
    request = _REQUEST.search(lines.text[i])
    if request and "..." in lines.text[i][: request.start() + 1]:
        return True
    before = lines.text[max(0, i - 4) : i]
    return any(re.search(r"Flags \[P\.?\]|^T \S+ -> \S+ \[AP\]", b) for b in before)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    request = _REQUEST.search(lines.text[i])
    if request is None or not _captured(lines, i, context):
        return i, []
    end, headers = _head(lines, i + 1)
    if not headers:
        return i, []
    status, answered = None, end
    for at in range(end, min(end + 12, len(lines.text))):
        if _REQUEST.search(lines.text[at]):
            break
        if answer := _STATUS.search(lines.text[at]):
            status, answered = int(answer["status"]), at + 1
            break
    after, back = _head(lines, answered) if status is not None else (end, ())
    return end, [
        HttpExchange(
            source=lines.source(i, (after if status is not None else end) - 1), where=context.where, tool="capture", method=request["method"],
            url=request["path"], host=dict(headers).get("host", ""), request_headers=headers, status=status, headers=back,
        )
    ]  # fmt: skip


FORMAT = LineFormat("capture-text", _REQUEST, _read, priority=17)
