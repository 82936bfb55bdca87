"""Names and their addresses side by side, as a loop over ``getent``, ``dig`` or ``host`` echoes them; ``getent ahosts`` rows.

Two words alone say nothing: the pairs are read behind a command line that runs a lookup. The rows of ``getent ahosts``
carry their socket type and stand for themselves (glibc nss/getent.c).
"""

from __future__ import annotations

import re

from deadhop.evidence.fields import fqdn, is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.dns import Answer, DnsLookup
from deadhop.model.record import Record

_PAIR = re.compile(r"^\s*(?P<name>[A-Za-z0-9_][\w-]*(?:\.[\w-]+)*\.?)\s*(?::|=|->|=>|→)?\s*(?P<ips>[0-9a-fA-F.:]+(?:[ ,]+[0-9a-fA-F.:]+)*)\s*$")  # fmt: skip
_AHOSTS = re.compile(
    r"^\s*(?P<ip>[0-9a-fA-F.:]+)\s+(?:STREAM|DGRAM|RAW)(?:\s+(?P<name>[A-Za-z0-9][\w.-]*))?\s*$"
)
_LOOKS_UP = re.compile(r"\b(?:getent|dig|host|nslookup|drill|kdig|gethostbyname|getaddrinfo|resolve\w*)\b")


def _answer(name: str, ip: str) -> Answer:
    return Answer(fqdn(name), "AAAA" if ":" in ip else "A", ip)


def _pairs(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    command = context.command
    if command is None or not _LOOKS_UP.search(command.line) or ("echo" not in command.line and "print" not in command.line):  # fmt: skip
        return i, []
    records: list[Record] = []
    while i < len(lines.text) and (match := _PAIR.match(lines.text[i])):
        ips = [ip for ip in re.split(r"[ ,]+", match["ips"]) if is_ip(ip)]
        name = match["name"]
        if not ips or is_ip(name):
            break
        records.append(
            DnsLookup(
                source=lines.source(i),
                where=context.where,
                tool="getent" if "getent" in command.line else "dig",
                qname=fqdn(name),
                status="NOERROR",
                answers=tuple(_answer(name, ip) for ip in ips),
                answer_count=len(ips),
                absolute=name.endswith("."),
            )
        )
        i += 1
    return i, records


def _ahosts(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    start, name, ips = i, "", list[str]()
    while i < len(lines.text) and (match := _AHOSTS.match(lines.text[i])):
        if not is_ip(match["ip"]):
            break
        name = name or (match["name"] or "")
        ips.append(match["ip"])
        i += 1
    if not ips:
        return start, []
    listed = tuple(_answer(name, ip) for ip in dict.fromkeys(ips))
    return i, [
        DnsLookup(
            source=lines.source(start, i - 1),
            where=context.where,
            tool="getent",
            qname=fqdn(name) if name else "",
            status="NOERROR",
            answers=listed,
            answer_count=len(listed),
        )
    ]


FORMATS = (
    LineFormat("getent-ahosts", re.compile(r"\s(?:STREAM|DGRAM|RAW)\b"), _ahosts, priority=13),
    LineFormat("name-address", re.compile(r"^\s*[\w.-]+\s*\S{0,2}\s+[0-9a-fA-F.:]+"), _pairs, priority=14),
)
