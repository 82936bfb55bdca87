"""What survives: a snapshot that is replaced as a whole, and a journal that is appended to before an answer leaves.

Both are lines of JSON arrays, ``[kind, …]``. The snapshot says with which journal it continues; a new snapshot is
written in slices beside the work while a new journal is already growing, then renamed over the old one. A line that
a kill cut off is the last of its file and was not acted on, so it is passed over. Write-through to disk is not waited
for: what the journal protects against is the death of the process; with the machine the kernel's sets go too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

SNAPSHOT = "state.jsonl"
COMPACT_AT = 16 << 20
SCHEMA = 1
Line = tuple[Any, ...]
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(type=tuple).decode


class StateError(RuntimeError):
    """The state folder cannot be used."""


def lookup_line(endpoint: int, name: str, time: float, ttl: int, ips: Iterable[str]) -> Line:
    """One learned answer; ``ttl`` as it is cached, with the minimum applied."""
    return "lookup", endpoint, name, time, ttl, tuple(ips)


def gone_line(endpoint: int, ip: str, names: Iterable[str]) -> Line:
    """An address that no connection holds any more."""
    return "gone", endpoint, ip, tuple(names)


class Journal:
    """The state folder of one agent. It is locked: two agents on one folder would undo each other."""

    def __init__(self, folder: Path) -> None:
        """Raises :class:`StateError`."""
        import fcntl

        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(f"another agent uses {folder}") from None
        except OSError as error:
            raise StateError(f"{folder}: {error.strerror or error}") from error
        numbers = [*_journals(folder), 0]
        self._number = max(numbers)
        self._fd = -1
        self._pending: list[bytes] = []
        self._size = 0
        self._slices: Iterator[list[Line]] | None = None
        self._writing: Any = None
        self._behind = False
        self.failed = ""

    def start(self) -> None:
        """Begin a journal of its own, behind those that were read."""
        self._next()

    def _next(self) -> None:
        self.flush()
        path = self.folder / f"journal-{self._number + 1}.jsonl"
        fresh = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size = fresh, 0
        self._number += 1

    def add(self, line: Line) -> None:
        """Keep a line for the next :meth:`flush`."""
        self._pending.append(_encode(line))

    def flush(self) -> None:
        """Hand everything over to the kernel. A full disk is reported once and does not stop the agent."""
        if not self._pending or self._fd < 0:
            return
        data = b"\n".join(self._pending) + b"\n"
        self._pending.clear()
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
            self.failed = ""
        except OSError as error:
            self._fail(error)
            with suppress(OSError):  # no line may begin behind half of one
                os.ftruncate(self._fd, self._size + data.rfind(b"\n", 0, written) + 1)
        self._size = os.lseek(self._fd, 0, os.SEEK_END)

    def _fail(self, error: OSError) -> None:
        self.failed = error.strerror or str(error)
        self._behind = True

    @property
    def wants_snapshot(self) -> bool:
        """The journal is long, or lacks what could not be written before and can be written now."""
        return self._slices is None and ((self._behind and not self.failed) or self._size > COMPACT_AT)

    @property
    def busy(self) -> bool:
        """A snapshot is being written."""
        return self._slices is not None

    def begin_snapshot(self, lines: Iterable[Line], each: int = 1000) -> None:
        """Start writing a snapshot; :meth:`step` goes on with it. One under way is given up.

        What cannot be written is given up and told by ``failed``: the snapshot and journals of before stay.
        """
        self._give_up()
        try:
            self._next()
            self._writing = (self.folder / (SNAPSHOT + ".new")).open("wb")
            os.fchmod(self._writing.fileno(), 0o600)
            self._writing.write(_encode(("agent", {"schema": SCHEMA, "journal": self._number})) + b"\n")
        except OSError as error:
            self._give_up()
            self._fail(error)
        else:
            self._slices = _slices(lines, each)

    def _give_up(self) -> None:
        self._slices = None
        if self._writing is not None:
            with suppress(OSError):  # what is still in its buffer
                self._writing.close()
            self._writing = None

    def step(self) -> bool:
        """Write one slice; True where more is to come."""
        if self._slices is None:
            return False
        part = next(self._slices, None)
        try:
            if part is not None:
                self._writing.write(b"".join(_encode(line) + b"\n" for line in part))
                return True
            self._writing.write(_encode(("end",)) + b"\n")
            self._writing.close()
            os.replace(self.folder / (SNAPSHOT + ".new"), self.folder / SNAPSHOT)
        except OSError as error:
            self._give_up()
            self._fail(error)
            return False
        self._writing = self._slices = None
        self._behind, self.failed = False, ""
        for number in _journals(self.folder):
            if number < self._number:
                (self.folder / f"journal-{number}.jsonl").unlink(missing_ok=True)
        return False

    def snapshot(self, lines: Iterable[Line]) -> None:
        """Write a snapshot at once. Raises :class:`StateError`."""
        self.begin_snapshot(lines)
        while self.step():
            pass
        if self._behind:
            raise StateError(f"{self.folder}: {self.failed}")

    def close(self) -> None:
        self.flush()
        if self._fd >= 0:
            os.close(self._fd)
        os.close(self._lock)


def _slices(lines: Iterable[Line], each: int) -> Iterator[list[Line]]:
    part: list[Line] = []
    for line in lines:
        part.append(line)
        if len(part) >= each:
            yield part
            part = []
    yield part


def _journals(folder: Path) -> list[int]:
    found = []
    for path in folder.glob("journal-*.jsonl"):
        number = path.name[len("journal-") : -len(".jsonl")]
        if number.isdigit():
            found.append(int(number))
    return sorted(found)


def read(folder: Path) -> tuple[list[Line], list[str]]:
    """Every saved line in order, and what was passed over. Total: damaged files give what is readable of them.

    A folder without state gives nothing. Raises :class:`StateError` where it cannot be read.
    """
    complaints: list[str] = []
    lines: list[Line] = []
    first = 0
    snapshot = folder / SNAPSHOT
    try:
        if snapshot.exists():
            saved = list(_lines(snapshot, complaints))
            head = saved[0] if saved else ()
            if len(head) == 2 and head[0] == "agent" and isinstance(head[1], dict):
                number = head[1].get("journal")
                first = number if isinstance(number, int) else 0
            else:
                complaints.append(f"{snapshot}: it does not begin as a snapshot does")
            lines += saved[1:]
        for number in _journals(folder):
            if number >= first:
                lines += _lines(folder / f"journal-{number}.jsonl", complaints)
    except OSError as error:
        raise StateError(f"{folder}: {error.strerror or error}") from error
    return lines, complaints


def _lines(path: Path, complaints: list[str]) -> Iterator[Line]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.endswith(b"\n"):
                return  # cut off by a kill: nobody was told of it
            try:
                line = _decode(raw)
            except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
                complaints.append(f"{path}:{number}: {error}")
                continue
            if line and isinstance(line[0], str):
                yield line
