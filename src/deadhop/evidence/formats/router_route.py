"""``show ip route ADDRESS`` of a router (IOS, NX-OS, EOS, FRR, FortiOS) that has no route, or no other than the default."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.message import Message
from deadhop.model.record import Record

_NONE = re.compile(
    r"^\s*%? ?(?:Network|Subnet) not in table\s*$|^\s*Route not found\s*$|^\s*% No matching routes? found",
    re.I,
)
_DEFAULT = re.compile(r"^\s*Routing entry for 0\.0\.0\.0/0\b")
_ASKED = re.compile(
    r"\b(?:show (?:ip|ipv6) (?:route|fib)(?: vrf \S+)?|get router info6? routing-table details) (?P<address>[\da-fA-F.:]+)"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    at, asked = i, None
    while at and asked is None and i - at < 3:  # FRR and FortiOS name the VRF in between
        at -= 1
        asked = _ASKED.search(lines.text[at])
    default = _DEFAULT.match(lines.text[i])
    if asked is None or not (default or _NONE.match(lines.text[i])):
        return i, []
    return i + 1, [
        Message(
            source=lines.source(at, i), where=context.where, emitter="router", kind="only-default-route-to" if default else "no-route-to",
            fields=(("address", asked["address"]),), text=lines.text[i].strip(),
        )
    ]  # fmt: skip


FORMAT = LineFormat(
    "router-route", re.compile(f"{_NONE.pattern}|{_DEFAULT.pattern}", re.I), _read, priority=20
)
