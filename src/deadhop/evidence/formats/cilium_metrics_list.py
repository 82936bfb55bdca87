"""``cilium metrics list`` (``cilium-dbg``): name, labels parted by blanks, value; or ``-o json`` (cilium cmd/metrics_list.go)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deadhop.evidence.format import Context, LineFormat, Lines, Locate, ValueFormat
from deadhop.evidence.formats.prometheus import counter, label_pairs
from deadhop.model.record import Record

_LABEL = r"[a-zA-Z_]\w*=\"(?:[^\"\\]|\\.)*\""
_LINE = re.compile(
    rf"^\s*(?P<name>(?:cilium|hubble)_\w+)\s+(?P<labels>{_LABEL}(?:[ ,]\s*{_LABEL})*)\s+(?P<value>\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*$"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    match = _LINE.match(line) if len(line) <= 2000 else None
    if match is None:
        return i, []
    labels = label_pairs(match["labels"])
    return i + 1, [
        counter(match["name"], labels, float(match["value"]), source=lines.source(i), where=context.where)
    ]


def _row(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and {"name", "labels", "value"} <= value.keys()
        and str(value["name"]).startswith(("cilium_", "hubble_"))
        and isinstance(value["value"], (int, float))
        and isinstance(value["labels"], (dict, type(None)))
    )


def _match(value: Any) -> bool:
    return _row(value) or (isinstance(value, list) and bool(value) and all(map(_row, value[:3])))


def _read_json(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    for row in value if isinstance(value, list) else [value]:
        if _row(row):
            labels = {str(k): str(v) for k, v in (row["labels"] or {}).items()}
            yield counter(
                str(row["name"]), labels, float(row["value"]), source=locate("labels"), where=context.where
            )


FORMATS = (
    LineFormat(
        "cilium-metrics-list", re.compile(r"^\s*(?:cilium|hubble)_\w+\s+[a-zA-Z_]\w*=\""), _read, priority=16
    ),
    ValueFormat("cilium-metrics-json", _match, _read_json, priority=14),
)
