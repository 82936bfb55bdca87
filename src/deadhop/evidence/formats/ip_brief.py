"""``ip -br link`` and ``ip -br addr``: one line for each device; ``ip -o addr``: one for each address."""

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


_ONE = re.compile(
    r"^\s*\d+: (?P<name>[\w.-]+)(?:@\S+)?\s+inet(?P<six>6?) (?P<local>[\da-fA-F.:]+)(?: peer (?P<peer>[\da-fA-F.:]+))?(?:/(?P<len>\d+))?(?: (?:brd|metric) \S+)*(?: scope (?P<scope>\w+))?"
)


def _read_one(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _ONE.match(lines.text[i])
    if match is None or not is_ip(match["local"]):
        return i, []
    family = 6 if match["six"] else 4
    length = int(match["len"]) if match["len"] and len(match["len"]) < 4 else {4: 32, 6: 128}[family]
    return i + 1, [
        Address(
            source=lines.source(i),
            where=context.where,
            ifname=match["name"],
            local=match["local"],
            peer=match["peer"],
            prefixlen=length,
            family=family,
            scope=match["scope"],
        )
    ]


FORMATS = (
    LineFormat(
        "ip-brief",
        re.compile(r"^\s*[\w.@-]+\s+(?:UP|DOWN|UNKNOWN|LOWERLAYERDOWN)\s+[0-9a-fA-F]"),
        _read,
        priority=45,
    ),
    LineFormat("ip-oneline", re.compile(r"^\s*\d+: \S+\s+inet6? [\da-fA-F]"), _read_one, priority=45),
)
