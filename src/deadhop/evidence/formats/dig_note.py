"""A lookup written in one line: ``dig SRV _ldap._tcp.example.org -> 46 SRV records`` or ``… -> 10.0.0.1, 10.0.0.2``."""

from __future__ import annotations

import re

from deadhop.evidence.fields import is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.formats.dig import question
from deadhop.model.observed.dns import Answer, DnsLookup
from deadhop.model.record import Record

_NOTE = re.compile(r"^\s*(?:[$#] )?(?P<asked>(?:dig|host|nslookup)\s+.*?)\s*(?:->|=>|→)\s*(?P<told>.+)$")
_PROBE = re.compile(
    r"^\s*(?P<name>[\w.<>*-]*\.[\w.<>*-]+)\s*(?:->|=>|→)\s*(?P<told>.*RCODE=(?P<code>\d+).*)$"
)
_COUNT = re.compile(r"(\d+)\s+(?:[A-Z]+\s+)?(?:records|answers|RRs)|answer RRs (\d+)", re.I)
_WORDS = {
    "nxdomain": "NXDOMAIN",
    "servfail": "SERVFAIL",
    "refused": "REFUSED",
    "timeout": "TIMEOUT",
    "timed out": "TIMEOUT",
}
_RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    if match := _NOTE.match(line):
        name, qtype, server, transport = question(match["asked"].split())
        status = next((v for k, v in _WORDS.items() if k in match["told"].lower()), "NOERROR")
    elif match := _PROBE.match(line):
        name, qtype, server, transport = match["name"].rstrip("."), "", "", ""
        status = _RCODES.get(int(match["code"]), "")
    else:
        return i, []
    told = match["told"]
    addresses = [w.strip(",;()[]") for w in told.split()]
    answers = tuple(Answer(name, "AAAA" if ":" in a else "A", a) for a in addresses if is_ip(a))
    counted = _COUNT.search(told)
    count = int(counted[1] or counted[2]) if counted else (len(answers) or None)
    lookup = DnsLookup(
        source=lines.source(i),
        where=context.where,
        tool="dig",
        qname=name,
        qtype=qtype,
        server=server,
        status=status,
        answers=answers,
        answer_count=count,
        transport=transport,
        text=told,
        absolute=any(w.endswith(".") and "." in w[:-1] for w in line.split(told)[0].split()),
    )
    return i + 1, [lookup]


FORMAT = LineFormat("dig-note", re.compile(r"->|=>|→"), _read, priority=10)
