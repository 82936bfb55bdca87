"""dnsmasq's query log (``log-queries``): a question, where it went, what was answered; each on a line of its own."""

from __future__ import annotations

import re

from deadhop.evidence.fields import fqdn, is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.dns import DnsQuery
from deadhop.model.record import Record

_LINE = re.compile(
    r"dnsmasq\[\d+\]: (?:\d+ \S+ )?(?:query\[(?P<type>\w+)\] (?P<asked>\S+) from (?P<client>[\da-fA-F.:]+)|"
    r"(?:reply|cached|config|hosts|/etc/\S+) (?P<name>\S+) is (?P<data>\S+)|forwarded (?P<sent>\S+) to (?P<to>\S+))"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    start = i
    asked: list[list[str | int]] = []  # name, type, client, rcode, answers, line
    while i < len(lines.text) and (match := _LINE.search(lines.text[i])):
        if match["asked"]:
            asked.append([fqdn(match["asked"]), match["type"].upper(), match["client"], "", -1, i])
        elif match["name"]:
            _answer(asked, fqdn(match["name"]), match["data"])
        i += 1
    if i == start:
        return start, []
    return i, [
        DnsQuery(
            source=lines.source(int(at)), where=context.where, client=str(client), qname=str(name), qtype=str(qtype), rcode=str(rcode),
            answers=int(count) if int(count) >= 0 else None,
        )
        for name, qtype, client, rcode, count, at in asked
    ]  # fmt: skip


def _answer(asked: list[list[str | int]], name: str, data: str) -> None:
    """Give an answer to the latest open question for that name, or add an address to an answered one."""
    word = data.strip("<>").upper()
    for question in reversed(asked):
        if question[0] != name and name != "error":
            continue
        if is_ip(data) and (question[1] == "AAAA") != (":" in data):
            continue
        if word in ("NXDOMAIN", "SERVFAIL", "REFUSED"):
            question[3], question[4] = word, 0
        elif word.startswith("NODATA"):
            question[3], question[4] = "NOERROR", 0
        else:
            question[3], question[4] = "NOERROR", max(int(question[4]), 0) + 1
        return


FORMAT = LineFormat(
    "dnsmasq-log",
    re.compile(r"dnsmasq\[\d+\]: (?:\d+ \S+ )?(?:query\[|reply |cached |forwarded |config )"),
    _read,
    priority=28,
)
