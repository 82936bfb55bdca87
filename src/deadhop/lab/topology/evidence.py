"""What an engineer would have of a run: terminals, captures and listings of every namespace, one folder each."""

from __future__ import annotations

import re
import socket
import subprocess
from collections import defaultdict
from pathlib import Path

from deadhop.collect.capture import Capture
from deadhop.collect.child import gather_in_child
from deadhop.collect.procfs import log_time
from deadhop.lab.topology.made import Lab
from deadhop.model.topology import Topology


class Evidence:
    """Collects below ``folder``, a folder per ``collect`` step and below it one per namespace."""

    def __init__(self, lab: Lab, topology: Topology, folder: Path) -> None:
        self.lab = lab
        self.topology = topology
        self.folder = folder
        self.began = log_time()
        self._sessions: dict[str, list[str]] = defaultdict(list)
        self._captures: dict[str, Capture] = {}

    def session(self, name: str, command: str) -> subprocess.CompletedProcess[str]:
        """Runs a shell line as someone at a terminal of the namespace does, and keeps what the terminal shows."""
        done = self.lab.run(name, command)
        output = done.stdout.replace(self.lab.prefix + "-", "")
        self._sessions[name].append(f"root@{name}:~# {command}\n{output}".rstrip() + "\n")
        return done

    def capture(self, names: list[str]) -> None:
        """Captures in these namespaces until the next :meth:`collect`."""
        for name in names:
            if name not in self._captures:
                with self.lab.inside(name):
                    self._captures[name] = Capture()

    def collect(self, label: str) -> Path:
        """Writes what there is since the last call; gives the folder."""
        into = self.folder / label
        into.mkdir(parents=True, exist_ok=True)
        for name, spec in self.topology.namespaces.items():
            place = into / name
            place.mkdir(exist_ok=True)
            if name in self._captures:
                (place / "capture.pcap").write_bytes(self._captures.pop(name).finish())
            if self._sessions[name]:
                (place / "terminal.txt").write_text("".join(self._sessions.pop(name)))
            gather_in_child(
                place,
                name,
                self.lab.entering(name),
                kernel_log=spec.role != "pod",
                kernel_since=self.began,
                files=spec.role != "pod",
            )
            _own_log(place, set(self._devices(name)))
        self.began = log_time()
        return into

    def _devices(self, name: str) -> list[str]:
        with self.lab.inside(name):
            return [dev for _index, dev in socket.if_nameindex()]

    def diagnose(self, folder: Path) -> tuple[str, list[str]]:
        """The first cause that a diagnosis of the folder finds, and a few lines of it."""
        from deadhop import causes
        from deadhop.diagnose.engine import diagnose
        from deadhop.evidence.read import read

        said = diagnose(read([str(folder)]), causes.load())
        faults = [f for f in said.findings if f.severity == "fault"]
        lines = [f"{said.verdict}"] + [f"{f.cause} ({f.confidence:.2f}): {f.title}" for f in faults[:2]]
        return (faults[0].cause if faults else ""), lines

    def close(self) -> None:
        for capture in self._captures.values():
            capture.close()
        self._captures.clear()


def _own_log(place: Path, devices: set[str]) -> None:
    """The kernel has one log for all namespaces: leaves out its lines about devices of others."""
    path = place / "kernel-log.txt"
    if not path.exists():
        return
    kept: list[str] = []
    mine = True
    for line in path.read_text().splitlines():
        if "ll header" not in line:
            dev = re.search(r"\bdev (\S+)$", line)
            mine = dev is None or dev[1] in devices
        if mine:
            kept.append(line)
    path.write_text("\n".join(kept) + "\n")
