"""Sysctls as ``sysctl`` prints them, as sysctl.d files hold them, and as /proc/sys shows them.

``key = value`` with blanks is output of the tool; ``key=value`` is a file's line unless a ``sysctl`` command was
typed before. ``cat /proc/sys/net/…`` with a bare value is output too.
"""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.shell_loop import expand
from deadhop.model.net import Listing, Sysctl
from deadhop.model.observed.node import SysctlSetting
from deadhop.model.record import Record

_AREA = r"(?:net|kernel|fs|vm|user|dev|abi|debug|crypto)"
_LINE = re.compile(
    rf"^\s*(?P<dash>-)?\s*(?P<key>{_AREA}[./][\w./*@:?\[\]-]+)(?P<gap>\s*=\s*)(?P<value>.*?)\s*$"
)
_EXCLUDE = re.compile(rf"^\s*-(?P<key>{_AREA}[./][\w./*@:?\[\]-]+)\s*$")
_BARE = re.compile(r"^\s*(?P<key>net[./](?:ipv4|ipv6|netfilter|bridge|core)[./][\w./*@:-]+)\s*$")
_VALUE = re.compile(r"^\s*-?\d+(?:\s+-?\d+)*\s*$")


def normal(key: str) -> str:
    """The key with dots between its parts; in the slash form a dot belongs to a device name and becomes a slash."""
    dot, slash = key.find("."), key.find("/")
    if slash >= 0 and (dot < 0 or slash < dot):
        return key.translate(str.maketrans("./", "/."))
    return key


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    text = lines.text
    start = i
    command = context.command
    path = ""
    reading = False
    if command:
        path = (
            next((a for a in command.argv[1:] if a.endswith(".conf") or "sysctl.d" in a), "")
            if command.program in ("cat", "less", "head", "tail", "grep")
            else ""
        )
        reading = command.program == "sysctl" and "-w" not in command.argv
        files = [f for a in command.argv[1:] if a.startswith("/proc/sys/") for f in expand(a)]
        nth = lines.first + i - command.source.line - 1
        proc = files[nth] if 0 <= nth < len(files) else next(iter(files), "")
        if proc and _VALUE.match(text[i]) and command.program in ("cat", "head", "tail"):
            key = normal(
                proc.removeprefix("/proc/sys/").replace("/", "\0").replace(".", "/").replace("\0", ".")
            )
            return i + 1, [
                Sysctl(source=lines.source(i), where=context.where, key=key, value=text[i].strip())
            ]
    records: list[Record] = []
    settings = 0
    while i < len(text):
        line = text[i]
        if match := _LINE.match(line):
            key = normal(match["key"])
            spaced = match["gap"] == " = "
            if not match["dash"] and not path and "*" not in key and (spaced or reading):
                records.append(
                    Sysctl(source=lines.source(i), where=context.where, key=key, value=match["value"])
                )
            else:
                settings += 1
                records.append(
                    SysctlSetting(
                        source=lines.source(i),
                        where=context.where,
                        key=key,
                        value=match["value"],
                        path=path,
                        ignore_errors=bool(match["dash"]),
                    )
                )
        elif match := _EXCLUDE.match(line):
            records.append(
                SysctlSetting(
                    source=lines.source(i),
                    where=context.where,
                    key=normal(match["key"]),
                    path=path,
                    exclude=True,
                )
            )
        elif not (
            records
            and line.lstrip().startswith(("#", ";"))
            and i + 1 < len(text)
            and _LINE.match(text[i + 1])
        ):
            break
        i += 1
    if not records:
        return start, []
    if (
        reading
        and command
        and any(a in ("-a", "-A", "--all") for a in command.argv)
        and not command.filters
        and len(records) > 100
    ):
        records.append(Listing(source=lines.source(start, i - 1), where=context.where, what="sysctls"))
    return i, records


FORMAT = LineFormat(
    "sysctl",
    re.compile(rf"^\s*-?\s*{_AREA}[./][\w./*-]+\s*(=|$)|^\s*-?\d+(\s+-?\d+)*\s*$"),
    _read,
    priority=30,
)
