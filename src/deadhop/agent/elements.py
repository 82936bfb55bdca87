"""Changes of set elements: as netlink messages for the hot path, and as the text of ``nft -f``.

A transaction of libnftables costs a tenth of a millisecond before its first element: it parses text and asks the
kernel for the table. A policy agent only ever adds addresses with a timeout and deletes them, so it says that to the
kernel itself (``NFT_MSG_NEWSETELEM`` and ``NFT_MSG_DELSETELEM`` of ``linux/netfilter/nf_tables.h``, in a batch of
``linux/netfilter/nfnetlink.h``), which costs a seventh of it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence
from typing import Literal, NamedTuple

from deadhop.agent.netlink import (
    ACK,
    CREATE,
    ERROR,
    HEADER,
    NESTED,
    REQUEST,
    attribute,
    error_number,
    message,
    netfilter_socket,
)
from deadhop.agent.ruleset import TABLE, lease_seconds
from deadhop.agent.sockets import SO_RCVBUFFORCE, SO_SNDBUFFORCE

_BATCH_BEGIN, _BATCH_END, _SUBSYSTEM = 16, 17, 10
_KINDS = {"add": _SUBSYSTEM << 8 | 12, "delete": _SUBSYSTEM << 8 | 14}
_FAMILY_INET = 1
_TABLE, _SET, _ELEMENTS = 1, 2, 3
"""``NFTA_SET_ELEM_LIST_TABLE``, ``_SET`` and ``_ELEMENTS``."""
_ELEMENT = {
    False: struct.Struct("=HHHHHH4s"),
    True: struct.Struct("=HHHHHH16s"),
}
"""``NFTA_LIST_ELEM`` > ``NFTA_SET_ELEM_KEY`` > ``NFTA_DATA_VALUE`` around an IPv4 or (True) an IPv6 address."""
_TIMEOUT = struct.Struct("=HH")
_MILLISECONDS = struct.Struct("!Q")
_MESSAGE_ELEMENTS = 512
"""Elements of one message: the length of a nested attribute is 16 bits."""
_BUFFER = 16 << 20


class Command(NamedTuple):
    """Elements to add to one set, or to delete: addresses, each with the seconds that it stays."""

    verb: Literal["add", "delete"]
    set: str
    items: tuple[tuple[str, float], ...]


Elements = tuple[Command, ...]
"""Commands of one transaction, in order."""


def text_of(commands: Elements) -> str:
    """The lines of ``nft -f``."""
    return "".join(map(_line, commands))


def _line(command: Command) -> str:
    items = (
        ip if command.verb == "delete" else f"{ip} timeout {lease_seconds(seconds)}s"
        for ip, seconds in command.items
    )
    return f"{command.verb} element inet {TABLE} {command.set} {{ {', '.join(items)} }}\n"


def _element(ip: str, seconds: float | None) -> bytes:
    six = ":" in ip
    size = 16 if six else 4
    packed = socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, ip)
    inner, outer = 4 + size, 8 + size
    timeout = b""
    if seconds is not None:
        timeout = _TIMEOUT.pack(12, 4) + _MILLISECONDS.pack(lease_seconds(seconds) * 1000)
    whole = 4 + outer + len(timeout)
    return _ELEMENT[six].pack(whole, 1 | NESTED, outer, 1 | NESTED, inner, 1, packed) + timeout


def messages(commands: Elements) -> bytes:
    """The batch. Its last message asks for an acknowledgement; every message that fails is answered."""
    table = attribute(_TABLE, TABLE.encode() + b"\0")
    pieces = [
        (command, command.items[at : at + _MESSAGE_ELEMENTS])
        for command in commands
        for at in range(0, len(command.items), _MESSAGE_ELEMENTS)
    ]
    out = [message(_BATCH_BEGIN, REQUEST, b"", number=0, resource=_SUBSYSTEM)]
    for number, (command, items) in enumerate(pieces, 1):
        adding = command.verb == "add"
        listed = b"".join([_element(ip, seconds if adding else None) for ip, seconds in items])
        name = attribute(_SET, command.set.encode() + b"\0")
        flags = REQUEST | (CREATE if adding else 0) | (ACK if number == len(pieces) else 0)
        body = table + name + attribute(_ELEMENTS | NESTED, listed)
        out.append(message(_KINDS[command.verb], flags, body, family=_FAMILY_INET, number=number))
    out.append(message(_BATCH_END, REQUEST, b"", number=len(pieces) + 1, resource=_SUBSYSTEM))
    return b"".join(out)


class ElementSocket:
    """A netlink socket of the network namespace it is made in. One thread at a time."""

    def __init__(self) -> None:
        """Raises ``OSError``."""
        self._sock = netfilter_socket()
        try:
            for option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):  # a batch is one datagram
                self._sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
            self._sock.setblocking(False)
        except BaseException:
            self._sock.close()
            raise

    def apply(self, commands: Elements) -> None:
        """One transaction: all of it or nothing. Raises ``OSError`` with what the kernel said first."""
        if not commands:
            return
        self._sock.send(messages(commands))
        # The kernel works while send() runs: everything that it has to say is there.
        failed, answers = None, 0
        while True:
            try:
                answer = self._sock.recv(1 << 16)
            except BlockingIOError:
                break
            failed = failed or _problem(answer, commands)
            answers += 1
        if not answers:
            raise OSError(errno.EIO, "nf_tables: no answer")
        if failed is not None:
            raise failed

    def close(self) -> None:
        self._sock.close()


def _problem(answer: bytes, commands: Sequence[Command]) -> OSError | None:
    if len(answer) < HEADER.size + 4:
        return OSError(errno.EIO, "nf_tables: an answer that is cut off")
    if HEADER.unpack_from(answer)[1] != ERROR:
        return None
    number = error_number(answer)
    if not number:
        return None
    sets = ", ".join(dict.fromkeys(command.set for command in commands[:4]))
    return OSError(number, f"nf_tables: {os.strerror(number)} ({sets})")
