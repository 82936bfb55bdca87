"""Names for network namespaces, which the kernel knows by inode only.

``ip netns`` names from ``/run/netns`` (Docker's stand beside it), else the processes that live in one. A namespace that lives on in an open
socket alone has no name: its inode is all there is.
"""

from __future__ import annotations

import os
from pathlib import Path

NAMED = (Path("/run/netns"), Path("/run/docker/netns"))


def inode_of(text: str) -> int:
    """The inode that ``text`` means: ``self``, ``pid:N``, an inode, an ``ip netns`` name or a path.

    Raises ValueError with what to tell the user.
    """
    if text.isdecimal():
        return int(text)
    if text == "self":
        path = Path("/proc/self/ns/net")
    elif text.startswith("pid:"):
        path = Path("/proc") / text[4:] / "ns/net"
    else:
        path = Path(text) if "/" in text else _named().get(text, NAMED[0] / text)
    try:
        return path.stat().st_ino
    except OSError as error:
        names = ", ".join(sorted(_named())[:8])
        hint = f" (there are: {names})" if names else ""
        raise ValueError(f"no network namespace {text!r}: {error.strerror}{hint}") from None


def _named() -> dict[str, Path]:
    return {path.name: path for folder in reversed(NAMED) if folder.is_dir() for path in folder.iterdir()}


class Names:
    """Inodes to names; read again when an unknown inode turns up."""

    def __init__(self) -> None:
        self._named: dict[int, Path] = {}
        self._pids: dict[int, int] = {}
        self._missing: set[int] = set()
        self.own = Path("/proc/self/ns/net").stat().st_ino
        self._read()

    def _read(self) -> None:
        for path in _named().values():
            try:
                self._named[path.stat().st_ino] = path
            except OSError:
                continue
        for entry in os.scandir("/proc"):
            if not entry.name.isdecimal():
                continue
            try:
                inode = os.stat(f"/proc/{entry.name}/ns/net").st_ino
            except OSError:
                continue
            pid = int(entry.name)
            self._pids[inode] = min(pid, self._pids.get(inode, pid))

    def name(self, inode: int) -> str:
        """``web`` (ip netns), ``self``, ``pid 4711 (nginx)``, or the inode as text; empty for inode 0."""
        if inode == 0:
            return ""
        if inode not in self._named and inode not in self._pids and inode not in self._missing:
            self._read()
            if inode not in self._named and inode not in self._pids:
                self._missing.add(inode)
        if inode in self._named:
            return self._named[inode].name
        if inode == self.own:
            return "self"
        if inode in self._pids:
            return f"pid {self._pids[inode]} ({_comm(self._pids[inode])})"
        return str(inode)

    def short(self, inode: int) -> str:
        """The ``ip netns`` name, empty where there is none."""
        self.name(inode)
        return self._named[inode].name if inode in self._named else ""

    def path(self, inode: int) -> str:
        """A path by which setns(2) enters the namespace, empty where there is none."""
        self.name(inode)
        if inode in self._named:
            return str(self._named[inode])
        return f"/proc/{self._pids[inode]}/ns/net" if inode in self._pids else ""


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "gone"
