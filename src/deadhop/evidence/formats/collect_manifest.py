"""The manifest of ``deadhop collect``: what could not be collected, and why, is a problem of the evidence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from deadhop.evidence.format import Context, Locate, ValueFormat
from deadhop.model.record import Problem, Record


def _matches(value: Any) -> bool:
    return isinstance(value, dict) and str(value.get("collected", "")).startswith("deadhop collect")


def _read(value: Any, locate: Locate, _context: Context) -> Iterable[Record]:
    missing = value.get("missing")
    rows = [row for row in missing if isinstance(row, dict)] if isinstance(missing, list) else []
    for number, row in enumerate(rows):
        text = f"{row.get('file')} was not collected: {row.get('why')}"
        yield Problem(source=locate(f"#missing/{number}"), kind="missing", text=text)
    if not rows:
        yield Problem(source=locate(), kind="missing", text="nothing is missing")


FORMAT = ValueFormat("collect-manifest", _matches, _read, priority=10)
