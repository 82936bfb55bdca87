"""``linkerd viz tap``: one line for each request that a proxy sees, with what it was sent to."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.message import Message
from deadhop.model.record import Record

_LINE = re.compile(r"^\s*(?P<kind>req|rsp|end) id=(?P<id>\d+:\d+) proxy=(?P<proxy>in|out)\s+(?P<rest>\S.*)$")
_PAIR = re.compile(r"(?P<key>:?[\w-]+)=(?P<value>\S+)")
_KEPT = {
    "src": "src",
    "dst": "dst",
    ":authority": "authority",
    ":path": "path",
    ":status": "status",
    "tls": "tls",
}


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _LINE.match(lines.text[i])
    if match is None:
        return i, []
    pairs = {m["key"]: m["value"] for m in _PAIR.finditer(match["rest"])}
    fields = (("id", match["id"]), ("proxy", match["proxy"]), *((name, pairs[key]) for key, name in _KEPT.items() if key in pairs))  # fmt: skip
    return i + 1, [
        Message(
            source=lines.source(i), where=context.where, emitter="linkerd", kind=f"tap-{match['kind']}", fields=fields,
            text=lines.text[i].strip()[:500],
        )
    ]  # fmt: skip


FORMAT = LineFormat("linkerd-tap", re.compile(r"^\s*(?:req|rsp|end) id=\d"), _read, priority=18)
