"""The same setting read several times on one host: the last reading is what is so, those before are history."""

from __future__ import annotations

from collections.abc import Iterable

from deadhop.model.net import Sysctl


def standing(values: Iterable[Sysctl]) -> list[Sysctl]:
    """The last reading of each key in each file and place.

    Readings of different files stand side by side, and so do those whose place is not named: it may be another host.
    """
    last: dict[object, Sysctl] = {}
    for value in values:
        key = (value.source.file, value.where, value.key) if value.where else value.source
        if key not in last or last[key].source < value.source:
            last[key] = value
    return list(last.values())
