"""Every scenario that ships, played on this machine's kernel; and what a lab leaves behind: nothing.

Each plays its own story with its own expectations (what was answered, which counters moved, the kernel's drop reasons,
the cause that a diagnosis names, the fix); the tests add that the repaired world accuses nobody.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deadhop import causes
from deadhop.diagnose.engine import diagnose
from deadhop.evidence.read import read
from deadhop.lab import scenarios
from deadhop.lab.topology import owner
from deadhop.lab.verify import unavailable

pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "available")]
TOPOLOGIES = [
    name
    for name in scenarios.shipped()
    if (scenarios.FOLDER / f"{name}.yaml").exists() and not scenarios.load(name).topology.guest  # type: ignore[union-attr]
]
DEADHOP = [sys.executable, "-m", "deadhop"]


def play(name: str, keep: Path) -> subprocess.CompletedProcess[str]:
    missing = scenarios.load(name).missing()
    if missing:
        pytest.skip(missing)
    return subprocess.run(
        [*DEADHOP, "lab", "run", name, "--keep", str(keep)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_the_kernel_does_what_the_scenario_says(name: str, tmp_path: Path) -> None:
    done = play(name, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "as expected: all" in done.stdout
    after = diagnose(read([str(tmp_path / "after")]), causes.load())
    assert [f.cause for f in after.findings if f.severity == "fault"] == []


def test_the_manuals_example_is_played(tmp_path: Path) -> None:
    manual = Path(__file__).parents[2] / "docs" / "lab.md"
    example = re.search(r"```yaml\n(.*?)```", manual.read_text(), re.DOTALL)
    assert example
    path = tmp_path / "two-hosts.yaml"
    path.write_text(example[1])
    if missing := scenarios.lacking(["ip", "tc", "nft", "iptables-legacy-restore"]):
        pytest.skip(missing)
    done = play(str(path), tmp_path / "kept")
    assert done.returncode == 0, done.stdout + done.stderr


def host_state() -> str:
    """Links, addresses, routes, rules and netfilter of the machine itself, without what moves by itself."""
    commands = (
        ("ip", "-o", "link"),
        ("ip", "-o", "addr"),
        ("ip", "route", "show", "table", "all"),
        ("ip", "rule"),
        ("nft", "list", "ruleset"),
    )
    said = [subprocess.run(c, capture_output=True, text=True, check=False).stdout for c in commands]
    settings = [
        f"{path}={path.read_text()}"
        for path in sorted(Path("/proc/sys/net/ipv4").rglob("*"))
        if path.is_file() and os.access(path, os.R_OK) and path.name not in ("route", "flush")
    ]
    return "\n".join(said) + "\n".join(settings)


def test_nothing_outside_the_lab_changes(tmp_path: Path) -> None:
    before = host_state()
    assert play("rp-filter", tmp_path).returncode == 0
    assert host_state() == before


def started(*arguments: str) -> subprocess.Popen[str]:
    """A lab that is up, once it says so."""
    process = subprocess.Popen(
        [*DEADHOP, "lab", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "Ctrl-C" in process.stderr.readline()
    return process


def left_by(pid: int) -> list[str]:
    return [name for name in owner.namespaces() if name.startswith(f"dh-{pid}-")]


@pytest.fixture
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.mark.usefixtures("own_state")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_ends_clean(number: signal.Signals) -> None:
    process = started("up", "icmp-blocked")
    try:
        assert len(left_by(process.pid)) == 3
        process.send_signal(number)
        assert process.wait() == 0
        assert left_by(process.pid) == []
    finally:
        process.kill()
        process.communicate()


def test_a_run_that_is_terminated_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*DEADHOP, "lab", "run", "mtu-df", "--keep", str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        while "2. " not in process.stdout.readline():
            assert process.poll() is None
        assert len(left_by(process.pid)) == 3
        process.terminate()
        assert process.wait() == 143
        assert left_by(process.pid) == []
    finally:
        process.kill()
        process.communicate()


@pytest.mark.usefixtures("own_state")
def test_the_next_start_removes_what_a_killed_lab_left() -> None:
    process = started("up", "icmp-blocked")
    assert len(left_by(process.pid)) == 3
    process.kill()
    process.communicate()
    owner.sweep()  # as any lab does first, perhaps one beside this test already has
    assert left_by(process.pid) == []
    assert not list(owner.ROOT.glob(f"dh-{process.pid}-*"))


@pytest.mark.usefixtures("own_state")
def test_detached_until_it_is_taken_down() -> None:
    up = subprocess.run(
        [*DEADHOP, "lab", "up", "icmp-blocked", "--detach"], capture_output=True, text=True, check=False
    )
    try:
        assert up.returncode == 0, up.stderr
        listed = subprocess.run([*DEADHOP, "lab", "list"], capture_output=True, text=True, check=True).stdout
        assert "up: icmp-blocked" in listed
        again = subprocess.run(
            [*DEADHOP, "lab", "up", "icmp-blocked", "--detach"], capture_output=True, text=True, check=False
        )
        assert again.returncode == 1
        assert "up already" in again.stderr
    finally:
        down = subprocess.run(
            [*DEADHOP, "lab", "down", "icmp-blocked"], capture_output=True, text=True, check=False
        )
    assert down.returncode == 0, down.stderr
    assert (
        "up:"
        not in subprocess.run([*DEADHOP, "lab", "list"], capture_output=True, text=True, check=True).stdout
    )


def test_a_build_that_fails_names_the_line_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(
        "deadhop: topology/1\nname: odd\ntitle: a route that cannot be\n"
        "namespaces:\n  a:\n    routes: [10.0.0.0/8 via 192.0.2.1]\n"
    )
    done = subprocess.run([*DEADHOP, "lab", "run", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "in a: ip route add 10.0.0.0/8 via 192.0.2.1:" in done.stderr
    assert [name for name in owner.namespaces() if not owner.alive(name)] == []
