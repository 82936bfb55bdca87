"""``ip route`` and ``ip rule`` text, ``ip route get``, and ``route -n``."""

from __future__ import annotations

import ipaddress
import re
from itertools import pairwise

import msgspec

from deadhop.evidence.fields import integer, is_ip, netmask_length
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.net import Listing, NextHop, Route, Rule
from deadhop.model.observed.node import RouteGet
from deadhop.model.record import Record

_TYPES = "unicast|local|broadcast|multicast|throw|unreachable|prohibit|blackhole|nat|anycast"
_ROUTE = re.compile(
    rf"^\s*(?:(?P<type>{_TYPES}) )?(?P<dst>default|[0-9a-fA-F:.]+(?:/\d+)?)(?P<rest>(?:\s+(?:via|dev|proto|scope|src|metric|mtu|table|nexthop|onlink|linkdown|dead|expires|pref|advmss|uid|cache|from|encap|nhid|tos|error|hoplimit|lock|iif)\b.*)?)\s*$"
)
_WORD = re.compile(
    r"\b(via|dev|proto|scope|src|metric|table|mtu|from|uid|tos|iif|mark|pref|nhid)\s+(?:(?P<lock>lock)\s+)?(?:inet6? )?(\S+)"
)
_NEXTHOP = re.compile(r"^\s+nexthop\s+(?P<rest>.*)$")
_CACHE = re.compile(r"^\s+cache\b(?P<rest>.*)$")
_RULE = re.compile(r"^\s*(?P<pref>\d+):\s+(?P<not>not )?from (?P<src>\S+)(?P<rest>.*)$")
_HEADER = re.compile(r"^\s*(?:Kernel IP routing table|Destination\s+Gateway\s+Genmask)")
_ROW = re.compile(
    r"^\s*(?P<dst>[\d.]+|default)\s+(?P<gw>[\d.]+|\*)\s+(?P<mask>[\d.]+)\s+(?P<flags>[UGHRDMACP!]+)\s+(?P<metric>\d+)\s+\d+\s+\d+\s+(?P<dev>\S+)\s*$"
)
_START = re.compile(
    rf"^\s*(?:(?:{_TYPES})\s+)?(?:default|[0-9a-fA-F]*[:.][0-9a-fA-F:.]*(?:/\d+)?)\s+(?:via|dev|proto|scope|src|metric|table|from|mtu|linkdown)\b|^\s*\d+:\s+(?:not )?from \S+|^\s*(?:{_TYPES}) (?:default|[0-9a-fA-F:.]+)|Kernel IP routing table|^\s*Destination\s+Gateway|^\s*[\d.]+\s+[\d.]+\s+[\d.]+\s+U"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    if _HEADER.match(line) or _ROW.match(line):
        return _table(lines, i, context)
    if _RULE.match(line):
        return _rules(lines, i, context)
    start = i
    argv = context.command.argv if context.command else ()
    asked = "get" in argv
    records: list[Record] = []
    while i < len(lines.text) and (match := _ROUTE.match(lines.text[i])):
        words = _words(match["rest"])
        at = i
        legs: list[NextHop] = []
        cache = ""
        i += 1
        while i < len(lines.text):
            if hop := _NEXTHOP.match(lines.text[i]):
                leg = _words(hop["rest"])
                weight = re.search(r"weight (\d+)", hop["rest"])
                legs.append(
                    NextHop(
                        dev=leg.get("dev"), gateway=leg.get("via"), weight=int(weight[1]) if weight else 1
                    )
                )
            elif found := _CACHE.match(lines.text[i]):
                cache = found["rest"]
            else:
                break
            i += 1
        single = is_ip(match["dst"]) and (asked or "uid" in words or cache or " cache" in match["rest"])
        if single:
            mtu = re.search(r"\bmtu (\d+)", cache + match["rest"])
            records.append(
                RouteGet(
                    source=lines.source(at, i - 1),
                    where=context.where,
                    dst=match["dst"],
                    type=match["type"] or "unicast",
                    src=words.get("src", ""),
                    gateway=words.get("via", ""),
                    dev=words.get("dev", ""),
                    table=words.get("table", ""),
                    from_=words.get("from", ""),
                    iif=words.get("iif", ""),
                    mtu=int(mtu[1]) if mtu else None,
                    expires="expires" in cache,
                )
            )
            continue
        record = _route(lines, at, i - 1, context, match, words, legs)
        if record is None:
            i = at
            break
        records.append(record)
    if not records:
        return start, []
    if len(records) > 1 and not asked and _whole(argv) and not _selects(argv):
        table = next((argv[k + 1] for k, w in enumerate(argv[:-1]) if w == "table"), "main")
        version = 6 if any(isinstance(r, Route) and r.family == 6 for r in records) else 4
        tables = () if table in ("all", "0") else (table,)
        records.append(
            Listing(
                source=lines.source(start, i - 1), where=context.where, what=f"routes{version}", tables=tables
            )
        )
    return i, records


def _whole(argv: tuple[str, ...]) -> bool:
    return bool(argv) and argv[0] == "ip" and any(a in ("r", "ro", "route") for a in argv[1:4])


def _selects(argv: tuple[str, ...]) -> bool:
    """Whether ``ip route show SELECTOR`` asked for some routes only (``dev``, ``proto``, a prefix, the cache)."""
    words = list(argv[next(k for k, a in enumerate(argv) if a in ("r", "ro", "route")) + 1 :])
    if words and (words[0] in ("list", "ls", "lst") or "show".startswith(words[0])):
        words = words[1:]
    while words[:1] == ["table"]:
        words = words[2:]
    return any(not w.startswith("-") for w in words)


def _table_asked(context: Context) -> str:
    """The table of ``ip route show table N``, which its rows do not repeat."""
    argv = context.command.argv if context.command and _whole(context.command.argv) else ()
    table = next((b for a, b in pairwise(argv) if a == "table"), "main")
    return table if table not in ("all", "0") else "main"


def _words(text: str) -> dict[str, str]:
    return {m[1]: m[3] for m in _WORD.finditer(text)}


def _route(
    lines: Lines,
    at: int,
    end: int,
    context: Context,
    match: re.Match[str],
    words: dict[str, str],
    legs: list[NextHop],
) -> Route | None:
    dst = match["dst"]
    if dst != "default":
        try:
            ipaddress.ip_network(dst, strict=False)
        except ValueError:
            return None
    if any(key in words and not is_ip(words[key]) for key in ("via", "src")) or any(
        leg.gateway and not is_ip(leg.gateway) for leg in legs
    ):
        return None
    family = 6 if ":" in dst + words.get("via", "") else 4
    flags = tuple(f for f in ("onlink", "linkdown", "dead") if re.search(rf"\b{f}\b", match["rest"]))
    if not legs and ("dev" in words or "via" in words):
        legs = [NextHop(dev=words.get("dev"), gateway=words.get("via"), flags=flags)]
    lock = re.search(r"\bmtu (lock )?(\d+)", match["rest"])
    return Route(
        source=lines.source(at, end),
        where=context.where,
        family=family,
        dst=dst,
        type=match["type"] or "unicast",
        table=words.get("table") or _table_asked(context),
        legs=tuple(legs),
        metric=integer(words.get("metric")),
        scope=words.get("scope"),
        prefsrc=words.get("src"),
        protocol=words.get("proto"),
        mtu=int(lock[2]) if lock else None,
        mtu_locked=bool(lock[1]) if lock else None,
    )


def _table(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    """``route -n``: the main table, IPv4."""
    start = i
    while i < len(lines.text) and _HEADER.match(lines.text[i]):
        i += 1
    records: list[Record] = []
    while i < len(lines.text) and (match := _ROW.match(lines.text[i])):
        length = netmask_length(match["mask"])
        if length is None:
            break
        dst = (
            "default"
            if match["dst"] in ("0.0.0.0", "default") and length == 0
            else f"{match['dst']}/{length}"
        )
        gateway = match["gw"] if "G" in match["flags"] and match["gw"] != "*" else None
        legs = (NextHop(dev=match["dev"], gateway=gateway),)
        kind = "unreachable" if "!" in match["flags"] else "unicast"
        records.append(
            Route(
                source=lines.source(i),
                where=context.where,
                family=4,
                dst=dst,
                type=kind,
                legs=legs if kind == "unicast" else (),
                metric=int(match["metric"]) or None,
                scope=None if gateway else "link",
            )
        )
        i += 1
    if not records:
        return start, []
    return i, [
        *records,
        Listing(source=lines.source(start, i - 1), where=context.where, what="routes4", tables=("main",)),
    ]


def _rules(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    start = i
    records: list[Record] = []
    while i < len(lines.text) and (match := _RULE.match(lines.text[i])):
        rest = match["rest"]
        words = {
            m[1]: m[2]
            for m in re.finditer(
                r"\b(to|iif|oif|fwmark|lookup|table|tos|uidrange|suppress_prefixlength|goto|realms|ipproto)\s+(\S+)",
                rest,
            )
        }
        mark, _, mask = words.get("fwmark", "").partition("/")
        verb = re.search(r"\b(blackhole|unreachable|prohibit|nop)\b", rest)
        records.append(
            Rule(
                source=lines.source(i),
                where=context.where,
                family=6 if ":" in match["src"] + words.get("to", "") else 4,
                priority=int(match["pref"]),
                inverted=bool(match["not"]),
                src=match["src"],
                dst=words.get("to", "all"),
                iif=words.get("iif"),
                oif=words.get("oif"),
                fwmark=integer(mark),
                fwmask=integer(mask) if mask else None,
                table=words.get("lookup") or words.get("table"),
                goto=integer(words.get("goto")),
                action="goto" if "goto" in words else verb[1] if verb else "lookup",
                suppress_prefixlength=integer(words.get("suppress_prefixlength")),
            )
        )
        i += 1
    if not records:
        return start, []
    family = 6 if any(isinstance(r, Rule) and r.family == 6 for r in records) else 4
    if family == 6:
        records = [msgspec.structs.replace(r, family=6) for r in records if isinstance(r, Rule)]
    return i, [
        *records,
        Listing(source=lines.source(start, i - 1), where=context.where, what=f"rules{family}"),
    ]


FORMAT = LineFormat("ip-route", _START, _read, priority=25)
