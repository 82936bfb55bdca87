"""One setting of many devices: a loop that prints ``DEVICE VALUE``, and ``grep .`` over /proc/sys."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.shell_loop import loop
from deadhop.model.net import Sysctl
from deadhop.model.record import Record

_FILE = re.compile(r"^\s*(?P<path>/proc/sys/[\w./@-]+)[: ]+(?P<value>-?\d+)\s*$")
_ROW = re.compile(r"^\s*(?P<item>[\w.@/-]+)\s*[:=]?\s+(?P<value>-?\d+)\s*$|^\s*(?P<item2>[\w.@-]+)[:=](?P<value2>-?\d+)\s*$")
_PLACE = re.compile(r"/proc/sys/(?P<head>[\w./-]*)\$\{?\w+\}?(?P<tail>/[\w/.-]+)")
_KEY = re.compile(r"(?P<head>net\.[\w.]+\.)\$\{?\w+\}?(?P<tail>\.\w+)")


def _key(path: str) -> str:
    return path.removeprefix("/proc/sys/").replace("/", "\0").replace(".", "/").replace("\0", ".")


def _asked(context: Context, item: str) -> str:
    """The key that a loop reads for one of its items; empty where it reads none."""
    each = loop(context.command.line) if context.command else None
    if each is None or (each.items and item.rpartition("/")[2] not in [i.rpartition("/")[2] for i in each.items]):
        return ""
    if match := _PLACE.search(each.body):
        return _key(f"/proc/sys/{match['head']}{item}{match['tail']}")
    if match := _KEY.search(each.body):
        return f"{match['head']}{item.replace('.', '/')}{match['tail']}"
    return ""


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    if match := _FILE.match(lines.text[i]):
        key, value = _key(match["path"]), match["value"]
    elif match := _ROW.match(lines.text[i]):
        key, value = _asked(context, match["item"] or match["item2"]), match["value"] or match["value2"]
    else:
        return i, []
    return (i + 1, [Sysctl(source=lines.source(i), where=context.where, key=key, value=value)]) if key else (i, [])


FORMAT = LineFormat(
    "sysctl-loop", re.compile(r"^\s*/proc/sys/\S+[: ]\s*-?\d+\s*$|^\s*[\w.@/-]+\s*[:=]?\s*-?\d+\s*$"), _read, priority=13
)
