"""The model's journeys across namespaces against the kernel's: the same topologies made real, listed, and walked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deadhop.evidence.topology import loads
from deadhop.lab import scenarios
from deadhop.lab.verify import unavailable
from linux.across_flows import answered, asked
from linux.test_across import WORLDS, wiring

pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "available")]
SHIPPED = [scenarios.FOLDER / f"{name}.yaml" for name in ("vxlan-small-underlay", "mtu-df", "icmp-blocked")]


@pytest.mark.parametrize("path", [*WORLDS, *SHIPPED], ids=lambda p: p.stem)
def test_the_kernel_and_the_model_agree(path: Path, tmp_path: Path) -> None:
    missing = scenarios.load(str(path)).missing()
    if missing:
        pytest.skip(missing)
    played = subprocess.run(
        [sys.executable, "-m", "deadhop", "lab", "run", str(path), "--keep", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert played.returncode == 0, played.stdout + played.stderr  # the kernel met the topology's expectations
    wires = wiring(tmp_path / "before")
    for step in asked(loads(path.read_text(), str(path))):
        came, how = answered(wires, step)
        assert came is step.answered, f"{step.say}: {how}"
