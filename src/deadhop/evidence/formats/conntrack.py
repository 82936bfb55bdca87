"""``conntrack -L`` and ``/proc/net/nf_conntrack`` in a session, and the tracker's counters (``conntrack -S``, node-exporter)."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.namespace.text import connection
from deadhop.model.observed.kernel import Counter
from deadhop.model.record import Record

_STATS = re.compile(r"^\s*cpu=(?P<cpu>\d+)\s+(?P<rest>(?:[a-z_]+=\d+\s*)+)$")
_FAILED = re.compile(
    r"^\s*(?:conntrack\s+)?(?P<name>insert_failed|early_drop|clash_resolve)[=:]\s*(?P<value>\d+)\s*$"
)
_LEVEL = re.compile(r"\bnf_conntrack_(count|max)['\"]?\s*(?:[:=]+|->|=>)\s*(\d+)")
_SYSCTL = re.compile(r"^\s*-?\s*net[./]\S+\s*=\s*\d+\s*$")
_BARE = re.compile(r"^\s*\d{1,9}\s*$")
_PAIR = re.compile(r"([a-z_]+)=(\d+)")
_EXPORTED = re.compile(
    r"^\s*(?P<name>node_nf_conntrack_\w+|cilium_bpf_map_pressure|node_netstat_Udp_\w+)(?:\{(?P<labels>[^}]*)\})?\s+(?P<value>[\d.]+(?:e[+-]?\d+)?)\s*(?:\d+)?$"
)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_TOTAL = re.compile(r"^\s*conntrack v[\d.]+ \(conntrack-tools\): (?P<count>\d+) flow entries")
_ENTRY = re.compile(
    r"(?:^|\s)(?:ipv[46]\s+\d+\s+)?(?:tcp|udp|icmp|icmpv6|sctp|dccp|unknown)\s+\d+\s+.*src=\S+ dst=\S+"
)
_START = re.compile(
    r"\bnf_conntrack_(?:count|max)\W+\d|^\s*\d{1,9}\s*$|\b(?:tcp|udp|icmp|icmpv6|sctp|unknown)\s+\d+\s+.*src=\S+|^\s*cpu=\d+\s+\w+=\d+|^\s*node_nf_conntrack_|^\s*cilium_bpf_map_pressure|^\s*node_netstat_Udp|^\s*conntrack v.*flow entries have been|^\s*(?:conntrack\s+)?(?:insert_failed|early_drop|clash_resolve)[=:]\s*\d"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    if len(line) > 2000:
        return i, []
    if match := _STATS.match(line):
        labels = (("cpu", match["cpu"]),)
        return i + 1, [
            Counter(
                source=lines.source(i),
                where=context.where,
                name=f"conntrack_{name}",
                value=float(value),
                labels=labels,
            )
            for name, value in _PAIR.findall(match["rest"])
        ]
    if match := _EXPORTED.match(line):
        pairs = tuple(_LABEL.findall(match["labels"] or ""))
        return i + 1, [
            Counter(
                source=lines.source(i),
                where=context.where,
                name=match["name"],
                value=float(match["value"]),
                labels=pairs,
            )
        ]
    if (levels := _LEVEL.findall(line)) and not _SYSCTL.match(line) and len(line) < 200:
        names = {"count": "node_nf_conntrack_entries", "max": "node_nf_conntrack_entries_limit"}
        return i + 1, [
            Counter(source=lines.source(i), where=context.where, name=names[what], value=float(value))
            for what, value in levels
        ]
    if _BARE.match(line) and context.ran("conntrack") and context.command and "-C" in context.command.argv:
        return i + 1, [
            Counter(source=lines.source(i), where=context.where, name="conntrack_entries", value=float(line))
        ]
    if match := _FAILED.match(line):
        name = f"conntrack_{match['name']}"
        return i + 1, [
            Counter(source=lines.source(i), where=context.where, name=name, value=float(match["value"]))
        ]
    if match := _TOTAL.search(line):
        return i + 1, [
            Counter(
                source=lines.source(i),
                where=context.where,
                name="conntrack_entries",
                value=float(match["count"]),
            )
        ]
    if (found := _ENTRY.search(line)) and (
        entry := connection(line[found.start() :].strip(), lines.source(i), context.where)
    ):
        return i + 1, [entry]
    return i, []


FORMAT = LineFormat("conntrack", _START, _read, priority=24)
