"""Least privilege: after set-up the agent keeps two capabilities, and can gain none.

CAP_NET_ADMIN changes the sets and makes transparent sockets; CAP_NET_RAW is what a raw socket needs where the
``nft`` program runs instead of the library. Numbers are those of ``linux/capability.h`` and ``linux/prctl.h``.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct

CAP_NET_ADMIN, CAP_NET_RAW = 12, 13
KEPT = {CAP_NET_ADMIN: "CAP_NET_ADMIN", CAP_NET_RAW: "CAP_NET_RAW"}
_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 24, 38, 47, 4


def raise_limits() -> None:
    """As many open files as the system allows this process: each server and connection has a socket."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def drop() -> None:
    """Keep :data:`KEPT` and nothing else, for this process and all that it runs. Raises ``OSError``.

    To be called before threads are made: capabilities belong to threads.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    number = 0
    while libc.prctl(23, number, 0, 0, 0) >= 0:  # PR_CAPBSET_READ fails behind the last capability
        if number not in KEPT:
            libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
        number += 1
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    mask = sum(1 << number for number in KEPT)
    header = struct.pack("=Ii", _VERSION_3, 0)
    data = struct.pack("=6I", mask & 0xFFFFFFFF, mask & 0xFFFFFFFF, 0, mask >> 32, mask >> 32, 0)
    if libc.capset(header, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
