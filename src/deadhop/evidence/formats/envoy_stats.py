"""Envoy's counters: ``/stats`` lines (``cluster.NAME.upstream_cx_total: 3``) and fortio's summary of codes."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.kernel import Counter
from deadhop.model.record import Record

_STAT = re.compile(
    r"^\s*(?P<name>(?:cluster|listener|http|listener_manager|cluster_manager|server|control_plane|tcp|sds|wasmcustom|vhost|filter_chain_manager)\.[\w.|:;/*-]+): (?P<value>\d+)\s*$"
)
_FORTIO = re.compile(r"^\s*Code\s+(?P<code>-?\d{1,3}) : (?P<n>\d+) \((?P<share>[\d.]+) ?%\)")
_START = re.compile(
    r"^\s*(?:cluster|listener|http|listener_manager|cluster_manager|server|control_plane|tcp|sds|vhost)\.[\w.|:]+.*: \d+\s*$|^\s*Code\s+-?\d+ : \d+"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    records: list[Record] = []
    while i < len(lines.text):
        if match := _STAT.match(lines.text[i]):
            records.append(
                Counter(
                    source=lines.source(i),
                    where=context.where,
                    name=f"envoy.{match['name']}",
                    value=float(match["value"]),
                )
            )
        elif match := _FORTIO.match(lines.text[i]):
            records.append(
                Counter(
                    source=lines.source(i),
                    where=context.where,
                    name=f"load.code.{match['code']}",
                    value=float(match["n"]),
                )
            )
        else:
            break
        i += 1
    return i, records


FORMAT = LineFormat("envoy-stats", _START, _read, priority=20)
