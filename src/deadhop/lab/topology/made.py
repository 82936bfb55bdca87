"""What one run has made: its namespaces, their files, its processes. Closing it removes everything."""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from deadhop.collect import enter
from deadhop.lab.topology import owner

#: Folders that a namespace's files replace as a whole: what the machine itself has there must not take part.
WHOLE = (
    "/etc/sysctl.d",
    "/run/sysctl.d",
    "/usr/local/lib/sysctl.d",
    "/usr/lib/sysctl.d",
    "/etc/udev/rules.d",
)


class LabError(Exception):
    """The lab cannot be built or played; the message names the command and what it said."""


class Lab:
    """Namespaces of one run. Names are short inside (``node``); :meth:`full` is what ``ip netns`` shows."""

    def __init__(self) -> None:
        owner.sweep()
        self.tag = owner.tag()
        number = 0
        while (owner.ROOT / f"{self.tag}-{number}").exists():
            number += 1
        self.prefix = f"{self.tag}-{number}"
        self.scratch = owner.ROOT / self.prefix
        self.scratch.mkdir(parents=True, mode=0o755)
        self.names: list[str] = []
        self.processes: list[subprocess.Popen[bytes]] = []

    def full(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def path(self, name: str) -> str:
        """By which any process enters the namespace."""
        return str(owner.NETNS / self.full(name))

    def inode(self, name: str) -> int:
        return os.stat(self.path(name)).st_ino

    def add(self, name: str) -> None:
        """A new namespace with ``lo`` up."""
        self._host(["ip", "netns", "add", self.full(name)])
        self.names.append(name)
        self.ip(name, ["link set lo up"])

    def _host(self, argv: Sequence[str], feed: str = "") -> None:
        done = subprocess.run(argv, input=feed.encode(), capture_output=True, check=False)
        if done.returncode:
            raise LabError(f"{shlex.join(argv)}: {done.stderr.decode(errors='replace').strip()}")

    def ip(self, name: str, lines: Sequence[str]) -> None:
        """Lines of ``ip``'s own arguments, in one batch. Raises :class:`LabError` with the line that failed."""
        if not lines:
            return
        argv = ["ip", "-n", self.full(name), "-batch", "-"]
        done = subprocess.run(argv, input="\n".join(lines).encode(), capture_output=True, check=False)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            number = re.search(r"Command failed -:(\d+)", said)
            line = lines[int(number[1]) - 1] if number and int(number[1]) <= len(lines) else lines[0]
            raise LabError(f"in {name}: ip {line}: {said.splitlines()[0] if said else done.returncode}")

    def sysctl(self, name: str, key: str, value: str | int) -> None:
        path = _sysctl_path(key)
        with self.inside(name):
            try:
                path.write_text(str(value))
            except OSError as error:
                raise LabError(f"in {name}: sysctl {key}={value}: {error.strerror}") from None

    def machine_sysctl(self, key: str, value: str | int) -> None:
        """A setting of the machine itself, for a guest whose machine it is."""
        try:
            _sysctl_path(key).write_text(str(value))
        except OSError as error:
            raise LabError(f"sysctl {key}={value}: {error.strerror}") from None

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        with enter.inside(self.path(name)):
            yield

    def write(self, name: str, path: str, text: str) -> None:
        """A file that only the namespace's processes see."""
        target = self.scratch / name / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def entering(self, name: str) -> Callable[[], None]:
        """For a child before it runs a program (or goes on): into the namespace, with its files and its own /sys."""
        return enterer(self.path(name), self.scratch / name)

    def run(
        self, name: str, command: str | Sequence[str], feed: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """A shell line or an argument vector inside; output and errors together, as a terminal shows them. Its
        failure is the caller's to judge."""
        argv = ["sh", "-c", command] if isinstance(command, str) else list(command)
        return subprocess.run(
            argv,
            input=feed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=self.entering(name),
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            check=False,
        )

    def must(self, name: str, command: str | Sequence[str], feed: str = "") -> str:
        """As :meth:`run`; raises :class:`LabError` where it fails."""
        done = self.run(name, command, feed)
        if done.returncode:
            shown = command if isinstance(command, str) else shlex.join(command)
            raise LabError(f"in {name}: {shown}: {done.stdout.strip() or f'exit {done.returncode}'}")
        return done.stdout

    def start(
        self, name: str, command: str | Sequence[str], ready: str = "", log: IO[bytes] | None = None
    ) -> subprocess.Popen[bytes]:
        """A process inside that ends with the lab, or when the lab's owner dies. With ``ready``, waits for a line
        of its output that matches, and raises :class:`LabError` where it ends before; what follows goes to ``log``."""
        argv = ["sh", "-c", f"exec {command}"] if isinstance(command, str) else list(command)
        if log is None:
            log = (self.scratch / f"{name}-{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if ready else log,
            stderr=subprocess.STDOUT,
            preexec_fn=self._service(name),
            start_new_session=True,
        )
        self.processes.append(process)
        if ready:
            self._wait_ready(process, argv, ready)
        return process

    def _service(self, name: str) -> Callable[[], None]:
        enters = self.entering(name)

        def prepare() -> None:
            enter.die_with_parent()
            enters()

        return prepare

    def _wait_ready(self, process: subprocess.Popen[bytes], argv: list[str], ready: str) -> None:
        assert process.stdout is not None
        seen = b""
        pattern = re.compile(ready.encode(), re.M)
        while not pattern.search(seen):
            select.select([process.stdout], [], [])
            more = os.read(process.stdout.fileno(), 65536)
            if not more:
                process.wait()
                said = seen.decode(errors="replace").strip()[-800:]
                raise LabError(f"{shlex.join(argv)} ended with {process.returncode}: {said}")
            seen += more
        _drain(process.stdout.fileno(), self.scratch / f"{process.pid}.out", seen)

    def close(self) -> None:
        """Ends the processes, then removes the namespaces and files. Never raises, may be called twice."""
        for process in self.processes:
            if process.poll() is None:
                _kill(process.pid, signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                _kill(process.pid, signal.SIGKILL)
                process.wait()
        self.processes.clear()
        for name in self.names:
            owner.remove(self.full(name))
        self.names.clear()
        shutil.rmtree(self.scratch, ignore_errors=True)
        with suppress(OSError):  # another lab's scratch is in there
            owner.ROOT.rmdir()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def _drain(descriptor: int, path: Path, seen: bytes) -> None:
    """Keeps reading a service's output in the background, so that it never blocks; the file keeps it."""
    import threading

    own = os.dup(descriptor)

    def read() -> None:
        with path.open("wb") as log:
            log.write(seen)
            log.flush()
            while True:
                try:
                    more = os.read(own, 65536)
                except OSError:
                    break
                if not more:
                    break
                log.write(more)
                log.flush()
        os.close(own)

    threading.Thread(target=read, daemon=True).start()


def enterer(netns: str, files: Path) -> Callable[[], None]:
    """A function that moves the calling process into ``netns`` and mounts ``files`` over the machine's own. Raises
    :class:`LabError` where this machine has no place for one of them."""
    binds = list(_binds(files)) if files.is_dir() else []

    def enter_it() -> None:
        enter.set_netns(netns)
        enter.own_mounts()
        enter.mount("sysfs", "/sys", "sysfs")
        for source, target in binds:
            enter.mount(source, target, flags=enter.MS_BIND)

    return enter_it


def _binds(files: Path) -> Iterator[tuple[str, str]]:
    """What stands over what: whole folders for :data:`WHOLE`, all of sysctl.d(5) where there is one file of it."""
    placed = ["/" + str(path.relative_to(files)) for path in sorted(files.rglob("*")) if path.is_file()]
    whole = [folder for folder in WHOLE if any(path.startswith(folder + "/") for path in placed)]
    if any(folder.endswith("sysctl.d") for folder in whole):
        whole = [folder for folder in WHOLE if folder.endswith("sysctl.d") or folder in whole]
    for folder in whole:
        own = files / folder.lstrip("/")
        if os.path.isdir(folder):
            own.mkdir(parents=True, exist_ok=True)
            yield str(own), os.path.realpath(folder)
        elif own.is_dir():
            raise LabError(f"cannot place files in {folder}: this machine has no such folder")
    for path in placed:
        if not path.startswith(tuple(folder + "/" for folder in whole)):
            if not os.path.exists(path):
                raise LabError(f"cannot place {path}: this machine has no such file to stand over")
            yield str(files / path.lstrip("/")), os.path.realpath(path)


def _sysctl_path(key: str) -> Path:
    """``net.ipv4.conf.eth0/100.rp_filter``: a slash in the dotted form is a dot of a device's name (sysctl.d(5))."""
    return Path("/proc/sys") / key.translate(str.maketrans("./", "/."))
