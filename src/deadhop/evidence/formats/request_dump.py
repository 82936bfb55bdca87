"""Outgoing requests as applications log them, in the manner of several languages.

Known by a header list with a host in it, next to what is dialled: ``host = "svc"``/``port = 80`` lines before a list
``[("host","example.org"), …]`` (Haskell), ``{'Host': 'example.org'}`` (Python), ``map[Host:[example.org]]`` (Go),
``Host=[example.org]`` (Java).
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from deadhop.evidence.fields import integer
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.http import HttpRequestDump
from deadhop.model.record import Record

_HEADERS = re.compile(r"(?i)\bheaders?\w*\b\"?'?\s*[=:]|requestHeaders")
_PAIRS = (
    re.compile(r"\(\s*b?[\"'](?P<name>[\w-]+)[\"']\s*,\s*b?[\"'](?P<value>[^\"']*)[\"']\s*\)"),
    re.compile(r"[\"'](?P<name>[\w-]+)[\"']\s*(?::|=>)\s*\[?\s*[\"'](?P<value>[^\"']*)[\"']"),
    re.compile(r"(?P<name>[A-Za-z][\w-]*)[:=]\[(?P<value>[^\]]*)\]"),
)
_FIELD = re.compile(
    r"^\s*[,{]?\s*[\"']?(?P<key>host|hostname|port|secure|tls|ssl|path|method|url|uri|scheme|address|upstream|target)[\"']?\s*[=:]\s*[\"']?(?P<value>[^\"',]*)[\"']?\s*,?\s*$",
    re.I,
)
_OPEN = re.compile(
    r"(?i)\b(request|req|servicerequest|outgoing|proxying|forward\w*|upstream)\b.*[{(\[]\s*$|^\s*(?:Service)?Request \{"
)
_START = re.compile(r"(?i)\brequest\w*\b.*[{(]\s*$|\bheaders?\w*\b[\"']?\s*[=:]\s*[\[{(m]|requestHeaders")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    text = lines.text
    start = i
    end = min(len(text), i + 60)
    fields: dict[str, str] = {}
    headers: list[tuple[str, str]] = []
    opened = bool(_OPEN.search(text[i]))
    i += opened
    last = i
    while i < end:
        line = text[i]
        if not line.strip() and not opened:
            break
        if match := _FIELD.match(line):
            fields[match["key"].lower()] = match["value"].strip()
            last = i + 1
        elif _HEADERS.search(line):
            for pattern in _PAIRS:
                found = [(m["name"], m["value"]) for m in pattern.finditer(line)]
                if any(name.lower() == "host" for name, _value in found) or len(found) > 2:
                    headers = found
                    break
            last = i + 1
        elif line.strip() in ("}", ")", "]", "})"):
            last = i + 1
            break
        elif opened and re.match(r"^\s*[,\"'(]?\s*[\w.]+[\"']?\s*[=:]", line):
            last = i + 1
        else:
            break
        i += 1
    if not any(name.lower() == "host" for name, _value in headers):
        return start, []
    url = fields.get("url") or fields.get("uri") or fields.get("upstream") or fields.get("target") or ""
    host, port = (
        fields.get("host") or fields.get("hostname") or fields.get("address") or "",
        integer(fields.get("port")),
    )
    if "://" in url:
        try:
            parts = urlsplit(url)
            host, port = (
                host or parts.hostname or "",
                port or parts.port or (443 if parts.scheme == "https" else 80),
            )
        except ValueError:
            pass
    secure = fields.get("secure", fields.get("tls", fields.get("ssl", ""))).lower()
    return last, [
        HttpRequestDump(
            source=lines.source(start, last - 1),
            where=context.where,
            dial_host=host,
            dial_port=port,
            tls=True if secure == "true" else False if secure == "false" else None,
            method=fields.get("method", ""),
            path=fields.get("path", ""),
            headers=tuple(headers),
        )
    ]


FORMAT = LineFormat("request-dump", _START, _read, priority=45)
