"""Netlink messages to netfilter's subsystems, as conntrack, the log and nftables' sets are spoken to.

The framing of ``linux/netlink.h``: a header, the subsystem's own head (``nfgenmsg`` of
``linux/netfilter/nfnetlink.h``), attributes that are padded to four octets.
"""

from __future__ import annotations

import socket
import struct

NETLINK_NETFILTER = 12
REQUEST, ACK, DUMP, CREATE = 1, 4, 0x300, 0x400
ERROR, DONE = 2, 3
"""Kinds of the kernel's own messages: an error, or with number 0 an acknowledgement; the end of a dump."""
NESTED = 0x8000
KIND = 0x3FFF
"""The bits of an attribute's kind that are no flags."""
HEADER = struct.Struct("=IHHII")
"""``nlmsghdr``: length, kind, flags, sequence, port."""
MESSAGE = struct.Struct("=IHHIIBBH")
"""``nlmsghdr`` and ``nfgenmsg``: family, version, and the resource, which is in network order."""
ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=i")


def netfilter_socket() -> socket.socket:
    """A socket of the network namespace that the thread is in. Raises ``OSError``."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    try:
        sock.bind((0, 0))
    except BaseException:
        sock.close()
        raise
    return sock


def message(
    kind: int, flags: int, body: bytes, *, family: int = socket.AF_UNSPEC, number: int = 1, resource: int = 0
) -> bytes:
    """One message with its attributes."""
    length = MESSAGE.size + len(body)
    return MESSAGE.pack(length, kind, flags, number, 0, family, 0, socket.htons(resource)) + body


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded."""
    return ATTRIBUTE.pack(4 + len(data), kind) + data + bytes(-len(data) % 4)


def padded(length: int) -> int:
    """Where what follows begins."""
    return length + 3 & ~3


def error_number(data: bytes, at: int = 0) -> int:
    """The error (``errno``) that an ``ERROR`` message at ``at`` tells; 0 where it acknowledges."""
    number: int = _NUMBER.unpack_from(data, at + HEADER.size)[0]
    return -number
