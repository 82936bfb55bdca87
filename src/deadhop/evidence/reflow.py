"""What a narrow terminal or a web form did to the lines themselves: an empty line behind each, long lines cut at a column.

Lines that were only spaced out are put together again. Whether long lines were cut cannot be seen from them alone (the
rows of a table are equally long too), so both readings are tried, and the joined one is kept where it leaves fewer
lines unread and loses no record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from deadhop.model.record import Problem, Record, Source

PASTED = 5_000
"""Lines that somebody may have pasted; a longer file came as it is."""
SPACED = 4
"""Lines from which on an empty one behind each is the form's and not a paragraph's."""
NARROW = 72
"""No terminal that people work in has fewer columns."""
SHORT, SEVERAL = 500, 3
"""Of more lines than this, several are cut at a width if any is."""


class Reflowed(NamedTuple):
    """Rows, and of which original lines (0-based, first and last) each is made."""

    rows: list[str]
    of: list[tuple[int, int]]


def unspaced(rows: list[str]) -> Reflowed | None:
    """Without the empty line behind every line; None where there is not one behind each."""
    if sum(1 for row in rows if row.strip()) < SPACED or any(row.strip() for row in rows[1::2]):
        return None
    return Reflowed(rows[::2], [(i, i) for i in range(0, len(rows), 2)])


def unwrapped(rows: list[str]) -> Reflowed | None:
    """With each line as long as the longest joined to the next; None where none has a next, or all are short."""
    width = max(map(len, rows), default=0)
    full = [len(row) == width for row in rows]
    if width < NARROW or (len(rows) > SHORT and sum(full) < SEVERAL):
        return None
    joined: list[str] = []
    of: list[tuple[int, int]] = []
    for i, row in enumerate(rows):
        if i and full[i - 1] and row.strip():
            joined[-1] += row
            of[-1] = of[-1][0], i
        else:
            joined.append(row)
            of.append((i, i))
    return Reflowed(joined, of) if len(joined) < len(rows) else None


def better(rows: list[str], scan: Callable[[list[str]], Iterable[Record]]) -> Iterable[Record]:
    """The records of ``rows`` by the better of the readings. ``scan`` numbers lines from 1."""
    if len(rows) > PASTED:
        return scan(rows)
    flow = unspaced(rows)
    records = _numbered(flow, scan(flow.rows)) if flow else list(scan(rows))
    kept = flow.rows if flow else rows
    unread = _unread(records)
    wrapped = unwrapped(kept) if unread else None
    if wrapped is None:
        return records
    of = [(flow.of[a][0], flow.of[b][1]) for a, b in wrapped.of] if flow else wrapped.of
    other = _numbered(Reflowed(wrapped.rows, of), scan(wrapped.rows))
    # One line that is longest and is followed by another may well be whole: then joining has to tell something new.
    gain = _known(other) - _known(records) - (len(wrapped.rows) == len(kept) - 1)
    return other if gain >= 0 and _unread(other) < unread else records


def _known(records: Iterable[Record]) -> int:
    return sum(1 for r in records if not isinstance(r, Problem))


def _unread(records: Iterable[Record]) -> int:
    """How many lines no reader knew."""
    places = (r.source for r in records if isinstance(r, Problem) and r.kind == "unread")
    return sum(max(place.end - place.line, 0) + 1 for place in places)


def _numbered(flow: Reflowed, records: Iterable[Record]) -> list[Record]:
    """The records with the numbers of the lines that their rows are made of."""

    def place(source: Source) -> Source:
        if not 0 < source.line <= len(flow.of):
            return source
        first = flow.of[source.line - 1][0] + 1
        last = flow.of[min(max(source.end, source.line), len(flow.of)) - 1][1] + 1
        return msgspec.structs.replace(source, line=first, end=last if last > first else 0)

    return [msgspec.structs.replace(record, source=place(record.source)) for record in records]
