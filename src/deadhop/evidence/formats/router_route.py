"""``show ip route ADDRESS`` of a router (IOS, NX-OS, EOS, FRR) that has no route: ``% Network not in table``."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.message import Message
from deadhop.model.record import Record

_NONE = re.compile(
    r"^\s*%? ?(?:Network|Subnet) not in table\s*$|^\s*Route not found\s*$|^\s*% No matching routes? found",
    re.I,
)
_ASKED = re.compile(r"\bshow (?:ip|ipv6) (?:route|fib)(?: vrf \S+)? (?P<address>[\da-fA-F.:]+)")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    asked = _ASKED.search(lines.text[i - 1]) if i else None
    if asked is None or not _NONE.match(lines.text[i]):
        return i, []
    return i + 1, [
        Message(
            source=lines.source(i - 1, i), where=context.where, emitter="router", kind="no-route-to",
            fields=(("address", asked["address"]),), text=lines.text[i].strip(),
        )
    ]  # fmt: skip


FORMAT = LineFormat("router-route", _NONE, _read, priority=20)
