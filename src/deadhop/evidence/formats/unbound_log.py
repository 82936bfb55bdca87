"""Unbound's log of questions and answers (``log-queries``, ``log-replies``), with or without syslog's stamp before it.

A question is ``info: CLIENT NAME TYPE CLASS``; a reply has rcode, seconds, whether it came from the cache and its size
behind that (unbound.conf(5), log-replies; with ``log-tag-queryreply`` the words query and reply stand before the client).
"""

from __future__ import annotations

import re
from typing import Any

from deadhop.evidence.fields import fqdn
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.dns import DnsQuery
from deadhop.model.record import Record

_LINE = re.compile(
    r"\[\d+:[\da-f]+\] (?:info|query|reply): (?:query: |reply: )?(?P<client>[\da-fA-F.:]+) (?P<name>\S+) (?P<type>[A-Z]+\d*) IN"
    r"(?: (?P<rcode>[A-Z]+) (?P<took>\d+\.\d+) [01] (?P<size>\d+))?\s*$"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    """A block of rows: each reply, and each question of which the block shows no reply."""
    start = i
    asked: dict[tuple[str, str, str], DnsQuery] = {}
    records: list[Record] = []
    while i < len(lines.text) and (match := _LINE.search(lines.text[i])):
        key = (match["client"], fqdn(match["name"]), match["type"])
        common: dict[str, Any] = {"source": lines.source(i), "where": context.where, "client": key[0], "qname": key[1], "qtype": key[2], "server": "unbound"}  # fmt: skip
        if match["rcode"]:
            asked.pop(key, None)
            records.append(DnsQuery(**common, rcode=match["rcode"], duration=float(match["took"])))
        else:
            asked[key] = DnsQuery(**common)
        i += 1
    return (i, [*records, *asked.values()]) if i > start else (start, [])


FORMAT = LineFormat("unbound-log", _LINE, _read, priority=28)
