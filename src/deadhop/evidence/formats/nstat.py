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


_NETSTAT = re.compile(r"^\s+(?P<name>[A-Z]\w+): (?P<value>\d+)\s*$")
_SECTION = re.compile(r"^(?P<name>Ip|Icmp|Tcp|Udp|UdpLite|TcpExt|IpExt|Ip6|Udp6):\s*$")


def _read_netstat(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    """``netstat -s``: counters that it has no sentence for, below their protocol where grep left that line."""
    match = _NETSTAT.match(lines.text[i])
    if match is None or context.command is None or "netstat" not in context.command.line:
        return i, []
    above = range(i - 1, max(-1, i - 80), -1)
    section = next((m["name"] for k in above if (m := _SECTION.match(lines.text[k]))), "")
    name = section + match["name"]
    return i + 1, [
        Counter(source=lines.source(i), where=context.where, name=name, value=float(match["value"]))
    ]


FORMATS = (LineFormat("netstat", _NETSTAT, _read_netstat, priority=46),)
FORMAT = LineFormat(
    "nstat",
    re.compile(
        r"^#kernel$|^\s*(?:(?:(?:MP)?TcpExt|IpExt|Ip6?|Udp(?:Lite)?6?|Icmp6?|Tcp)[A-Z]\w+\s+-?\d|IPReversePathFilter: \d)"
    ),
    _read,
    priority=46,
)
