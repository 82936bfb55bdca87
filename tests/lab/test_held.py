"""Labs that are held: nothing of them is left, however impatient the person at the keyboard is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deadhop.lab.topology import owner
from deadhop.lab.verify import unavailable

pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "available")]
TOPOLOGY = """deadhop: topology/1
name: held
title: six namespaces
namespaces: {a: {}, b: {}, c: {}, d: {}, e: {}, f: {}}
"""


def left(tag: str) -> list[str]:
    return [name for name in owner.namespaces() if name.startswith(tag)]


def test_more_than_one_signal_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "held.yaml"
    file.write_text(TOPOLOGY)
    process = subprocess.Popen(
        [sys.executable, "-m", "deadhop", "lab", "up", str(file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    try:
        assert process.stderr is not None
        assert "Ctrl-C" in process.stderr.readline()
        tag = f"dh-{process.pid}-"
        assert len(left(tag)) == 6
        process.send_signal(signal.SIGINT)
        while len(left(tag)) == 6:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0, process.stderr.read()
    finally:
        process.kill()
        process.wait()
    assert left(tag) == []
    assert list((tmp_path / "deadhop-lab-state").iterdir()) == []
