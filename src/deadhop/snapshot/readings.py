"""The same setting read several times in one transcript: the last reading is what is so, those before are history."""

from __future__ import annotations

from collections.abc import Iterable

from deadhop.model.net import Sysctl


def standing(values: Iterable[Sysctl]) -> list[Sysctl]:
    """The last reading of each key in each file and place. Readings of different files stand side by side."""
    last: dict[tuple[str, str, str], Sysctl] = {}
    for value in values:
        key = value.source.file, value.where, value.key
        if key not in last or last[key].source < value.source:
            last[key] = value
    return list(last.values())
