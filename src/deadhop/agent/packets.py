"""Packets that the kernel's rules log (``log group``): the first packets of dropped and of allowed connections.

NFLOG over netlink (``linux/netfilter/nfnetlink_log.h``). The rules limit the rate, so this is a view and no account:
the account is the counters'.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from deadhop.agent.netlink import (
    ACK,
    ATTRIBUTE,
    HEADER,
    KIND,
    REQUEST,
    attribute,
    error_number,
    message,
    netfilter_socket,
    padded,
)

_ULOG = 4
_PACKET, _CONFIG = _ULOG << 8, _ULOG << 8 | 1
_CFG_CMD, _CFG_MODE, _CFG_TIMEOUT, _BIND, _COPY_PACKET = 1, 2, 4, 1, 2
_HUNDREDTHS = 2
"""How long the kernel may collect packets before it tells us, in hundredths of a second."""
_PAYLOAD, _PREFIX = 9, 10
_TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
#: Go's order in Hubble's summary (``pkg/hubble/parser/threefour``).
_FLAG_ORDER = ("SYN", "ACK", "PSH", "FIN", "RST", "URG", "ECE", "CWR")
PROTOCOLS = {1: "ICMPv4", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}


class Packet(NamedTuple):
    """The head of one logged packet. ``kind`` is the rule's log prefix."""

    kind: str
    source: str
    destination: str
    protocol: str
    source_port: int
    destination_port: int
    summary: str


def open_log(group: int) -> socket.socket:
    """A socket that gets what the rules of this namespace log to ``group``. Raises ``OSError``."""
    sock = netfilter_socket()
    try:
        sock.settimeout(5)
        _configure(sock, group, attribute(_CFG_CMD, struct.pack("=B", _BIND)))
        _configure(sock, group, attribute(_CFG_MODE, struct.pack("!IBB", 128, _COPY_PACKET, 0)))
        _configure(sock, group, attribute(_CFG_TIMEOUT, struct.pack("!I", _HUNDREDTHS)))
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _configure(sock: socket.socket, group: int, attributes: bytes) -> None:
    sock.send(message(_CONFIG, REQUEST | ACK, attributes, resource=group))
    if number := error_number(sock.recv(4096)):
        raise OSError(number, f"nfnetlink_log: {os.strerror(number)}")


def packets(data: bytes) -> Iterator[Packet]:
    """The packets of one netlink datagram; what is cut off or of another kind is passed over."""
    at = 0
    while at + 16 <= len(data):
        length, kind, *_ = HEADER.unpack_from(data, at)
        if length < 16 or at + length > len(data):
            return
        if kind == _PACKET:
            found = _packet(data[at + 20 : at + length])
            if found is not None:
                yield found
        at += padded(length)


def _packet(body: bytes) -> Packet | None:
    prefix, payload, at = "", b"", 0
    while at + 4 <= len(body):
        length, kind = ATTRIBUTE.unpack_from(body, at)
        if length < 4 or at + length > len(body):
            break
        if kind & KIND == _PREFIX:
            prefix = body[at + 4 : at + length].split(b"\0")[0].decode("ascii", "replace")
        elif kind & KIND == _PAYLOAD:
            payload = body[at + 4 : at + length]
        at += padded(length)
    return head_of(prefix, payload)


def head_of(kind: str, data: bytes) -> Packet | None:
    """Addresses, ports and flags of an IP packet; None where it is too short."""
    if len(data) >= 20 and data[0] >> 4 == 4:
        start, number = (data[0] & 15) * 4, data[9]
        family, ends = socket.AF_INET, (data[12:16], data[16:20])
    elif len(data) >= 40 and data[0] >> 4 == 6:
        start, number = 40, data[6]
        family, ends = socket.AF_INET6, (data[8:24], data[24:40])
    else:
        return None
    source, destination = (socket.inet_ntop(family, end) for end in ends)
    protocol = PROTOCOLS.get(number, str(number))
    ports = (0, 0)
    if number in (6, 17, 132) and len(data) >= start + 4:
        ports = struct.unpack_from("!HH", data, start)
    summary = protocol
    if number == 6 and len(data) > start + 13:
        flags = {name for bit, name in enumerate(_TCP_FLAGS) if data[start + 13] >> bit & 1}
        summary = f"TCP Flags: {', '.join(f for f in _FLAG_ORDER if f in flags)}"
    return Packet(kind, source, destination, protocol, ports[0], ports[1], summary)
