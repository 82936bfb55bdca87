"""``deadhop.fqdn`` against Cilium's own code: seeded random cases of every area, for each version that was built.

``scripts/build-cilium-oracle`` builds the programs; docs/lab_notes/cilium.md says what is compared. The number of
cases grows with ``DEADHOP_CILIUM_CASES``.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from deadhop.fqdn.options import Version

from .differential import AREAS, Area
from .real_cilium import Oracle, oracles

CASES = int(os.environ.get("DEADHOP_CILIUM_CASES") or 40)
BUILT = oracles()

pytestmark = pytest.mark.skipif(
    not BUILT, reason="no Cilium oracle here: scripts/build-cilium-oracle makes one"
)


@pytest.fixture(scope="module", params=BUILT.items() or [None], ids=lambda item: str(item and item[0]))
def built(request: pytest.FixtureRequest) -> Iterator[tuple[Version, Oracle]]:
    found: tuple[Version, Path] = request.param
    oracle = Oracle(found[1])
    yield found[0], oracle
    oracle.close()


@pytest.mark.parametrize("area", AREAS, ids=lambda area: area.name)
def test_area(built: tuple[Version, Oracle], area: Area) -> None:
    version, oracle = built
    if version < area.since:
        pytest.skip(f"nothing to compare before {area.since}")
    for number in range(CASES):
        case = area.make(random.Random(f"{area.name} {number}"))
        if area.differ(oracle, version, case) is None:
            continue
        smallest = area.shrink(oracle, version, case)
        found = area.differ(oracle, version, smallest)
        if found is None:  # perhaps the order of a Go map: see Area.differ
            smallest, found = case, area.differ(oracle, version, case)
        if found is None:
            continue
        element, real, ours = found
        pytest.fail(f"Cilium {version}, {area.name}: {smallest}\nat {element}\nreal {real}\nours {ours}")
