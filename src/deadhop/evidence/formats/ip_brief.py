"""``ip -br link`` and ``ip -br addr``: one line for each device."""

from __future__ import annotations

import re

from deadhop.evidence.fields import is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.net import Address, Link
from deadhop.model.record import Record

_LINE = re.compile(
    r"^\s*(?P<name>[\w.-]+)(?:@(?P<peer>[\w.-]+))?\s+(?P<state>UP|DOWN|UNKNOWN|LOWERLAYERDOWN)\s+(?P<rest>(?:[0-9a-f]{2}:){5}[0-9a-f]{2}.*|(?:[0-9a-fA-F.:]+/\d+ ?)+)\s*$"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _LINE.match(lines.text[i])
    if match is None:
        return i, []
    source, rest = lines.source(i), match["rest"].split()
    mac = rest[0] if rest[0].count(":") == 5 and "/" not in rest[0] else None
    records: list[Record] = [
        Link(
            source=source,
            where=context.where,
            ifname=match["name"],
            link=match["peer"],
            operstate=match["state"],
            address=mac,
        )
    ]
    for word in rest if mac is None else ():
        address, _, length = word.partition("/")
        if is_ip(address) and length.isdigit():
            family = 6 if ":" in address else 4
            records.append(
                Address(
                    source=source,
                    where=context.where,
                    ifname=match["name"],
                    local=address,
                    prefixlen=int(length),
                    family=family,
                )
            )
    return i + 1, records


FORMAT = LineFormat(
    "ip-brief",
    re.compile(r"^\s*[\w.@-]+\s+(?:UP|DOWN|UNKNOWN|LOWERLAYERDOWN)\s+[0-9a-fA-F]"),
    _read,
    priority=45,
)
