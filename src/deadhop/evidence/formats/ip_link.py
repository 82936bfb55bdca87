"""``ip addr`` and ``ip link`` text, also their loose lines, and ``ifconfig``.

The interface number is optional: people paste single lines without it.
"""

from __future__ import annotations

import re

from deadhop.evidence.fields import integer, is_ip, netmask_length
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.net import Address, Link
from deadhop.model.record import Record

_HEAD = re.compile(
    r"^\s*(?:\[LINK\])?(?:(?P<index>\d+): )?(?P<name>[^\s@:<\[]+)(?:@(?P<peer>[^\s:]+))?: <(?P<flags>[A-Z0-9_,-]*)> mtu (?P<mtu>\d+)(?P<rest>.*)$"
)
_LINK = re.compile(
    r"^\s+link/(?P<type>\S+)(?: (?P<mac>[0-9a-f:]{17}|[0-9a-fA-F.:]+))?.*?(?:link-netns(?P<idword>id)? (?P<netns>\S+))?\s*$"
)
_INET = re.compile(
    r"^\s+(?P<family>inet6?) (?P<addr>[0-9a-fA-F:.]+)(?: peer (?P<peer>[0-9a-fA-F:.]+))?(?:/(?P<len>\d+))?(?: (?:brd|metric) \S+)*(?: scope (?P<scope>\w+))?(?P<rest>.*)$"
)
_KIND = re.compile(
    r"^\s+(?P<kind>vxlan|veth|bridge|vlan|macvlan|ipvlan|tun|wireguard|geneve|ipip|gre|vrf|dummy|bond|bridge_slave)\b(?P<rest>.*)$"
)
_IFCONFIG = re.compile(
    r"^(?P<name>[a-z][\w.-]*)\s+Link encap:(?P<encap>\S+)(?:.*HWaddr (?P<mac>\S+))?|^(?P<name2>[a-z][\w.-]*): flags=\d+<(?P<flags>[A-Z,]*)>\s+mtu (?P<mtu>\d+)"
)
_IF_MTU = re.compile(r"\bMTU:(\d+)")
_IF_INET = re.compile(r"inet (?:addr:)?(?P<addr>\d[\d.]+).*?(?:[Mm]ask:?\s*(?P<mask>[\d.]+))")
_START = re.compile(r": <[A-Z0-9_,-]*> mtu \d+|Link encap:|: flags=\d+<")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _HEAD.match(lines.text[i])
    if match is None:
        return _ifconfig(lines, i, context)
    start = i
    rest = match["rest"]
    peer = match["peer"] or ""
    fields: dict[str, object] = {}
    records: list[Record] = []
    info: dict[str, object] = {}
    below = _below(lines, i, rest)
    for at, line in below:
        if layer := _LINK.match(line):
            fields["link_type"] = layer["type"]
            fields["address"] = layer["mac"]
            if layer["netns"]:
                info["link_netns"] = layer["netns"]
        elif (inet := _INET.match(line)) and is_ip(inet["addr"]):
            family = 6 if inet["family"] == "inet6" else 4
            records.append(
                Address(
                    source=lines.source(at),
                    where=context.where,
                    ifname=match["name"],
                    local=inet["addr"],
                    prefixlen=integer(inet["len"], 128 if family == 6 else 32) or 0,
                    family=family,
                    scope=inet["scope"],
                    peer=inet["peer"],
                )
            )
        elif kind := _KIND.match(line):
            fields["kind"] = kind["kind"]
            if pmtudisc := re.search(r"\b(no)?pmtudisc\b", kind["rest"]):
                info["pmtudisc"] = not pmtudisc[1]
            if under := re.search(r"\bdev ([\w.@-]+)", kind["rest"]):
                info["dev"] = under[1]
            if own := re.search(r"\blocal ([\da-fA-F.:]+)", kind["rest"]):
                info["local"] = own[1]
    i = max((at for at, _line in below), default=i) + 1
    state = re.search(r" state (\S+)", rest)
    qdisc = re.search(r" qdisc (\S+)", rest)
    master = re.search(r" master (\S+)", rest)
    link = Link(
        source=lines.source(start),
        where=context.where,
        ifname=match["name"],
        ifindex=integer(match["index"]),
        flags=tuple(f for f in match["flags"].split(",") if f),
        mtu=int(match["mtu"]),
        operstate=state[1] if state else None,
        qdisc=qdisc[1] if qdisc else None,
        master=master[1] if master else None,
        link=peer or None,
        link_type=fields.get("link_type"),  # type: ignore[arg-type]
        address=fields.get("address"),  # type: ignore[arg-type]
        kind=fields.get("kind") or ("veth" if re.fullmatch(r"if\d+", peer) else None),  # type: ignore[arg-type]
        info=info or None,
    )
    return i, [link, *records]


def _below(lines: Lines, i: int, rest: str) -> list[tuple[int, str]]:
    """The lines below a link's first, each with its index; ``ip -o`` puts them behind backslashes on the same line."""
    if "\\" in rest:
        return [(i, part) for part in rest.split("\\")[1:]]
    found = []
    for at in range(i + 1, len(lines.text)):
        line = lines.text[at]
        if not line[:1].isspace() or not line.strip() or _HEAD.match(line):
            break
        found.append((at, line))
    return found


def _ifconfig(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _IFCONFIG.match(lines.text[i])
    if match is None:
        return i, []
    start = i
    name = match["name"] or match["name2"]
    mtu = integer(match["mtu"])
    flags = tuple((match["flags"] or "").split(",")) if match["flags"] else None
    records: list[Record] = []
    i += 1
    while i < len(lines.text) and lines.text[i][:1].isspace() and lines.text[i].strip():
        line = lines.text[i]
        if found := _IF_MTU.search(line):
            mtu = int(found[1])
            flags = tuple(w for w in line.split() if w.isupper() and ":" not in w)
        if inet := _IF_INET.search(line):
            length = netmask_length(inet["mask"])
            records.append(
                Address(
                    source=lines.source(i),
                    where=context.where,
                    ifname=name,
                    local=inet["addr"],
                    prefixlen=length if length is not None else 32,
                    family=4,
                )
            )
        i += 1
    link = Link(
        source=lines.source(start, i - 1),
        where=context.where,
        ifname=name,
        mtu=mtu,
        flags=flags,
        address=match["mac"],
    )
    return i, [link, *records]


FORMAT = LineFormat("ip-link", _START, _read, priority=20)
