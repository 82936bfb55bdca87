"""resolv.conf (resolv.conf(5))."""

from __future__ import annotations

import re

from deadhop.evidence.fields import is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.dns import ResolvConf
from deadhop.model.record import Record

_LINE = re.compile(r"^\s*(?P<key>nameserver|search|domain|options|sortlist)\s+(?P<rest>\S.*)$")
_OPTION = re.compile(
    r"^(ndots:\d+|timeout:\d+|attempts:\d+|rotate|single-request(?:-reopen)?|use-vc|edns0|trust-ad|no-check-names|inet6|debug|no-tld-query|no-reload|no-aaaa)$"
)


def _own(line: str) -> tuple[str, list[str]] | None:
    match = _LINE.match(line.partition("#")[0].partition(";")[0])
    if not match:
        return None
    key, rest = match["key"], match["rest"].split()
    if key == "nameserver" and not is_ip(rest[0]):
        return None
    if key in ("search", "domain") and not all(re.fullmatch(r"[\w.<>*-]+", word) for word in rest):
        return None
    if key in ("search", "domain") and not any("." in word for word in rest) and len(rest) > 1:
        return None
    if key == "options" and not all(_OPTION.match(word) for word in rest):
        return None
    return key, rest


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    start = i
    nameservers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    while i < len(lines.text):
        line = lines.text[i]
        if line.lstrip().startswith(("#", ";")) and i > start and not (nameservers and search):
            i += 1
            continue
        own = _own(line)
        if own is None:
            break
        key, rest = own
        if key == "nameserver":
            nameservers.append(rest[0])
        elif key in ("search", "domain"):
            search = rest
        elif key == "options":
            options += rest
        i += 1
    if i == start:
        return start, []
    record = ResolvConf(
        source=lines.source(start, i - 1),
        where=context.where,
        nameservers=tuple(nameservers),
        search=tuple(search),
        options=tuple(options),
    )
    return i, [record]


FORMAT = LineFormat(
    "resolv-conf", re.compile(r"^\s*(nameserver|search|domain|options)\s+\S"), _read, priority=30
)
