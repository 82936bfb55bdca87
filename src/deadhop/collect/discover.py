"""The network namespaces of this machine: those with a name in /run/netns and those in which a process runs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from deadhop.kernel.namespaces import NAMED

_POD = re.compile(r"pod([0-9a-f]{8}[-_][0-9a-f-]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})")


@dataclass
class Found:
    """One namespace. ``path`` enters it; ``pid`` is a process in it (0: none known); ``name`` is its folder's."""

    inode: int
    path: str
    pid: int = 0
    name: str = ""
    pod_uid: str = ""
    names: list[str] = field(default_factory=list)


class NoNamespace(Exception):
    """What was asked for is no namespace that can be entered; the message says why."""


def own() -> int:
    """The inode number of the calling process's namespace."""
    return os.stat("/proc/self/ns/net").st_ino


def discover() -> tuple[list[Found], list[tuple[str, str]]]:
    """Every namespace but the own one, by inode, and what could not be looked at: ``(what, why)``."""
    found: dict[int, Found] = {}
    refused: list[tuple[str, str]] = []
    for folder in NAMED:
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue
        for path in entries:
            try:
                inode = path.stat().st_ino
            except OSError as error:
                refused.append((str(path), error.strerror or str(error)))
                continue
            found.setdefault(inode, Found(inode, str(path))).names.append(path.name)
    hidden = 0
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            inode = os.stat(f"/proc/{pid}/ns/net").st_ino
        except PermissionError:
            hidden += 1
            continue
        except OSError:
            continue
        entry = found.setdefault(inode, Found(inode, f"/proc/{pid}/ns/net"))
        entry.pid = entry.pid or pid
    if hidden:
        refused.append(
            (f"/proc/PID/ns/net of {hidden} processes", "Permission denied: their namespaces are left out")
        )
    found.pop(own(), None)
    return _named(list(found.values())), refused


def asked(wanted: Iterable[str]) -> list[Found]:
    """Namespaces by pid, by name in /run/netns or by path. Raises :class:`NoNamespace`."""
    found = []
    for text in wanted:
        path = f"/proc/{text}/ns/net" if text.isdigit() else text if "/" in text else str(NAMED[0] / text)
        try:
            inode = os.stat(path).st_ino
        except OSError as error:
            known = ", ".join(sorted(p.name for p in NAMED[0].iterdir())) if NAMED[0].is_dir() else ""
            raise NoNamespace(
                f"{text}: {path}: {error.strerror}" + (f" (there are: {known})" if known else "")
            ) from None
        entry = Found(inode, path, pid=int(text) if text.isdigit() else _pid_of(inode))
        if not text.isdigit():
            entry.names.append(Path(text).name)
        found.append(entry)
    return _named(found)


def _pid_of(inode: int) -> int:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}/ns/net").st_ino == inode:
                    return int(name)
            except OSError:
                continue
    return 0


def _named(found: list[Found]) -> list[Found]:
    taken: set[str] = set()
    for entry in found:
        hostname, entry.pod_uid = _identity(entry.pid)
        name = (
            hostname
            or next((n for n in entry.names if not n.startswith("cni-")), "")
            or next(iter(entry.names), "")
        )
        entry.name = folder_name(name or f"netns-{entry.inode}", taken)
    return found


def folder_name(wanted: str, taken: set[str]) -> str:
    """A name for a folder that is not taken yet, and takes it."""
    base = re.sub(r"[^\w.-]+", "-", wanted).strip(".-") or "netns"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    taken.add(name)
    return name


def _identity(pid: int) -> tuple[str, str]:
    """The hostname that a process's container has (kubelet gives a pod's own name) and the pod's UID from its
    cgroup; empty where it runs as the machine itself does."""
    if not pid:
        return "", ""
    uid = ""
    try:
        match = _POD.search(Path(f"/proc/{pid}/cgroup").read_text())
        uid = match[1].replace("_", "-") if match else ""
        if os.stat(f"/proc/{pid}/ns/uts").st_ino == os.stat("/proc/self/ns/uts").st_ino:
            return "", uid
        return Path(f"/proc/{pid}/root/etc/hostname").read_text().strip()[:63], uid
    except OSError:
        return "", uid
