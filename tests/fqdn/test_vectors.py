"""Every expectation of the file named by ``DEADHOP_VECTORS_CILIUM_FQDN``, and a table of areas and counts."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from .vectors import AREAS, run

DEFAULT = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "cilium-fqdn.json"
FILE = Path(os.environ.get("DEADHOP_VECTORS_CILIUM_FQDN") or DEFAULT)


def load() -> list[dict[str, Any]]:
    if not FILE.is_file():
        return []
    found: list[dict[str, Any]] = json.loads(FILE.read_text())["vectors"]
    return found


VECTORS = load()
BY_ID = {vector["id"]: vector for vector in VECTORS}

pytestmark = pytest.mark.skipif(
    not FILE.is_file(), reason=f"no vectors file: set DEADHOP_VECTORS_CILIUM_FQDN ({FILE.name})"
)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
def test_vector(vector: dict[str, Any]) -> None:
    run(vector, BY_ID)


def test_areas(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counter(vector["area"] for vector in VECTORS)
    unknown = sorted(set(counts) - set(AREAS))
    with capsys.disabled():
        print("\n\narea                           vectors")
        for area, count in sorted(counts.items()):
            print(f"{area:<30} {count:>7}")
        print(f"{len(counts)} areas{sum(counts.values()):>31}")
    assert not unknown, f"areas without a runner: {unknown}"
    assert VECTORS, "the vectors file is empty"
