"""An MTU by itself: what ``grep -o 'mtu [0-9]*'`` leaves of a listing, and what ``/sys/class/net/DEV/mtu`` holds.

Also with the device in front, as ``jq``, ``awk`` and loops print a listing (``eth0 1500``), and as ``grep .`` and ``head`` print
files; and ``netstat -i``.
"""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.shell_loop import expand, loop
from deadhop.model.net import Link
from deadhop.model.record import Record

_LINE = re.compile(r"^\s*(?:mtu )?(?P<mtu>\d{3,5})\s*$")
_SYS = re.compile(r"^/sys/class/net/(?P<dev>[\w.@-]+)/mtu$")
#: A device and its MTU, with the columns that people keep beside them: flags' state, the peer behind ``@``.
_ROW = re.compile(
    r"^\s*[\"']?(?P<dev>[A-Za-z][\w.-]{0,15})(?:@(?P<peer>[\w.-]+))?[\"']?\s*[:=,]?\s*(?:\s(?:mtu[\s:=]*)?|(?<=[:=,]))[\"']?(?P<mtu>\d{2,6})[\"']?"
    r"(?:[\s,]+(?P<state>UP|DOWN|UNKNOWN|LOWERLAYERDOWN|up|down))?\s*$"
)
_FILE = re.compile(r"^\s*/sys/class/net/(?P<dev>[\w.@-]+)/mtu:(?P<mtu>\d{2,6})\s*$")
_NETSTAT = re.compile(
    r"^\s*(?P<dev>[A-Za-z][\w.-]{0,15})(?:@(?P<peer>[\w.-]+))?\s+(?P<mtu>\d{2,6})(?:\s+\d+){7,9}\s+[A-Z]+\s*$"
)
_HEADED = re.compile(r"^\s*==> /sys/class/net/(?P<dev>[\w.@-]+)/mtu <==\s*$")
_COLUMNS = ("jq", "awk", "cut", "sed", "column", "tr ")


def _devices(context: Context) -> list[str]:
    """The devices that the command asks for, in the order of its lines of output."""
    run = context.command
    if run is None:
        return []
    if "/sys/class/net/" in run.line and re.search(r"\b(?:cat|head)\s", run.line):
        each = loop(run.line)
        if each is None:
            words = re.findall(r"\S*/sys/class/net/\S+", run.line)
            return [m["dev"] for word in words for w in expand(word.strip("'\";")) if (m := _SYS.match(w))]
        return [
            i for i in each.items if f"${each.name}/mtu" in each.body or f"${{{each.name}}}/mtu" in each.body
        ]
    if context.ran("ip") and "link" in run.argv and any("mtu" in f for f in run.filters):
        words = [w for w in run.argv[run.argv.index("link") + 1 :] if w not in ("show", "list", "ls", "dev")]
        return words[:1]
    return []


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    records: list[Record] = []
    for dev in _devices(context):
        match = _LINE.match(lines.text[i]) if i < len(lines.text) else None
        if match is None:
            break
        records.append(Link(source=lines.source(i), where=context.where, ifname=dev, mtu=int(match["mtu"])))
        i += 1
    return i, records


def _in_columns(context: Context) -> bool:
    """Whether the command prints devices and MTUs in columns of its own."""
    run = context.command
    if run is None or ("mtu" not in run.line and not (context.ran("ip") and "-o" in run.argv)):
        return False
    if "/sys/class/net/" in run.line:
        return "/mtu" in run.line
    words = set(run.argv)
    listing = context.ran("ip") and words & {"link", "l", "li", "a", "addr", "address"}
    return bool(listing) and any(f.startswith(_COLUMNS) for f in run.filters)


def _read_row(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    if (
        (headed := _HEADED.match(line))
        and i + 1 < len(lines.text)
        and (told := _LINE.match(lines.text[i + 1]))
    ):
        source = lines.source(i, i + 1)
        return i + 2, [Link(source=source, where=context.where, ifname=headed["dev"], mtu=int(told["mtu"]))]
    match = _FILE.match(line) or _NETSTAT.match(line)
    if match is None and _in_columns(context):
        match = _ROW.match(line)
    if match is None or not 68 <= int(match["mtu"]) <= 65_536:
        return i, []
    named = match.groupdict()
    return i + 1, [
        Link(
            source=lines.source(i),
            where=context.where,
            ifname=match["dev"],
            mtu=int(match["mtu"]),
            link=named.get("peer"),
            operstate=(named.get("state") or "").upper() or None,
        )
    ]


FORMATS = (
    LineFormat("mtu-value", _LINE, _read, priority=12),
    LineFormat(
        "mtu-row",
        re.compile(
            r"^\s*(?:==> )?/sys/class/net/\S+/mtu(?::\d| <==)|^\s*[\"']?[A-Za-z][\w.@-]{0,40}[\"']?\s*[:=,\s].{0,12}\d{2,6}"
        ),
        _read_row,
        priority=13,
    ),
)
