"""Whose namespaces are whose. A name is ``dh-PID-START-NAMESPACE``; START is the owner's start time, so that a pid that
was given away again is not taken for the owner. What a dead owner left is removed by the next lab that starts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

NETNS = Path("/run/netns")
#: Scratch folders: files that namespaces see, sockets, logs of services.
ROOT = Path("/run/deadhop-lab")
_NAME = re.compile(r"^dh-(?P<pid>\d+)-(?P<start>\d+)(?:-(?P<name>.+))?$")


def start_time(pid: int) -> int | None:
    """The start of a process in clock ticks since boot (proc(5), stat field 22); None where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])


def tag() -> str:
    """The prefix of what this process makes."""
    pid = os.getpid()
    return f"dh-{pid}-{start_time(pid)}"


def alive(name: str) -> bool:
    """Whether the owner that a name tells of still runs; True for a name that is not a lab's."""
    match = _NAME.match(name)
    return match is None or start_time(int(match["pid"])) == int(match["start"])


def namespaces() -> list[str]:
    """Every named namespace of every lab."""
    try:
        return sorted(name for name in os.listdir(NETNS) if _NAME.match(name))
    except OSError:
        return []


def sweep() -> list[str]:
    """Removes what dead owners left; gives the names of the namespaces that were removed."""
    gone = [name for name in namespaces() if not alive(name)]
    for name in gone:
        remove(name)
    if ROOT.is_dir():
        for folder in ROOT.iterdir():
            if _NAME.match(folder.name) and not alive(folder.name):
                shutil.rmtree(folder, ignore_errors=True)
    return gone


def remove(name: str) -> None:
    """Takes a namespace's name away; it ends with its last process."""
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
