"""``ip -j [-d] addr|link|route|rule|neigh|nexthop``: JSON of iproute2 4.14 and later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from deadhop.model import ip
from deadhop.model.net import (
    Address,
    Link,
    Listing,
    Neighbour,
    NextHop,
    NexthopObject,
    Route,
    Rule,
)
from deadhop.model.protocols import DSFIELD, PROTOCOLS
from deadhop.model.record import Problem, Record, Source

#: What a malformed object may raise while a reader picks it apart; nothing else may.
MALFORMED = (KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError)

#: Rule keys that :class:`Rule` holds, or that decide nothing.
_RULE_KEYS = frozenset(
    "priority not src srclen dst dstlen tos dscp fwmark fwmask iif iif_detached oif oif_detached l3mdev uid_start "
    "uid_end ipproto sport sport_start sport_end sport_mask dport dport_start dport_end dport_mask table "
    "suppress_prefixlen suppress_prefixlength suppress_ifgroup goto unresolved nop action to protocol".split()
)


def decode(data: bytes, file: str) -> tuple[list[Any], Problem | None]:
    """The top-level JSON array. iproute2 prints nothing at all for an empty listing of some kinds."""
    if not data.strip():
        return [], None
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        return [], Problem(kind="damaged", text=f"not JSON: {error}", source=Source(file))
    if not isinstance(value, list):
        return [], Problem(kind="damaged", text="not a JSON array", source=Source(file))
    return value, None


def each(
    data: bytes, file: str, what: str, make: Callable[[dict[str, Any], Source], Iterator[Record]]
) -> Iterator[Record]:
    """``make`` over the objects of a listing; a :class:`Problem` for each that it cannot read.

    A listing that is damaged or holds unreadable objects is not whole, so it yields no :class:`Listing`.
    """
    items, problem = decode(data, file)
    whole = problem is None
    if problem:
        yield problem
    for index, item in enumerate(items):
        source = Source(file, path=f"#{index}")
        if item == {}:  # ip -d prints {} for objects that a filter left out
            continue
        try:
            yield from [_checked(record) for record in make(item, source)]
        except MALFORMED as error:
            whole = False
            text = f"{what}: {type(error).__name__} {error} in {str(item)[:200]}"
            yield Problem(kind="damaged", text=text, source=source)
    if whole:
        yield Listing(what=what, source=Source(file))


def number(value: Any) -> int:
    """An integer as iproute2 writes it: a JSON number, ``"12"`` or ``"0xff"``."""
    return value if isinstance(value, int) else int(str(value), 0)


def words(value: Any) -> tuple[str, ...]:
    return tuple(str(word) for word in value or ())


def _text(item: dict[str, Any], key: str) -> str | None:
    value = item.get(key)
    return None if value is None else str(value)


def _int(item: dict[str, Any], key: str) -> int | None:
    return None if item.get(key) is None else number(item[key])


def _checked(record: Record) -> Record:
    """The record, if its addresses and prefixes are such; raises :class:`ValueError`."""
    match record:
        case Address():
            if (
                ip.parse(record.local)[0] != record.family
                or not 0 <= record.prefixlen <= ip.WIDTH[record.family]
            ):
                raise ValueError(f"address {record.local}/{record.prefixlen}")
            for other in (record.broadcast, record.peer):
                if other is not None:
                    ip.parse(other.partition("/")[0])
        case Route():
            ip.prefix(record.dst, record.family)
            if record.src is not None:
                ip.prefix(record.src, record.family)
            hosts = [record.prefsrc, *(leg.gateway for leg in record.legs)]
            for host in hosts:
                if host is not None:
                    ip.parse(host)
        case Rule():
            ip.prefix(record.src, record.family)
            ip.prefix(record.dst, record.family)
        case Neighbour():
            ip.parse(record.dst)
        case NexthopObject() if record.gateway is not None:
            ip.parse(record.gateway)
    return record


def _link(item: dict[str, Any], source: Source) -> Link:
    info = item.get("linkinfo") or {}
    data = info.get("info_data")
    return Link(
        source=source,
        ifname=str(item["ifname"]),
        ifindex=_int(item, "ifindex"),
        flags=words(item["flags"]) if "flags" in item else None,
        mtu=_int(item, "mtu"),
        operstate=_text(item, "operstate"),
        qdisc=_text(item, "qdisc"),
        group=_text(item, "group"),
        link_type=_text(item, "link_type"),
        address=_text(item, "address"),
        kind=_text(info, "info_kind"),
        master=_text(item, "master"),
        link=_text(item, "link") or _text(item, "link_index"),
        link_netnsid=_int(item, "link_netnsid"),
        vrf_table=str(data["table"])
        if isinstance(data, dict) and info.get("info_kind") == "vrf" and "table" in data
        else None,
        info=data if isinstance(data, dict) else None,
    )


def links(data: bytes, file: str) -> Iterator[Record]:
    """``ip -j -d link``."""
    yield from each(data, file, "links", lambda item, source: iter((_link(item, source),)))


def addresses(data: bytes, file: str) -> Iterator[Record]:
    """``ip -j -d addr``: links and their addresses."""
    known = (
        "nodad",
        "deprecated",
        "tentative",
        "dadfailed",
        "secondary",
        "temporary",
        "optimistic",
        "noprefixroute",
        "dynamic",
    )

    def make(item: dict[str, Any], source: Source) -> Iterator[Record]:
        yield _link(item, source)
        for position, info in enumerate(item.get("addr_info") or ()):
            if not info:
                continue
            local = str(info["local"])
            yield Address(
                source=Source(source.file, path=f"{source.path}/addr_info/{position}"),
                ifname=str(item["ifname"]),
                local=local,
                prefixlen=number(info["prefixlen"]),
                family=6 if info.get("family") == "inet6" or ":" in local else 4,
                scope=_text(info, "scope"),
                broadcast=_text(info, "broadcast"),
                peer=_text(info, "address"),
                label=_text(info, "label"),
                flags=tuple(flag for flag in known if info.get(flag)),
            )

    for record in each(data, file, "addresses", make):
        yield record
        if isinstance(record, Listing):
            yield Listing(what="links", source=record.source)


def _family(item: dict[str, Any]) -> int:
    """The IP version of a route of a mixed listing: IPv6 routes have a ``pref`` or a colon somewhere."""
    hosts = [item.get("dst"), item.get("gateway"), item.get("from"), item.get("prefsrc")]
    if "pref" in item or any(isinstance(host, str) and ":" in host for host in hosts):
        return 6
    return 4


def _gateway(item: dict[str, Any]) -> str | None:
    via = item.get("via")
    return str(via["host"]) if isinstance(via, dict) and "host" in via else _text(item, "gateway")


def _leg(item: dict[str, Any]) -> NextHop:
    encap = item.get("encap")
    return NextHop(
        dev=_text(item, "dev"),
        gateway=_gateway(item),
        weight=number(item.get("weight", 1)),
        flags=words(item.get("flags")),
        encap=None
        if encap is None
        else str(encap.get("encap_type", "encap") if isinstance(encap, dict) else encap),
    )


def dsfield(value: Any) -> int:
    """A TOS byte as iproute2 writes it: ``0x10``, or a name of rt_dsfield."""
    if isinstance(value, str) and value in DSFIELD:
        return DSFIELD[value]
    return number(value)


def _route(item: dict[str, Any], source: Source, version: int) -> Route:
    metrics = {key: value for group in item.get("metrics") or () for key, value in group.items()}
    locks = metrics.get("lock")
    legs = tuple(_leg(leg) for leg in item.get("nexthops") or ())
    if not legs and (item.get("dev") is not None or _gateway(item)):
        legs = (_leg(item),)
    return Route(
        source=source,
        family=version,
        dst=str(item["dst"]),
        type=str(item.get("type", "unicast")),
        table=str(item.get("table", "main")),
        legs=legs,
        metric=_int(item, "metric"),
        tos=dsfield(item["tos"]) if "tos" in item else 0,
        scope=_text(item, "scope"),
        prefsrc=_text(item, "prefsrc"),
        protocol=_text(item, "protocol"),
        src=None if item.get("from") in (None, "default", "all") else str(item["from"]),
        mtu=_int(metrics, "mtu"),
        mtu_locked=None if locks is None else "mtu" in locks,
        nhid=_int(item, "nhid"),
        pref=_text(item, "pref"),
        flags=words(item.get("flags")),
    )


def routes(data: bytes, file: str) -> Iterator[Record]:
    """``ip -j -d route show table all``: both families where the tool was not told one."""
    both = False
    for record in each(
        data, file, "routes4", lambda item, source: iter((_route(item, source, _family(item)),))
    ):
        both = both or (isinstance(record, Route) and record.family == 6)
        yield record
        if isinstance(record, Listing) and both:
            yield Listing(what="routes6", source=record.source)


def routes4_only(data: bytes, file: str) -> Iterator[Record]:
    """:func:`routes` without IPv6, for folders that hold ``ip -6 route`` as well."""
    for record in routes(data, file):
        six = (isinstance(record, Route) and record.family == 6) or (
            isinstance(record, Listing) and record.what == "routes6"
        )
        if not six:
            yield record


def routes6(data: bytes, file: str) -> Iterator[Record]:
    """``ip -6 -j -d route show table all``."""
    yield from each(data, file, "routes6", lambda item, source: iter((_route(item, source, 6),)))


def _span(item: dict[str, Any], key: str) -> tuple[int, int] | None:
    if f"{key}_start" in item:
        return number(item[f"{key}_start"]), number(item[f"{key}_end"])
    if key in item:
        return number(item[key]), number(item[key])
    return None


def _prefix(item: dict[str, Any], key: str) -> str:
    value = item.get(key)
    if value in (None, "all", "default"):
        return "all"
    return f"{value}/{number(item[key + 'len'])}" if key + "len" in item else str(value)


def _rule(item: dict[str, Any], source: Source, version: int) -> Rule:
    action = "lookup"
    goto: int | None = None
    if "goto" in item:
        action, goto = "goto", None if item["goto"] == "none" else number(item["goto"])
    elif "nop" in item:
        action = "nop"
    elif "action" in item:
        action = str(item["action"])
    proto = item.get("ipproto")
    suppress = item.get("suppress_prefixlen", item.get("suppress_prefixlength"))
    odd = tuple(sorted(key for key in item if key not in _RULE_KEYS))
    odd += tuple(key for key in ("sport_mask", "dport_mask") if key in item)
    return Rule(
        source=source,
        family=version,
        priority=number(item["priority"]),
        action=action,
        table=_text(item, "table"),
        goto=goto,
        inverted="not" in item,
        src=_prefix(item, "src"),
        dst=_prefix(item, "dst"),
        iif=_text(item, "iif"),
        oif=_text(item, "oif"),
        fwmark=_int(item, "fwmark"),
        fwmask=_int(item, "fwmask"),
        tos=dsfield(item["tos"]) if "tos" in item else None,
        dscp=_int(item, "dscp"),
        ipproto=None
        if proto is None
        else PROTOCOLS[proto]
        if proto in PROTOCOLS
        else number(str(proto).removeprefix("ipproto-")),
        sport=_span(item, "sport"),
        dport=_span(item, "dport"),
        uidrange=(number(item["uid_start"]), number(item["uid_end"])) if "uid_start" in item else None,
        suppress_prefixlength=None if suppress is None else number(suppress),
        suppress_ifgroup=_text(item, "suppress_ifgroup"),
        l3mdev="l3mdev" in item,
        unsupported=odd,
    )


def rules4(data: bytes, file: str) -> Iterator[Record]:
    """``ip -j rule``."""
    yield from each(data, file, "rules4", lambda item, source: iter((_rule(item, source, 4),)))


def rules6(data: bytes, file: str) -> Iterator[Record]:
    """``ip -6 -j rule``."""
    yield from each(data, file, "rules6", lambda item, source: iter((_rule(item, source, 6),)))


def neighbours(data: bytes, file: str) -> Iterator[Record]:
    """``ip -j neigh``."""

    def make(item: dict[str, Any], source: Source) -> Iterator[Record]:
        yield Neighbour(
            source=source,
            dst=str(item["dst"]),
            dev=str(item["dev"]),
            lladdr=_text(item, "lladdr"),
            state=words(item.get("state")),
            proxy="proxy" in item,
        )

    yield from each(data, file, "neighbours", make)


def nexthops(data: bytes, file: str) -> Iterator[Record]:
    """``ip -j nexthop``."""

    def make(item: dict[str, Any], source: Source) -> Iterator[Record]:
        yield NexthopObject(
            source=source,
            id=number(item["id"]),
            dev=_text(item, "dev"),
            gateway=_gateway(item),
            blackhole="blackhole" in item,
            group=tuple((number(m["id"]), number(m.get("weight", 1))) for m in item.get("group") or ()),
            group_type=_text(item, "type"),
            flags=words(item.get("flags")),
            fdb="fdb" in item,
        )

    yield from each(data, file, "nexthops", make)
