"""Sockets that are somebody else: the listeners behind TPROXY, upstream sockets with a pod's address, and answers
that leave with the DNS server's address.

UDP answers go out through a raw socket, as Cilium's do: a socket bound to the server's address would take packets
that other pods send to that server. Constants that Python does not name are those of ``linux/in.h`` and ``in6.h``.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import NamedTuple

IP_TRANSPARENT = 19
IP_RECVORIGDSTADDR = 20
IPV6_TRANSPARENT = 75
IPV6_RECVORIGDSTADDR = 74
IPV6_CHECKSUM = 7
SO_ATTACH_FILTER = 26
UDP_CHECKSUM_OFFSET = 6
IPV6_PKTINFO = 50
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
QUERIES_BUFFER, ANSWERS_BUFFER = 8 << 20, 1 << 20
"""Octets that the kernel keeps for us (past ``net.core.rmem_max``): a burst must not push answers out."""
ANCILLARY = socket.CMSG_SPACE(28)

Address = tuple[str, int]
"""An address in canonical text and a port."""

_UDP = struct.Struct("!HHHH")
_INFO6 = struct.Struct("=16sI")


def family_of(ip: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def _transparent(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)


def _made(family: int, kind: int, protocol: int = 0) -> socket.socket:
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        _transparent(sock)
        if family == socket.AF_INET6 and kind != socket.SOCK_RAW:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def listener(ip: str, port: int, *, tcp: bool) -> socket.socket:
    """A listener that TPROXY delivers to. Raises ``OSError``."""
    family = family_of(ip)
    sock = _made(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if tcp:
            sock.bind((ip, port))
            sock.listen(512)
        else:
            level, option = (
                (socket.IPPROTO_IPV6, IPV6_RECVORIGDSTADDR)
                if family == socket.AF_INET6
                else (socket.IPPROTO_IP, IP_RECVORIGDSTADDR)
            )
            sock.setsockopt(level, option, 1)
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, QUERIES_BUFFER)
            sock.bind((ip, port))
    except BaseException:
        sock.close()
        raise
    return sock


def original_destination(data: bytes) -> Address:
    """The server that a packet was sent to, from the ``ORIGDSTADDR`` message. Raises ``struct.error``."""
    (family,) = struct.unpack_from("=H", data)
    (port,) = struct.unpack_from("!H", data, 2)
    if family == socket.AF_INET:
        return socket.inet_ntop(family, data[4:8]), port
    return socket.inet_ntop(socket.AF_INET6, data[8:24]), port


def upstream(source: str | None, server: Address, *, tcp: bool, linger: int | None = None) -> socket.socket:
    """A socket towards a DNS server, from the address ``source`` (a pod's) where given. Raises ``OSError``.

    UDP is connected, so the kernel passes on what the server sends and nothing else. A TCP connection is under way.
    ``linger`` in seconds; 0 resets, negative or None leaves the kernel's way.
    """
    sock = _made(family_of(server[0]), socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    try:
        if source is not None:
            sock.bind((source, 0))
        if tcp:
            if linger is not None and linger >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, linger))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect_ex(server)
        else:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ANSWERS_BUFFER)
            sock.connect(server)
    except BaseException:
        sock.close()
        raise
    return sock


class _Route(NamedTuple):
    """From a server to a client over IPv4: a socket bound to the server's address, the sum of the pseudo header's
    constant words, the client's address as raw sockets take it."""

    sock: socket.socket
    words: int
    target: Address


ROUTES, BOUND = 4096, 64
"""Pairs of server and client that are remembered, and servers that have a socket of their own."""


class Answers:
    """Sends UDP datagrams with another's source address. Needs CAP_NET_RAW."""

    def __init__(self) -> None:
        self._six: socket.socket | None = None
        try:
            self._six = self._raw(socket.AF_INET6)
            self._six.setsockopt(socket.IPPROTO_IPV6, IPV6_CHECKSUM, UDP_CHECKSUM_OFFSET)
        except OSError:  # a node without IPv6
            self._six = None
        self._bound: dict[str, socket.socket] = {}
        self._routes: dict[tuple[str, str], _Route] = {}

    @staticmethod
    def _raw(family: int) -> socket.socket:
        sock = _made(family, socket.SOCK_RAW, socket.IPPROTO_UDP)
        _receive_nothing(sock)
        return sock

    def send(self, data: bytes, server: Address, client: Address) -> None:
        """One datagram from ``server`` to ``client``. Raises ``OSError``."""
        length = len(data) + 8
        route = self._routes.get((server[0], client[0]))
        if route is None:
            if ":" in client[0]:
                self._send_six(data, length, server, client)
                return
            route = self._route(server[0], client[0])
        sock, words, target = route
        port, client_port = server[1], client[1]
        # RFC 1071: the sum of 16-bit words in ones' complement is the number modulo 65535. The length counts twice:
        # in the pseudo header and in the header.
        number = int.from_bytes(data, "big") << (length & 1) * 8
        checksum = 0xFFFF - (words + port + client_port + 2 * length + number) % 0xFFFF
        sock.sendto(_UDP.pack(port, client_port, length, checksum) + data, target)

    def _send_six(self, data: bytes, length: int, server: Address, client: Address) -> None:
        if self._six is None:
            raise OSError("no IPv6 on this node")
        info = _INFO6.pack(socket.inet_pton(socket.AF_INET6, server[0]), 0)
        packet = _UDP.pack(server[1], client[1], length, 0) + data
        ancillary = [(socket.IPPROTO_IPV6, IPV6_PKTINFO, info)]
        self._six.sendmsg((packet,), ancillary, 0, (client[0], 0))

    def _route(self, server: str, client: str) -> _Route:
        if len(self._routes) >= ROUTES:
            self._routes.clear()
        sock = self._bound.get(server)
        if sock is None:
            if len(self._bound) >= BOUND:
                self._forget()
            sock = self._raw(socket.AF_INET)
            try:
                sock.bind((server, 0))
            except BaseException:
                sock.close()
                raise
            self._bound[server] = sock
        addresses = int.from_bytes(socket.inet_aton(server) + socket.inet_aton(client), "big")
        route = _Route(sock, addresses % 0xFFFF + socket.IPPROTO_UDP, (client, 0))
        self._routes[server, client] = route
        return route

    def _forget(self) -> None:
        self._routes.clear()
        for sock in self._bound.values():
            sock.close()
        self._bound.clear()

    def close(self) -> None:
        self._forget()
        if self._six is not None:
            self._six.close()


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _receive_nothing(sock: socket.socket) -> None:
    """A raw socket gets a copy of every UDP packet of the node; a filter that accepts none spares the work."""
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    program = _Program(1, ctypes.addressof(instruction))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(program))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
