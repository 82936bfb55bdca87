"""The incident of a forwarded Host, made by real Envoys and the real gateway in namespaces, and diagnosed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deadhop import causes
from deadhop.diagnose.engine import diagnose
from deadhop.evidence.read import read
from deadhop.gateway.check import check_routes
from deadhop.lab import scenarios
from deadhop.lab.verify import unavailable
from deadhop.model.finding import Diagnosis

pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "available")]
SLUG = "host-header-forwarded-breaks-mesh-routing"


def diagnosis(path: Path) -> Diagnosis:
    return diagnose(read([str(path)]), causes.load())


def test_a_forwarded_host_a_rewritten_one_and_a_wrong_port(tmp_path: Path) -> None:
    if missing := scenarios.load("mesh-host-header").missing():
        pytest.skip(missing)
    command = [sys.executable, "-m", "deadhop", "lab", "run", "mesh-host-header", "--keep", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    broken = diagnosis(tmp_path / "preserve")
    assert broken.findings[0].cause == SLUG
    assert broken.verdict == "cause-found"
    assert "service-port-mismatch" not in [f.cause for f in broken.findings]
    assert [f.cause for f in diagnosis(tmp_path / "default").findings if f.severity == "fault"] == []
    wrong = diagnosis(tmp_path / "wrong-port")
    assert wrong.findings[0].cause == "service-port-mismatch"
    assert SLUG not in [f.cause for f in wrong.findings]

    text = (tmp_path / "preserve" / "portal.log").read_text()
    assert '["Host","portal.corp.example.com:8080"]' in text
    assert "s3cr3t" not in text

    # What `gateway check` foretells from the objects is what the real Envoys did.
    for run, status, flag in (("preserve", 503, "UC"), ("default", 200, ""), ("wrong-port", 503, "UF")):
        folder = tmp_path / run
        [told] = check_routes([str(folder / "gateway.yaml")], [str(folder / "objects.yaml")], "ops/portal-0")
        real = (folder / "portal-istio-proxy.log").read_text()
        assert f'" {status} {flag or "-"} ' in real
        assert (told["status"], told["flags"]) == (status, [flag] if flag else [])
        assert f" {told['cluster']} " in real
