"""HAProxy: ``backend``/``listen`` sections of its configuration, and ``show servers state`` of its runtime API.

A server becomes a record twice: as configured (a name or an address, and whether a ``resolvers`` section resolves it
again) and as held at run time (HAProxy configuration manual 4.2 "server", 5.3 DNS resolution; management guide 9.3).
"""

from __future__ import annotations

import re

from deadhop.evidence.fields import is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.http import ProxyServer
from deadhop.model.observed.message import Message
from deadhop.model.record import Record

_SECTION = re.compile(
    r"^\s*(?P<kind>global|defaults|frontend|backend|listen|resolvers|peers|userlist|cache)(?:\s+(?P<name>[\w.:-]+))?\s*$"
)
_SERVER = re.compile(
    r"^\s*server(?:-template)?\s+(?P<name>[\w.<>-]+)\s+(?:(?P<count>\d+(?:-\d+)?)\s+)?(?P<target>[\w.-]+(?::\d+)?|\[[0-9a-f:]+\]:\d+)(?P<rest>(?:\s+[\w.,:/*-]+)*)\s*$"
)
#: Words that stand only in HAProxy's server lines, so that one line by itself is known.
_OWN = re.compile(
    r"\b(?:check|inter|rise|fall|resolvers|init-addr|resolve-prefer|maxconn|send-proxy(?:-v2)?|backup|observe|slowstart)\b"
)
_DEFAULT = re.compile(r"^\s*default-server\b(?P<rest>.*)$")
_DIRECTIVE = re.compile(r"^\s+(?:[a-z][\w.-]*)(?:\s+\S.*)?$")
_TUNE = re.compile(
    r"^\s*(?P<name>tune\.(?:bufsize(?:\.\w+)?|maxrewrite|http\.maxhdr))\s+(?P<value>\d+)\s*(?:#.*)?$"
)
_STATE = re.compile(r"\bsrv_name\b.*\bsrv_addr\b")


def _option(rest: str, name: str) -> str:
    match = re.search(rf"(?:^|\s){name}\s+(\S+)", rest)
    return match[1] if match else ""


def _server(lines: Lines, i: int, context: Context, backend: str, default: str) -> ProxyServer | None:
    match = _SERVER.match(lines.text[i])
    if match is None:
        return None
    rest = match["rest"]
    return ProxyServer(
        source=lines.source(i), where=context.where, proxy="haproxy", backend=backend, name=match["name"], target=match["target"],
        resolvers=_option(rest, "resolvers") or _option(default, "resolvers"),
    )  # fmt: skip


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    if tune := _TUNE.match(lines.text[i]):
        fields = (("name", tune["name"]), ("value", tune["value"]))
        return i + 1, [Message(source=lines.source(i), where=context.where, emitter="haproxy", kind="proxy-setting", fields=fields, text=lines.text[i].strip())]  # fmt: skip
    section = _SECTION.match(lines.text[i])
    if section is None:
        alone = _server(lines, i, context, "", "") if _OWN.search(lines.text[i]) else None
        return (i + 1, [alone]) if alone else (i, [])
    records: list[Record] = []
    default, k = "", i + 1
    while k < len(lines.text):
        line = lines.text[k]
        if not line.strip() or line.lstrip().startswith("#"):
            k += 1
            continue
        if _SECTION.match(line) or not _DIRECTIVE.match(line):
            break
        if told := _DEFAULT.match(line):
            default = told["rest"]
        elif _TUNE.match(line):
            records += _read(lines, k, context)[1]
        elif server := _server(lines, k, context, section["name"] or "", default):
            records.append(server)
        k += 1
    return (k, records) if records else (i, [])


def _read_state(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    """Rows below a header with srv_name and srv_addr; awk's columns are off by one there, as the header begins with ``#``."""
    if not _STATE.search(lines.text[i]):
        return i, []
    shown = (
        re.search(r"show servers state (?P<backend>[\w.-]+)", context.command.line)
        if context.command
        else None
    )
    records: list[Record] = []
    k = i + 1
    while k < len(lines.text):
        cells = lines.text[k].split()
        at = next((n for n, c in enumerate(cells) if is_ip(c)), 0)
        if not at:
            break
        backend = cells[at - 3] if at >= 3 else (shown["backend"] if shown else "")
        state = cells[at + 1] if at + 1 < len(cells) else ""
        records.append(ProxyServer(source=lines.source(k), where=context.where, proxy="haproxy", backend=backend, name=cells[at - 1], address=cells[at], state={"0": "down", "2": "up"}.get(state, "")))  # fmt: skip
        k += 1
    return (k, records) if records else (i, [])


FORMATS = (
    LineFormat("haproxy-config", re.compile(r"^\s*(?:(?:backend|listen|global|defaults|frontend)\b(?:\s+[\w.:-]+)?\s*$|server(?:-template)?\s+\S+\s|tune\.\w)"), _read, priority=30),
    LineFormat("haproxy-state", _STATE, _read_state, priority=16),
)  # fmt: skip
