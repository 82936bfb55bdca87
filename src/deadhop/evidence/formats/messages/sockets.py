"""What listens, as ``ss -ltn`` and ``netstat -tln`` print it."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

_PLACE = r"(?P<address>\d+\.\d+\.\d+\.\d+|\*|\[?[\da-f:]*::[\da-f:.]*\]?|::)(?:%\w+)?:(?P<port>\d+)"

FORMAT = catalogue(
    "sockets",
    (
        entry("listening", rf"^(?:tcp\S*\s+)?LISTEN\s+\d+\s+\d+\s+{_PLACE}\s", "ss(8)"),
        entry("listening", rf"^tcp6?\s+\d+\s+\d+\s+{_PLACE}\s+\S+\s+LISTEN", "netstat(8)"),
    ),
    priority=30,
)  # fmt: skip
