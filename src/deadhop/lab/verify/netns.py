"""Nameless network namespaces: they hold on to a file descriptor and vanish with the process, however it ends."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


class Netns:
    """A new namespace. :meth:`inside` moves the calling thread into it for a while."""

    def __init__(self) -> None:
        made: list[int] = []
        failed: list[OSError] = []

        def make() -> None:
            try:
                _checked(_libc.unshare(CLONE_NEWNET), "unshare")
                made.append(os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY))
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        self.fd = made[0]
        self.inode = os.fstat(self.fd).st_ino
        #: A path by which another process of this user finds the namespace while this one lives.
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"

    @contextmanager
    def inside(self) -> Iterator[None]:
        home = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
        try:
            _checked(_libc.setns(self.fd, CLONE_NEWNET), "setns")
            try:
                yield
            finally:
                _checked(_libc.setns(home, CLONE_NEWNET), "setns")
        finally:
            os.close(home)

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
        found: list[str] = []
        with self.inside():
            for folder, _folders, files in os.walk("/proc/sys/net"):
                prefix = (
                    folder.removeprefix("/proc/sys/").replace(".", "\0").replace("/", ".").replace("\0", "/")
                )
                for name in files:
                    try:
                        with open(f"{folder}/{name}") as handle:
                            text = handle.read()
                    except OSError:
                        continue
                    found += [f"{prefix}.{name} = {line}" for line in text.splitlines() or [""]]
        return "\n".join(sorted(found)) + "\n"

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
