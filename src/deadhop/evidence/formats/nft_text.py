"""nftables in its own words: ``nft list ruleset``, a few lines of it, and ``nft monitor trace``."""

from __future__ import annotations

import re
from typing import Any

from deadhop.evidence.fields import integer
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.firewall import FirewallChain, FirewallRule, FirewallTrace
from deadhop.model.record import Record, Source

_TABLE = re.compile(
    r"^\s*(?:add |create )?table (?P<family>ip6?|inet|bridge|arp|netdev) (?P<name>[\w.-]+)\s*\{"
)
_CHAIN = re.compile(r"^\s*chain (?P<name>[\w.-]+)\s*\{(?P<rest>.*)$")
_BASE = re.compile(
    r"type (?:filter|nat|route) hook (?P<hook>\w+)(?: device \S+)? priority [^;]+;?(?:\s*policy (?P<policy>\w+))?"
)
_VERDICT = re.compile(
    r"\b(?P<verdict>accept|drop|reject|masquerade|notrack|return|continue|queue|(?:jump|goto) [\w.-]+|[sd]nat|xt target \"?[A-Z]+\"?|redirect)\b"
)
_RULE = re.compile(
    r"^\s*(?:\S+ ){0,6}?(?:ip6? [sd]addr|[io]ifname|[io]if|fib |meta |ct |tcp |udp |counter|icmp(?:v6)? |@|limit |xt match|log prefix|reject|drop$)"
)
_TRACE = re.compile(
    r"^\s*(?:trace id [0-9a-f]+ )?(?P<family>ip6?|inet|bridge) (?P<table>[\w.-]+) (?P<chain>[\w.-]+) (?P<step>packet:|rule|policy|verdict|unknown)\s*(?P<rest>.*)$"
)
_ADDR = re.compile(r"\bip6? (?P<side>saddr|daddr) (?P<not>!= )?(?P<value>\{[^}]*\}|@?[\w.:/-]+)")
_DEV = re.compile(r"\b(?P<side>iif|oif)(?:name)? (?P<not>!= )?(?P<value>\{[^}]*\}|\"[^\"]*\"|[\w.@*+-]+)")
_PORT = re.compile(r"\b(?:tcp|udp|th|sctp) dport (?P<not>!= )?(?P<value>\{[^}]*\}|[\w-]+)")
_PACKETS = re.compile(r"counter packets (\d+)")
_PREFIX = re.compile(r"log prefix \"([^\"]*)\"")
_TO = re.compile(r"\b[sd]nat (?:ip6? )?to (\S+)")
_MARK = re.compile(r"\bmark (?:set )?(0x[0-9a-f]+|\d+)")
_START = re.compile(
    r"^\s*(?:add |create )?table (?:ip6?|inet|bridge|arp|netdev) \S+\s*\{|^\s*chain \S+\s*\{|^\s*type (?:filter|nat|route) hook |"
    r"^\s*(?:trace id \w+ )?(?:ip6?|inet|bridge) [\w.-]+ [\w.-]+ (?:packet:|rule|policy|verdict|unknown)|"
    r"^\s*(?:ip6? [sd]addr |[io]if(?:name)? |fib |meta |ct state |icmp(?:v6)? type |(?:tcp|udp) dport |counter packets |log prefix).*\b(?:drop|reject|accept|jump|goto|masquerade|notrack|return|dnat|snat|xt target)\b"
)


def fields(text: str) -> dict[str, Any]:
    """Devices, addresses and port of a rule's or a traced packet's text."""
    found: dict[str, Any] = {}
    for pattern, names in (
        (_ADDR, {"saddr": "src", "daddr": "dst"}),
        (_DEV, {"iif": "in_dev", "oif": "out_dev"}),
    ):
        for match in pattern.finditer(text):
            found[names[match["side"]]] = ("!" if match["not"] else "") + match["value"].replace(
                '"', ""
            ).strip("{} ")
    if port := _PORT.search(text):
        found["dport"] = ("!" if port["not"] else "") + port["value"].strip("{} ")
    return found


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    text, start = lines.text, i
    records: list[Record] = []
    family = table = chain = hook = ""
    depth = 0
    while i < len(text) and len(text[i]) < 4000:
        line = text[i]
        source = lines.source(i)
        if match := _TRACE.match(line):
            records.append(_trace(match, line, source, context))
        elif match := _TABLE.match(line):
            family, table, chain, hook, depth = match["family"], match["name"], "", "", 1
            if line.rstrip().endswith("}"):
                depth = 0
        elif match := _CHAIN.match(line):
            chain, hook, depth = match["name"], "", depth + 1
            if base := _BASE.search(match["rest"]):
                hook = base["hook"]
                records.append(_base_chain(base, source, context, family, table, chain))
            if line.rstrip().endswith("}"):
                depth -= 1
        elif base := _BASE.search(line):
            hook = base["hook"]
            records.append(_base_chain(base, source, context, family, table, chain))
        elif depth and re.match(r"^\s*\}\s*(?:#.*)?$", line):
            depth -= 1
            chain = "" if depth <= 1 else chain
        elif (
            depth
            and re.match(
                r"^\s*(?:set|map|flowtable|counter|ct helper|type|flags|elements|comment|#|\.{3}|policy)\b",
                line.replace("...", "#"),
            )
            and not _RULE.match(line)
        ):
            depth += line.count("{") - line.count("}")
        elif (_RULE.match(line) and (verdict := _VERDICT.search(line))) or (
            depth > 1 and (verdict := _VERDICT.search(line))
        ):
            found = fields(line)
            packets, prefix, to = _PACKETS.search(line), _PREFIX.search(line), _TO.search(line)
            records.append(
                FirewallRule(
                    source=source,
                    where=context.where,
                    family=family,
                    table=table,
                    chain=chain,
                    hook=hook,
                    text=line.strip(),
                    verdict=verdict["verdict"],
                    packets=int(packets[1]) if packets else None,
                    prefix=prefix[1] if prefix else "",
                    to=to[1] if to else "",
                    **found,
                )
            )
        elif not (depth and (not line.strip() or line.strip() in ("}", "...") or depth > 0)):
            break
        i += 1
    return (i, records) if records else (start, [])


def _base_chain(
    base: re.Match[str], source: Source, context: Context, family: str, table: str, chain: str
) -> FirewallChain:
    return FirewallChain(
        source=source, where=context.where, family=family, table=table, chain=chain,
        hook=base["hook"], policy=base["policy"] or "",
    )  # fmt: skip


def _trace(match: re.Match[str], line: str, source: Source, context: Context) -> FirewallTrace:
    rest = match["rest"]
    verdict = re.search(r"\(verdict ([^)]*)\)", rest)
    word = rest.split(" ", 1)[0] if match["step"] in ("policy", "verdict") else ""
    mark = _MARK.search(rest)
    return FirewallTrace(
        source=source,
        where=context.where,
        table=match["table"],
        chain=match["chain"],
        step=match["step"].rstrip(":"),
        verdict=verdict[1] if verdict else word,
        mark=(integer(mark[1], 0) or 0) if mark else 0,
        text=line.strip(),
        **fields(rest),
    )


FORMAT = LineFormat("nft-text", _START, _read, priority=21)
