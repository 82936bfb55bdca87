"""Epochs: the records between two changes of the world.

A change is told by the records themselves: a listing of the same thing in the same place with other content. The
boundary lies before the first record of the second listing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from deadhop.model.net import Listing, Route
from deadhop.model.record import Record


def route_epochs(routes: Sequence[Route], listings: Iterable[Listing]) -> list[tuple[Route, ...]]:
    """The IPv4 main tables that whole listings show, in order, one per distinct state.

    Routes that belong to no listing form an epoch of their own at the end where there is no listing at all.
    """
    shown: list[tuple[Route, ...]] = []
    for listing in listings:
        if listing.what != "routes4":
            continue
        first, last = listing.source.line, listing.source.end or listing.source.line
        inside = tuple(
            r
            for r in routes
            if r.family == 4 and r.source.file == listing.source.file and first <= r.source.line <= last
        )
        if inside and (not shown or _content(shown[-1]) != _content(inside)):
            shown.append(inside)
    return shown or ([tuple(r for r in routes if r.family == 4)] if routes else [])


def _content(routes: Iterable[Route]) -> set[tuple[object, ...]]:
    return {(r.dst, r.type, r.table, r.legs, r.metric) for r in routes}


def before(records: Iterable[Record], boundary: Record | None) -> list[Record]:
    """The records of ``boundary``'s document that stand before it, and those of other documents."""
    if boundary is None:
        return list(records)
    at = boundary.source
    return [r for r in records if r.source.file != at.file or r.source.line < at.line]
