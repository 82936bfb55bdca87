"""The neighbour tables' own counters: ``/proc/net/stat/arp_cache`` and ``ndisc_cache``, lnstat(8), which reads them, and
``ip -s ntable``.

A row is one CPU, in hexadecimal words without a prefix (net/core/neighbour.c neigh_stat_seq_show); ``entries`` is the
whole table's on each, the rest are added up. ``table_fulls`` counts the entries that neigh_alloc refused. lnstat
prints decimal sums, the first row since boot, each later one what an interval added.
"""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.net import Sysctl
from deadhop.model.observed.kernel import Counter
from deadhop.model.record import Record, Source

_KEYS = tuple(
    "entries allocs destroys hash_grows lookups hits res_failed rcv_probes_mcast rcv_probes_ucast"
    " periodic_gc_runs forced_gc_runs unresolved_discards table_fulls".split()
)
_HEAD = re.compile(r"^\s*entries[,\s]+allocs[,\s]+destroys\b")
_ROW = re.compile(r"^\s*[0-9a-f]{8,16}(?:\s+[0-9a-f]{8,16}){11,12}\s*$")
_TABLE = re.compile(r"\b(?P<table>arp_cache|ndisc_cache)\b")
_SHOWN = ("entries", "forced_gc_runs", "unresolved_discards", "table_fulls")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    asked = _TABLE.search(context.command.line) if context.command else None
    keys = _KEYS
    start = i
    if _HEAD.match(lines.text[i]):
        keys = tuple(re.split(r"[,\s]+", lines.text[i].strip()))
        i += 1
    elif asked is None:
        return i, []
    rows = []
    while i < len(lines) and _ROW.match(lines.text[i]):
        rows.append([int(word, 16) for word in lines.text[i].split()])
        i += 1
    if not rows:
        return start, []
    source = lines.source(i - len(rows), i - 1)
    total = {
        key: max(values) if key == "entries" else sum(values)
        for key, values in zip(keys, zip(*rows, strict=False), strict=False)
    }
    return i, _counters(total, asked["table"] if asked else "arp_cache", source, context.where)


def _counters(total: dict[str, int], table: str, source: Source, where: str) -> list[Record]:
    return [
        Counter(source=source, where=where, name=f"{table}.{key}", value=float(total[key]))
        for key in _SHOWN
        if key in total
    ]


_LNSTAT = re.compile(r"^\s*(?:[\w./]+\s*\|)*\s*(?:arp_cach|ndisc_ca)\w*\s*\|")


def _read_lnstat(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    """Two lines of heads (file above key, both cut to the column's width), then a row an interval."""
    if i + 2 >= len(lines) or "|" not in lines.text[i + 1]:
        return i, []
    columns = list(zip(_cells(lines.text[i]), _cells(lines.text[i + 1]), strict=False))
    start, i = i, i + 2
    found: list[Record] = []
    sums: dict[str, int] = {}
    while i < len(lines) and len(row := _cells(lines.text[i])) == len(columns) and all(map(str.isdigit, row)):
        for (file, key), value in zip(columns, row, strict=True):
            name = next((k for k in _SHOWN if key and k.startswith(key)), "")
            table = next((t for t in ("arp_cache", "ndisc_cache") if file and t.startswith(file)), "")
            if not (name and table):
                continue
            label = f"{table}.{name}"
            sums[label] = int(value) + (sums.get(label, 0) if name != "entries" else 0)
            found.append(Counter(source=lines.source(i), where=context.where, name=label, value=float(sums[label])))  # fmt: skip
        i += 1
    return (i, found) if found else (start, [])


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


_NTABLE = re.compile(r"^\s*inet6? (?P<table>arp_cache|ndisc_cache)\s*$")
_PAIR = re.compile(r"\b(thresh3|entries|forced_gc_runs|table_fulls) (\d+)\b")


def _read_ntable(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    """``ip -s ntable``: a table's limits, size and counters in indented lines (iproute2 ip/ipntable.c)."""
    head = _NTABLE.match(lines.text[i])
    if head is None:
        return i, []
    i += 1
    found: list[Record] = []
    family = "ipv4" if head["table"] == "arp_cache" else "ipv6"
    while i < len(lines) and lines.text[i][:1].isspace() and lines.text[i].strip():
        source = lines.source(i)
        for key, value in _PAIR.findall(lines.text[i]):
            if key == "thresh3":
                found.append(Sysctl(source=source, where=context.where, key=f"net.{family}.neigh.default.gc_thresh3", value=value))  # fmt: skip
            else:
                found += _counters({key: int(value)}, head["table"], source, context.where)
        i += 1
    return i, found


FORMATS = (
    LineFormat("ip-ntable", _NTABLE, _read_ntable, priority=18),
    LineFormat("lnstat-neigh", _LNSTAT, _read_lnstat, priority=18),
)
FORMAT = LineFormat("neigh-stat", re.compile(rf"{_HEAD.pattern}|{_ROW.pattern}"), _read, priority=18)
