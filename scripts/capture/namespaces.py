"""Real namespaces for captures: made, entered, and always removed. Linux and root only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


class Lab:
    """Namespaces of one capture. ``run`` gives the output of a command in one of them, as a terminal shows it."""

    def __init__(self) -> None:
        self.tag = f"dh{os.getpid()}"
        self.made: list[str] = []
        self.processes: list[subprocess.Popen[bytes]] = []

    def name(self, short: str) -> str:
        return f"{self.tag}-{short}"

    def add(self, *shorts: str) -> None:
        for short in shorts:
            subprocess.run(["ip", "netns", "add", self.name(short)], check=True)
            self.made.append(short)
            self.run(short, "ip link set lo up")

    def run(self, short: str, command: str, check: bool = True) -> str:
        """The standard output and error of ``command`` in the namespace."""
        result = subprocess.run(
            ["ip", "netns", "exec", self.name(short), "sh", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
        )
        if check and result.returncode:
            raise RuntimeError(f"{command!r} in {short}: {result.stdout.decode()}")
        return result.stdout.decode()

    def start(
        self, short: str, *argv: str, stdout: int | None = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name(short), *argv], stdout=stdout, stderr=subprocess.DEVNULL
        )
        self.processes.append(process)
        return process

    def veth(self, left: tuple[str, str, int], right: tuple[str, str, int]) -> None:
        """A veth pair between two ``(namespace, device, mtu)`` ends, both up."""
        (ns1, dev1, mtu1), (ns2, dev2, mtu2) = left, right
        self.run(ns1, f"ip link add {dev1} type veth peer name {dev2} netns {self.name(ns2)}")
        for ns, dev, mtu in ((ns1, dev1, mtu1), (ns2, dev2, mtu2)):
            self.run(ns, f"ip link set {dev} mtu {mtu} up")

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(5)
        for short in self.made:
            subprocess.run(["ip", "netns", "del", self.name(short)], check=False)


@contextmanager
def lab() -> Iterator[Lab]:
    made = Lab()
    try:
        yield made
    finally:
        made.close()


class Session:
    """A transcript: each command with a prompt, its output behind it, names of the lab's namespaces taken off."""

    def __init__(self, made: Lab, short: str, prompt: str) -> None:
        self.lab, self.short, self.prompt, self.text = made, short, prompt, ""

    def __call__(self, shown: str, run: str | None = None) -> str:
        output = self.lab.run(self.short, run or shown, check=False)
        output = output.replace(self.lab.tag + "-", "")
        self.text += f"{self.prompt}{shown}\n{output}" + ("" if output.endswith("\n") or not output else "\n")
        return output
