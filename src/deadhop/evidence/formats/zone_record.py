"""A wildcard record of a zone file (RFC 1035 section 5, RFC 4592): ``*  600 IN A 192.0.2.1``, alone or behind a label."""

from __future__ import annotations

import re

from deadhop.evidence.fields import fqdn, integer, is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.dns import Answer, DnsLookup
from deadhop.model.record import Record

_RECORD = re.compile(
    r"^\s*(?:[#;]+\s*)?(?:zone:?\s+)?(?P<name>\*(?:\.[\w.-]+)?)\s+(?:(?P<ttl>\d+)\s+)?(?:IN\s+)?(?P<type>A|AAAA|CNAME)\s+(?P<data><[^>]+>|\S+)"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _RECORD.match(lines.text[i])
    if not match or not (is_ip(match["data"]) or match["type"] == "CNAME" or match["data"].startswith("<")):
        return i, []
    answer = Answer(fqdn(match["name"]), match["type"], match["data"].rstrip("."), integer(match["ttl"]))
    return i + 1, [
        DnsLookup(
            source=lines.source(i),
            where=context.where,
            tool="zone",
            qname=fqdn(match["name"]),
            qtype=match["type"],
            status="NOERROR",
            answers=(answer,),
            answer_count=1,
        )
    ]


FORMAT = LineFormat(
    "zone-record", re.compile(r"^\s*(?:[#;]+\s*)?(?:zone:?\s+)?\*(?:\.\S+)?\s+"), _read, priority=38
)
