"""Runs one expectation of a vectors file against ``deadhop.fqdn``: a function per area, a file per family of areas.

A vector describes the newest version of its range; where it names a ``since``, it is run at that version too. An area
or an operation that no function knows is an error.
"""

from __future__ import annotations

from collections import Counter

from deadhop.fqdn.options import VERSIONS, Version

from . import cache, cli, hubble, manager, messages, names, proxy, restored, selectors, story, zombies
from .common import Area, UnknownOperation, Vector

FAMILIES = (names, selectors, proxy, restored, messages, cache, zombies, manager, cli, hubble, story)
AREAS: dict[str, Area] = {area: run for family in FAMILIES for area, run in family.AREAS.items()}
TWICE = [area for area, count in Counter(a for family in FAMILIES for a in family.AREAS).items() if count > 1]
assert not TWICE, f"areas in two families: {TWICE}"


def versions_of(vector: Vector) -> list[Version]:
    newest = Version.parse(vector["until"]) if vector.get("until") else VERSIONS[-1]
    oldest = Version.parse(vector["since"]) if vector.get("since") else newest
    return [newest] if oldest >= newest else [oldest, newest]


def run(vector: Vector, everything: dict[str, Vector]) -> None:
    area = AREAS.get(vector["area"])
    if area is None:
        raise UnknownOperation(f"area {vector['area']}")
    for version in versions_of(vector):
        area(vector, version, everything)
