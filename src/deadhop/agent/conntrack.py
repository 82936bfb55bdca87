"""The connections of endpoints, read from the kernel's conntrack table over netlink, and their end.

A dump goes through a hot loop here, because nodes have a hundred thousand entries: only who opened the connection and
where it really leads (the source of the answers, after service translation) are taken out of each
(``linux/netfilter/nfnetlink_conntrack.h``).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import NamedTuple

from deadhop.agent.netlink import (
    ACK,
    ATTRIBUTE,
    DONE,
    DUMP,
    ERROR,
    HEADER,
    KIND,
    MESSAGE,
    REQUEST,
    error_number,
    message,
    netfilter_socket,
)

_NEW, _GET, _DELETE = 0x100, 0x101, 0x102
_TUPLE_ORIG, _TUPLE_REPLY, _PROTOINFO = 1, 2, 4
_TCP_OVER = (7, 8)
"""TIME_WAIT and CLOSE (``enum tcp_conntrack``): tracked for a while, and nobody's connection any more."""
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_SOURCES = (1, 3)
_PROTO_NUMBER, _PROTO_SOURCE_PORT = 1, 2
_PROTOCOLS = {6: "TCP", 17: "UDP", 132: "SCTP"}


class Entry(NamedTuple):
    """One connection. ``key`` is the attribute of its original tuple, by which it is deleted; ``over`` where TCP has
    ended it."""

    source: str
    destination: str
    protocol: str
    port: int
    over: bool
    key: bytes


class ConntrackError(OSError):
    """The table could not be read to its end."""


def _socket() -> socket.socket:
    sock = netfilter_socket()
    sock.settimeout(10)
    return sock


def entries(sock: socket.socket | None = None) -> Iterator[Entry]:
    """Every tracked connection of this namespace, both families. Raises :class:`ConntrackError`."""
    own = sock is None
    try:
        sock = sock or _socket()
        for family in (socket.AF_INET, socket.AF_INET6):
            sock.send(message(_GET, REQUEST | DUMP, b"", family=family))
            yield from _dump(sock)
    except OSError as error:
        raise ConntrackError(error.errno or errno.EIO, f"conntrack: {error}") from error
    finally:
        if own and sock is not None:
            sock.close()


def _dump(sock: socket.socket) -> Iterator[Entry]:
    while True:
        data = sock.recv(1 << 20)
        at = 0
        while at + 16 <= len(data):
            length, kind, *_ = HEADER.unpack_from(data, at)
            if kind == DONE:
                return
            if kind == ERROR:
                if number := error_number(data, at):
                    raise OSError(number, os.strerror(number))
                return
            if length < 16:
                return
            if kind == _NEW:
                found = _entry(data, at + MESSAGE.size, at + length)
                if found is not None:
                    yield found
            at += length + 3 & ~3


def _entry(data: bytes, at: int, end: int) -> Entry | None:
    source, answerer, over, key = "", ("", 0, 0), False, b""
    while at + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if kind & KIND == _TUPLE_ORIG:
            source = _sender(data, at + 4, at + length)[0]
            key = data[at : at + (length + 3 & ~3)]
        elif kind & KIND == _TUPLE_REPLY:
            answerer = _sender(data, at + 4, at + length)
        elif kind & KIND == _PROTOINFO and length >= 17:
            # CTA_PROTOINFO_TCP { CTA_PROTOINFO_TCP_STATE { u8 } }: the state comes first in both nests.
            over = data[at + 12] in _TCP_OVER and answerer[1] == 6
        at += max(length, 4) + 3 & ~3
    if not source or not answerer[0]:
        return None
    protocol = _PROTOCOLS.get(answerer[1], str(answerer[1]))
    return Entry(source, answerer[0], protocol, answerer[2], over, key)


def _sender(data: bytes, at: int, end: int) -> tuple[str, int, int]:
    """(source address, protocol, source port) of a tuple."""
    source, protocol, port = "", 0, 0
    while at + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(data, at)
        inner, last = at + 4, at + length
        while inner + 4 <= last:
            size, which = ATTRIBUTE.unpack_from(data, inner)
            value = data[inner + 4 : inner + size]
            if kind & KIND == _TUPLE_IP and which & KIND in _SOURCES:
                source = socket.inet_ntop(socket.AF_INET if len(value) == 4 else socket.AF_INET6, value)
            elif kind & KIND == _TUPLE_PROTO and which & KIND == _PROTO_NUMBER:
                protocol = value[0]
            elif kind & KIND == _TUPLE_PROTO and which & KIND == _PROTO_SOURCE_PORT:
                port = int.from_bytes(value, "big")
            inner += max(size, 4) + 3 & ~3
        at += max(length, 4) + 3 & ~3
    return source, protocol, port


def end_where(test: Callable[[Entry], bool]) -> int:
    """Delete the connections that ``test`` accepts; returns how many. Raises ``OSError``."""
    doomed = [entry for entry in entries() if test(entry)]
    with _socket() as sock:
        for number, entry in enumerate(doomed, 1):
            family = socket.AF_INET6 if ":" in entry.source else socket.AF_INET
            sock.send(message(_DELETE, REQUEST | ACK, entry.key, family=family, number=number))
            sock.recv(4096)
    return len(doomed)
