"""Labs that stay up: held by this process until a signal, or by one of its own in the background, with a state file."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import msgspec

from deadhop.lab.topology import build, owner, serve
from deadhop.lab.topology.made import Lab, LabError
from deadhop.model.topology import Topology

#: How long a holder may take to remove its lab, in seconds.
PATIENCE = 20.0


class State(msgspec.Struct, frozen=True, kw_only=True):
    """A lab that is up: its holder, and the full name of each namespace."""

    name: str
    pid: int
    start: int
    namespaces: dict[str, str]


def _folder() -> Path:
    """Where state files are: the user's runtime folder, or /run."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or "/run") / "deadhop-lab-state"


def states() -> list[State]:
    """The labs that are up. Files of holders that are gone are removed."""
    found = []
    for path in sorted(_folder().glob("*.json")):
        try:
            state = msgspec.json.decode(path.read_bytes(), type=State)
        except (OSError, msgspec.DecodeError):
            continue
        if owner.start_time(state.pid) == state.start:
            found.append(state)
        else:
            path.unlink(missing_ok=True)
    return found


class _Asked(Exception):
    """A signal asks for the end."""


def _ask(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # a second one would leave half of the lab behind
        signal.signal(number, signal.SIG_IGN)
    raise _Asked


def hold(topology: Topology, ready: Callable[[State], None]) -> None:
    """Builds, calls ``ready``, and waits for SIGINT or SIGTERM; then removes everything. Raises :class:`LabError`."""
    before = {number: signal.signal(number, _ask) for number in (signal.SIGINT, signal.SIGTERM)}
    path: Path | None = None
    try:
        with Lab() as lab:
            if any(state.name == topology.name for state in states()):
                raise LabError(f"it is up already: deadhop lab down {topology.name}")
            build.build(lab, topology)
            serve.start(lab, topology)
            state = State(
                name=topology.name,
                pid=os.getpid(),
                start=owner.start_time(os.getpid()) or 0,
                namespaces={name: lab.full(name) for name in topology.namespaces},
            )
            _folder().mkdir(parents=True, exist_ok=True)
            path = _folder() / f"{topology.name}.json"
            path.write_bytes(msgspec.json.encode(state))
            ready(state)
            while True:
                signal.pause()
    except _Asked:
        pass
    finally:
        if path:
            path.unlink(missing_ok=True)
        for number, handler in before.items():
            signal.signal(number, handler)


def detach(topology: Topology) -> State:
    """Builds in a process of its own that stays; gives its state once it is up. Raises :class:`LabError`."""
    inlet, outlet = os.pipe()
    if os.fork() == 0:
        os.close(inlet)
        os.setsid()
        if os.fork():
            os._exit(0)
        _background(topology, outlet)
    os.close(outlet)
    with os.fdopen(inlet, "rb") as pipe:
        said = pipe.read()
    os.wait()
    if not said.startswith(b"{"):
        raise LabError(said.decode(errors="replace") or "the process that should hold it ended")
    return msgspec.json.decode(said, type=State)


def _background(topology: Topology, outlet: int) -> None:
    """The holder: away from the terminal; tells its state or its failure, then waits."""
    quiet = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(quiet, number)

    def ready(state: State) -> None:
        os.write(outlet, msgspec.json.encode(state))
        os.close(outlet)

    try:
        hold(topology, ready)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(outlet, str(error).encode())
        os._exit(1)
    os._exit(0)


def end(state: State) -> None:
    """Asks a holder to end, and waits until it has removed everything. Raises :class:`LabError` where it does not."""
    try:
        descriptor = os.pidfd_open(state.pid)
    except ProcessLookupError:
        return
    try:
        if owner.start_time(state.pid) == state.start:
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            if not select.select([descriptor], [], [], PATIENCE)[0]:
                raise LabError(
                    f"{state.name}: pid {state.pid} was asked to end and has not within {PATIENCE:.0f} s"
                )
    finally:
        os.close(descriptor)
