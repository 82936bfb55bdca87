"""Nameless network namespaces: they hold on to a file descriptor and vanish with the process, however it ends."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deadhop.collect import enter, procfs


class Netns:
    """A new namespace. :meth:`inside` moves the calling thread into it for a while."""

    def __init__(self) -> None:
        self.fd = enter.new_netns()
        self.inode = os.fstat(self.fd).st_ino
        #: A path by which another process of this user finds the namespace while this one lives.
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"

    @contextmanager
    def inside(self) -> Iterator[None]:
        with enter.inside(self.fd):
            yield

    def run(self, *command: str, feed: str = "") -> subprocess.CompletedProcess[bytes]:
        """A program inside; its failure is the caller's to judge."""
        with self.inside():
            return subprocess.run(command, input=feed.encode(), capture_output=True, check=False)

    def sysctl(self, key: str, value: str | int) -> bool:
        """Writes a setting; False where the kernel refuses it."""
        path = Path("/proc/sys") / key.replace(".", "/")
        with self.inside():
            try:
                path.write_text(str(value))
            except OSError:
                return False
        return True

    def sysctls(self) -> str:
        """``sysctl -a`` of the network part."""
        with self.inside():
            return procfs.sysctls()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
