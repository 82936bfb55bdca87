"""``nstat`` and the extended counters of ``netstat -s``."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.kernel import Counter
from deadhop.model.record import Record

_LINE = re.compile(
    r"^\s*(?:(?P<name>(?:MPTcpExt|TcpExt|IpExt|Ip6|Ip|UdpLite6?|Udp6?|IcmpMsg|Icmp6?|Tcp)[A-Z]\w+)\s+(?P<value>-?\d+)(?:\s+\d+\.\d+)?|(?P<name2>IPReversePathFilter): (?P<value2>\d+))\s*$"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    if lines.text[i] == "#kernel" and i + 1 < len(lines) and _LINE.match(lines.text[i + 1]):
        return i + 1, []  # nstat's own first line
    match = _LINE.match(lines.text[i])
    if match is None:
        return i, []
    name, value = match["name"] or match["name2"], match["value"] or match["value2"]
    return i + 1, [Counter(source=lines.source(i), where=context.where, name=name, value=float(value))]


FORMAT = LineFormat(
    "nstat",
    re.compile(
        r"^#kernel$|^\s*(?:(?:(?:MP)?TcpExt|IpExt|Ip6?|Udp(?:Lite)?6?|Icmp6?|Tcp)[A-Z]\w+\s+-?\d|IPReversePathFilter: \d)"
    ),
    _read,
    priority=46,
)
