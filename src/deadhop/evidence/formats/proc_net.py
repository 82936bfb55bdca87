"""``/proc/net/tcp`` and its kin: which addresses processes listen on, in a container that has no ``ss``."""

from __future__ import annotations

import ipaddress
import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.message import Message
from deadhop.model.record import Record

#: net/ipv4/tcp_ipv4.c get_tcp4_sock, net/ipv6/tcp_ipv6.c get_tcp6_sock: 0A is TCP_LISTEN.
_ROW = re.compile(
    r"^\s*\d+: (?P<address>[0-9A-F]{8}|[0-9A-F]{32}):(?P<port>[0-9A-F]{4}) (?:[0-9A-F]{8}|[0-9A-F]{32}):[0-9A-F]{4} (?P<state>[0-9A-F]{2})\b"
)


def _address(text: str) -> str:
    """The kernel prints words of 32 bits in the machine's order: little-endian on every node in use."""
    raw = b"".join(bytes.fromhex(text[k : k + 8])[::-1] for k in range(0, len(text), 8))
    return str(ipaddress.ip_address(raw))


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    if lines.text[i].split()[:3] == ["sl", "local_address", "rem_address"] or lines.text[i].split()[:2] == ["sl", "local_address"]:  # fmt: skip
        return i + 1, []
    match = _ROW.match(lines.text[i])
    if match is None:
        return i, []
    if match["state"] != "0A":
        return i + 1, []
    fields = (("address", _address(match["address"])), ("port", str(int(match["port"], 16))))
    return i + 1, [
        Message(
            source=lines.source(i), where=context.where, emitter="sockets", kind="listening", fields=fields, text=lines.text[i].strip()[:200]
        )
    ]  # fmt: skip


FORMAT = LineFormat(
    "proc-net", re.compile(r"^\s*sl\s+local_address|^\s*\d+: [0-9A-F]{8,32}:[0-9A-F]{4} "), _read, priority=18
)
