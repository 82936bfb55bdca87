"""One JSON line per request: what came, what went out (each field as it was sent), what came back.

Secrets are replaced before a line is written: credentials, cookies and tokens by their names, everything that a route
injects from a file, and what looks like a secret in a query.
"""

from __future__ import annotations

import asyncio
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from deadhop.gateway.outbound import Fields
from deadhop.report.redact import MARK, clean

_ENCODE = msgspec.json.Encoder().encode
#: Names of fields whose value is a credential; a name that ends in one of the endings is one too.
SECRET = frozenset(
    b"authorization proxy-authorization cookie set-cookie x-api-key x-amz-security-token"
    b" x-forwarded-client-cert".split()
)
_QUERY = re.compile(
    r"(?i)([?&][^=&]*(?:token|secret|passw|key|sig|signature|code|state|assertion|credential|session)[^=&]*=)[^&]*"
)
ENDINGS = (b"token", b"secret", b"password", b"api-key", b"apikey", b"session", b"credential", b"credentials")


def shown(fields: Fields, secret: frozenset[bytes]) -> list[tuple[str, str]]:
    """Fields without their secrets."""
    out = []
    for name, value in fields:
        lower = name.lower()
        hidden = lower in SECRET or lower in secret or lower.endswith(ENDINGS)
        out.append((name.decode("latin-1"), MARK if hidden else value.decode("latin-1")))
    return out


def target(path: bytes) -> str:
    """A request target without secrets in its query."""
    text = path.decode("latin-1")
    return clean(_QUERY.sub(rf"\1{MARK}", text)) if "?" in text else text


class AccessLog:
    """Writes lines once per turn of the loop; ``-`` is standard output, ``off`` nothing. Never raises."""

    def __init__(self, where: str) -> None:
        self._lines: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self.on = where != "off"
        self.lost = 0
        self._where = where
        self._file: Any = None
        if self.on:
            self._open()

    def _open(self) -> None:
        self._file = sys.stdout.buffer if self._where == "-" else Path(self._where).open("ab")  # noqa: SIM115 - open as long as the gateway runs

    def reopen(self) -> None:
        """After a log rotation (SIGHUP)."""
        self.flush()
        if self.on and self._where != "-":
            self._file.close()
            self._open()

    def add(self, line: dict[str, Any]) -> None:
        line["time"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if not self._lines:
            self._loop.call_soon(self.flush)
        self._lines.append(_ENCODE(line))

    def flush(self) -> None:
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        try:
            self._file.write(b"\n".join(lines) + b"\n")
            self._file.flush()
        except (OSError, ValueError):
            self.lost += len(lines)  # a full disk or a closed pipe must not stop traffic; the metrics say so
