"""``ip tunnel show``: a tunnel and its parameters on one line (iproute2 ip/iptunnel.c print_tunnel)."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.net import Link
from deadhop.model.record import Record

_LINE = re.compile(
    r"^\s*(?P<name>[\w.@-]{1,15}): (?P<kind>any|ip|gre|ipv6|unknown)/ip(?:v6)?\s+remote (?P<remote>\S+)\s+local (?P<local>\S+)(?P<rest>.*)$"
)
_KINDS = {"any": "ipip", "ip": "ipip", "gre": "gre", "ipv6": "sit"}


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _LINE.match(lines.text[i])
    if match is None:
        return i, []
    rest = match["rest"].split()
    info: dict[str, object] = {"remote": match["remote"], "local": match["local"]}
    if "pmtudisc" in rest or "nopmtudisc" in rest:
        info["pmtudisc"] = "pmtudisc" in rest
    under = rest[rest.index("dev") + 1] if "dev" in rest[:-1] else None
    if under:
        info["dev"] = under
    return i + 1, [
        Link(
            source=lines.source(i),
            where=context.where,
            ifname=match["name"],
            kind=_KINDS.get(match["kind"]),
            info=info,
        )
    ]


FORMAT = LineFormat(
    "ip-tunnel", re.compile(r"^\s*[\w.@-]{1,15}: \w+/ip(?:v6)?\s+remote \S+\s+local "), _read, priority=19
)
