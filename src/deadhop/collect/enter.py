"""Making and entering namespaces: for a while in this thread, or for good in a child before it runs a program."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def set_netns(path: str) -> None:
    """Moves the calling thread into the namespace at ``path``. Raises :class:`OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.setns(descriptor, CLONE_NEWNET), f"setns {path}")
    finally:
        os.close(descriptor)


def new_netns() -> int:
    """The descriptor of a new nameless namespace, which lives as long as it is open. Raises :class:`OSError`."""
    made: list[int] = []
    failed: list[OSError] = []

    def make() -> None:  # in a thread, so that the caller stays where it is
        try:
            _checked(_libc.unshare(CLONE_NEWNET), "unshare")
            made.append(_own_netns())
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


@contextmanager
def inside(place: str | int) -> Iterator[None]:
    """The calling thread stands in the namespace at a path or of a descriptor; sockets made there stay there."""
    home = _own_netns()
    try:
        if isinstance(place, int):
            _checked(_libc.setns(place, CLONE_NEWNET), "setns")
        else:
            set_netns(place)
        try:
            yield
        finally:
            _checked(_libc.setns(home, CLONE_NEWNET), "setns")
    finally:
        os.close(home)


def _own_netns() -> int:
    return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def own_mounts() -> None:
    """A mount namespace of its own, from which nothing comes back. Raises :class:`OSError`."""
    _checked(_libc.unshare(CLONE_NEWNS), "unshare mounts")
    _checked(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount / private")


def mount(source: str, target: str, kind: str = "", flags: int = 0) -> None:
    """mount(2). Raises :class:`OSError`."""
    made = _libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, None)
    _checked(made, f"mount {target}")


def die_with_parent(number: int = 9) -> None:
    """The calling process gets signal ``number`` when its parent ends (prctl(2) PR_SET_PDEATHSIG)."""
    _libc.prctl(PR_SET_PDEATHSIG, number)
