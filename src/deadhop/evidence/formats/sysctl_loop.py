"""One setting of many devices: a loop that prints ``DEVICE VALUE``, and ``grep .`` over /proc/sys."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.shell_loop import loop
from deadhop.model.net import Sysctl
from deadhop.model.record import Record

_FILE = re.compile(r"^\s*(?P<path>/proc/sys/[\w./@-]+)[: ]+(?P<value>-?\d+)\s*$")
_ROW = re.compile(
    r"^\s*(?P<item>[\w.@/-]+)\s*[:=]?\s+(?P<value>-?\d+)\s*$|^\s*(?P<item2>[\w.@-]+)[:=](?P<value2>-?\d+)\s*$"
)
_PLACE = re.compile(r"/proc/sys/(?P<head>[\w./-]*)\$\{?\w+\}?(?P<tail>/[\w/.-]+)")
_KEY = re.compile(r"(?P<head>net\.[\w.]+\.)\$\{?\w+\}?(?P<tail>\.\w+)")


def _key(path: str) -> str:
    return path.removeprefix("/proc/sys/").replace("/", "\0").replace(".", "/").replace("\0", ".")


def _asked(context: Context, item: str) -> str:
    """The key that a loop reads for one of its items; empty where it reads none."""
    each = loop(context.command.line) if context.command else None
    if each is None or (
        each.items and item.rpartition("/")[2] not in [i.rpartition("/")[2] for i in each.items]
    ):
        return ""
    if match := _PLACE.search(each.body):
        return _key(f"/proc/sys/{match['head']}{item}{match['tail']}")
    if match := _KEY.search(each.body):
        return f"{match['head']}{item.replace('.', '/')}{match['tail']}"
    return ""


_COUNTED = re.compile(
    r"(?:\bgrep\s+(?:-\S+\s+)*['\"]?\\?\.?|\bsysctl\s[^|]*?(?:-\w*r|--pattern)[= ]\s*['\"]?\S*?|/proc/sys/net/ipv4/conf/\*/)(?P<setting>rp_filter|forwarding|accept_local|send_redirects|log_martians)\b"
)
#: What leaves only the values: the last column, or files printed without their names.
_VALUES = re.compile(r"\b(?:awk|cut|sed|cat|tr)\s|\bgrep\s+-\w*h|\bsysctl\s[^|]*-\w*n")
_TALLY = re.compile(
    r"awk\s+'\{\s*(?P<array>\w+)\[\$\d+\]\+\+\s*\}\s*END\s*\{\s*for\s*\((?P<key>\w+) in (?P=array)\)\s*print (?P=key), ?(?P=array)\[(?P=key)\]"
)


def _read_tally(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    """How many devices have which value: ``sort | uniq -c``, or a tally in awk. The key's device is then ``*``."""
    line = context.command.line if context.command else ""
    asked, match = _COUNTED.search(line), re.match(r"^\s*(\d+)\s+(\d+)\s*$", lines.text[i])
    if asked is None or match is None:
        return i, []
    if _TALLY.search(line):
        value = match[1]
    elif "uniq -c" in line and _VALUES.search(line):
        value = match[2]
    else:
        return i, []
    return i + 1, [
        Sysctl(
            source=lines.source(i),
            where=context.where,
            key=f"net.ipv4.conf.*.{asked['setting']}",
            value=value,
        )
    ]


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    if match := _FILE.match(lines.text[i]):
        key, value = _key(match["path"]), match["value"]
    elif match := _ROW.match(lines.text[i]):
        key, value = _asked(context, match["item"] or match["item2"]), match["value"] or match["value2"]
    else:
        return i, []
    return (
        (i + 1, [Sysctl(source=lines.source(i), where=context.where, key=key, value=value)])
        if key
        else (i, [])
    )


FORMATS = (LineFormat("sysctl-tally", re.compile(r"^\s*\d+\s+\d+\s*$"), _read_tally, priority=12),)
FORMAT = LineFormat(
    "sysctl-loop",
    re.compile(r"^\s*/proc/sys/\S+[: ]\s*-?\d+\s*$|^\s*[\w.@/-]+\s*[:=]?\s*-?\d+\s*$"),
    _read,
    priority=13,
)
