"""An interface, tunnel or route MTU written down in one line: ``cilium_wg0 mtu 1420``, ``pod default route mtu 1420``,
and the parameter line of ``ip tunnel show``."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.net import Link, NextHop, Route
from deadhop.model.record import Record

_NOTE = re.compile(
    r"^\s*(?P<who>[\w@.-]+(?: [\w@.-]+){0,3}?)[:\s]+mtu[:= ]+(?P<mtu>\d{3,5})\b[^,;]{0,40}$", re.I
)
_TUNNEL = re.compile(
    r"^\s*(?P<name>[\w.@-]+): (?P<mode>\S+/\S+)\s+remote (?P<remote>\S+)\s+local (?P<local>\S+)(?P<rest>.*)$"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    if match := _TUNNEL.match(line):
        info = {
            "mode": match["mode"],
            "remote": match["remote"],
            "local": match["local"],
            "pmtudisc": "nopmtudisc" not in match["rest"],
        }
        kind = match["mode"].partition("/")[0]
        return i + 1, [
            Link(
                source=lines.source(i),
                where=context.where,
                ifname=match["name"],
                kind="ipip" if kind == "any" else kind,
                info=info,
            )
        ]
    match = _NOTE.match(line)
    if not match or "<" in line:
        return i, []
    who, mtu = match["who"].split(), int(match["mtu"])
    if "route" in who:
        where = context.where or (who[0] if who[0] in ("pod", "host", "node") else "")
        return i + 1, [
            Route(source=lines.source(i), where=where, family=4, dst="default", legs=(NextHop(),), mtu=mtu)
        ]
    words = [w for w in who if w.lower() not in ("interface", "device", "dev", "link", "the", "nic")]
    if not words:
        return i, []
    where = context.where or (words[0] if words[0] in ("pod", "host", "node", "container") else "")
    return i + 1, [Link(source=lines.source(i), where=where, ifname=words[-1], mtu=mtu)]


FORMAT = LineFormat(
    "ip-note", re.compile(r"\bmtu\b|pmtudisc|\sremote\s.*\slocal\s", re.I), _read, priority=70
)
