"""What HTTP clients log of an exchange, line by line: requests and responses with their headers.

Apache HttpClient 4 and 5 (``org.apache.hc.client5.http.wire`` and ``.headers``), Python's http.client and requests
(``send:``, ``reply:``, ``header:``), OkHttp's logging interceptor (``--> GET URL``, ``<-- 403 URL``), Go's
httputil dumps behind a direction, Reactor Netty and the like print ``>>`` and ``<<`` as well.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from deadhop.evidence.fields import host_port
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.http import HttpExchange
from deadhop.model.record import Record

_APACHE = re.compile(r"\b(?P<conn>http-(?:outgoing|incoming)-\d+) (?P<way>>>|<<) (?P<said>.*?)\s*$")
_WIRE = re.compile(r"^\"(?P<said>.*?)(?:\[\\r\])?(?:\[\\n\])?\"$")
_PYTHON = re.compile(r"^\s*(?P<what>send|reply|header): ?(?P<said>.*?)\s*$")
_OKHTTP = re.compile(r"(?:^|\s)(?P<way>-->|<--) (?P<said>(?:[A-Z]{3,7}|\d{3})\s.*|END\b.*)$")
_REQUEST = re.compile(r"^(?P<method>[A-Z]{3,10}) (?P<path>\S+) HTTP/[\d.]+$")
_STATUS = re.compile(r"^HTTP/[\d.]+ (?P<status>\d{3})(?:\s.*)?$")
_HEADER = re.compile(r"^(?P<name>[\w-]{1,60}): ?(?P<value>.*)$")
_START = re.compile(
    r"\bhttp-(?:outgoing|incoming)-\d+ (?:>>|<<) |^\s*(?:send: b?[\"']|reply: [\"']HTTP/)|(?:^|\s)--> [A-Z]{3,7} https?://"
)
MOST = 200


class Said(NamedTuple):
    """One line of a message: its direction, its words, which connection."""

    out: bool
    text: str
    conn: str = ""


def _apache(line: str) -> list[Said] | None:
    match = _APACHE.search(line)
    if match is None:
        return None
    wire = _WIRE.match(match["said"])
    return [Said(match["way"] == ">>", wire["said"] if wire else match["said"], match["conn"])]


def _python(line: str) -> list[Said] | None:
    match = _PYTHON.match(line)
    if match is None:
        return None
    said = match["said"]
    if match["what"] == "header":
        return [Said(False, said)]
    try:
        value = ast.literal_eval(said) if len(said) < 8000 else ""
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return [Said(match["what"] == "send", part) for part in text.split("\r\n")]


def _lines(lines: Lines, i: int) -> Iterator[tuple[int, list[Said]]]:
    """The lines of one client's log from ``i`` on."""
    read = _apache if _apache(lines.text[i]) else _python
    for k in range(i, min(len(lines.text), i + MOST)):
        said = read(lines.text[k])
        if said is None:
            return
        yield k, said


class _Exchange:
    """A request and its response while they are read."""

    def __init__(self, first: int) -> None:
        self.first = self.last = first
        self.method = self.path = ""
        self.status: int | None = None
        self.sent: list[tuple[str, str]] = []
        self.got: list[tuple[str, str]] = []

    def take(self, said: Said, at: int) -> None:
        self.last = at
        if said.out and (request := _REQUEST.match(said.text)):
            self.method, self.path = request["method"], request["path"]
        elif not said.out and (status := _STATUS.match(said.text)):
            self.status = int(status["status"])
        elif header := _HEADER.match(said.text):
            (self.sent if said.out else self.got).append((header["name"].lower(), header["value"].strip()))

    def record(self, lines: Lines, context: Context) -> HttpExchange:
        told = next((v for k, v in self.sent if k == "host"), "")
        host, port = host_port(told)
        return HttpExchange(
            source=lines.source(self.first, self.last), where=context.where, tool="client", method=self.method,
            url=self.path if "://" in self.path else f"http://{told}{self.path}" if told else self.path,
            host=host, port=port, status=self.status, request_headers=tuple(self.sent), headers=tuple(self.got),
        )  # fmt: skip


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    if (match := _OKHTTP.search(lines.text[i])) and match["way"] == "-->":
        return _okhttp(lines, i, context)
    done: list[_Exchange] = []
    open_: dict[str, _Exchange] = {}
    last = i - 1
    for at, said in _lines(lines, i):
        last = at
        for one in said:
            if one.out and _REQUEST.match(one.text):
                open_[one.conn] = _Exchange(at)
                done.append(open_[one.conn])
            if one.conn in open_:
                open_[one.conn].take(one, at)
    records: list[Record] = [e.record(lines, context) for e in done if e.status or e.sent]
    return (last + 1, records) if records else (i, [])


_URL = re.compile(r"^(?P<method>[A-Z]{3,7}) (?P<url>https?://\S+)")


def _okhttp(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _OKHTTP.search(lines.text[i])
    request = _URL.match(match["said"]) if match else None
    if request is None:
        return i, []
    prefix = lines.text[i][: match.start("way")] if match else ""
    made = _Exchange(i)
    out, after = True, i + 1
    for k in range(i + 1, min(len(lines.text), i + MOST)):
        line = lines.text[k]
        said = _OKHTTP.search(line)
        if said and said["way"] == "<--":
            if said["said"].startswith("END"):
                after = k + 1
                break
            out, made.status = False, int(said["said"][:3]) if said["said"][:3].isdigit() else None
        elif not said and (header := _HEADER.match(line[_common(prefix, line) :].strip())):
            (made.sent if out else made.got).append((header["name"].lower(), header["value"].strip()))
        elif not said and line.strip() and not out:
            break
        after, made.last = k + 1, k
    if made.status is None:
        return i, []
    name, port = host_port(request["url"].partition("://")[2].partition("/")[0])
    record = msgspec.structs.replace(
        made.record(lines, context), method=request["method"], url=request["url"], host=name,
        port=port or (443 if request["url"].startswith("https") else 80),
    )  # fmt: skip
    return after, [record]


def _common(prefix: str, line: str) -> int:
    """Where the words begin behind what a logger puts before every line (a tag of the same length)."""
    tag = prefix.rstrip().rpartition(" ")[2]
    at = line.find(tag, 0, len(prefix) + 4) if tag else -1
    return at + len(tag) if at >= 0 else 0


FORMAT = LineFormat("http-wire", _START, _read, priority=31)
