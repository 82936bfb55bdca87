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
#: A packet's own line, in which tcpdump repeats the first line of the payload.
_PACKET = re.compile(r"^\s*(?:\d{4}-\d\d-\d\d )?[\d:.]+ .*\bFlags \[")
#: How far below a request's head its response begins.
_REACH = 12
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
    head = _REQUEST.search(lines.text[i]) or _STATUS.search(lines.text[i])
    if head and "..." in lines.text[i][: head.start() + 1]:
        return True
    before = lines.text[max(0, i - 4) : i]
    return any(re.search(r"Flags \[P\.?\]|^T \S+ -> \S+ \[AP\]", b) for b in before)


def _status(line: str) -> re.Match[str] | None:
    return None if _PACKET.match(line) else _STATUS.search(line)


def _answered(lines: Lines, i: int) -> bool:
    """Whether the response at ``i`` stands behind a request, whose exchange holds it."""
    for j in range(i - 1, max(-1, i - 60), -1):
        if _status(lines.text[j]):
            return False
        if _REQUEST.search(lines.text[j]) and not _PACKET.match(lines.text[j]):
            end, headers = _head(lines, j + 1)
            return bool(headers) and i < end + _REACH
    return False


def _response(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    """A response whose request was not captured, or stands elsewhere."""
    match = _status(lines.text[i])
    if match is None or not _captured(lines, i, context) or _answered(lines, i):
        return i, []
    end, headers = _head(lines, i + 1)
    if not headers:
        return i, []
    return end, [
        HttpExchange(
            source=lines.source(i, end - 1), where=context.where, tool="capture", method="", status=int(match["status"]), headers=headers,
        )
    ]  # fmt: skip


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    request = _REQUEST.search(lines.text[i])
    if request is None:
        return _response(lines, i, context)
    if not _captured(lines, i, context):
        return i, []
    end, headers = _head(lines, i + 1)
    if not headers:
        return i, []
    status, answered = None, end
    for at in range(end, min(end + _REACH, len(lines.text))):
        if _REQUEST.search(lines.text[at]):
            break
        if answer := _status(lines.text[at]):
            status, answered = int(answer["status"]), at + 1
            break
    after, back = _head(lines, answered) if status is not None else (end, ())
    return end, [
        HttpExchange(
            source=lines.source(i, (after if status is not None else end) - 1), where=context.where, tool="capture", method=request["method"],
            url=request["path"], host=dict(headers).get("host", ""), request_headers=headers, status=status, headers=back,
        )
    ]  # fmt: skip


FORMAT = LineFormat("capture-text", re.compile(f"{_REQUEST.pattern}|{_STATUS.pattern}"), _read, priority=17)
