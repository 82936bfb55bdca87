"""``openssl s_client`` whose handshake got nothing back: connected, and not one byte of the server's answer.

Source: OpenSSL apps/s_client.c (``CONNECTED``, "SSL handshake has read %ju bytes and written %ju bytes").
"""

from __future__ import annotations

import re

from deadhop.evidence.asked import option
from deadhop.evidence.fields import host_port
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.http import HttpExchange
from deadhop.model.record import Record

_NOTHING = re.compile(r"^\s*SSL handshake has read 0 bytes and written [1-9]\d* bytes\s*$")
_CONNECTED = re.compile(r"^\s*CONNECTED\(0+[0-9A-F]+\)\s*$")
_CUT = re.compile(r"^\s*(?:\^C|Terminated|command terminated|.*\btimed? ?out\b)")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    # The session's parts stand between lines of dashes: the report may be cut off from its command.
    command = context.command if context.command and context.command.program == "openssl" else None
    error = ""
    if _NOTHING.match(lines.text[i]):
        error = "tls"
    elif command and _CONNECTED.match(lines.text[i]):
        after = next((t for t in lines.text[i + 1 :] if t.strip()), "")
        silent = not after and not command.filters and "-brief" not in command.argv
        error = "tls" if silent or _CUT.match(after) else ""
    if not error:
        return i, []
    host, port = host_port(option(command.argv, "-connect") if command else "")
    url = f"https://{host}:{port}" if host and port else ""
    return i + 1, [HttpExchange(source=lines.source(i), where=context.where, tool="openssl", url=url, host=host, port=port, error=error, error_text=lines.text[i].strip())]  # fmt: skip


FORMAT = LineFormat("openssl-client", re.compile(rf"{_NOTHING.pattern}|{_CONNECTED.pattern}"), _read, priority=20)  # fmt: skip
