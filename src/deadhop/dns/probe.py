"""One server asked once, by one transport and EDNS size, and what the datagram that came back looked like.

DF is read from the IP header through a raw socket where the process may have one (root); without it, it is unknown. A
fragmented answer shows itself to anybody by the IP_RECVFRAGSIZE control message (ip_cmsg_recv_fragsize).
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import NamedTuple

import msgspec

from deadhop.dns.sockets import IP_RECVFRAGSIZE, IPV6_RECVFRAGSIZE, endpoint
from deadhop.model.dns import rcode_name, type_number
from deadhop.wire.build import build_query
from deadhop.wire.dns import read_answer, read_message
from deadhop.wire.framing import Framer, frame
from deadhop.wire.names import WireError

TRIES = 2
WORKERS = 16


class Way(NamedTuple):
    """A transport and the payload announced by EDNS, None without EDNS."""

    transport: str
    edns: int | None = None

    def __str__(self) -> str:
        return self.transport + (
            f" edns {self.edns}" if self.edns else "" if self.transport == "tcp" else " plain"
        )


PLAIN, TCP = Way("udp"), Way("tcp")
WAYS = (PLAIN, Way("udp", 1232), Way("udp", 4096), TCP)
"""Without EDNS (glibc's and musl's default), the flag day's 1232, the old default of servers, TCP."""


class Ask(NamedTuple):
    """One question on its way. ``server`` is as ``endpoint`` reads it; ``where`` the name of the place asked from."""

    name: str
    type: str
    server: str
    way: Way
    where: str = "here"


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What came back. ``error`` is empty where an answer came. ``seconds`` is the time of the try that was answered.

    ``records`` are the answer section as ``TYPE DATA``, sorted; ``df`` None where it could not be seen; ``fragment``
    the largest IP packet in octets that the answer came in, 0 where it was not fragmented.
    """

    name: str
    type: str
    server: str
    where: str
    transport: str
    edns: int | None = None
    error: str = ""
    rcode: str = ""
    size: int = 0
    truncated: bool = False
    records: tuple[str, ...] = ()
    ttl: int | None = None
    seconds: float = 0.0
    tries: int = 0
    df: bool | None = None
    fragment: int = 0

    @property
    def way(self) -> Way:
        return Way(self.transport, self.edns)


Place = Callable[[], AbstractContextManager[object]]
"""Enters the place that sockets are made in: another network namespace, or nothing."""


def probe(ask: Ask, timeout: float, place: Place = contextlib.nullcontext) -> Tried:
    """Asks until there is an answer, :data:`TRIES` times at most. Never raises for what the network does."""
    result = Tried(name=ask.name, type=ask.type, server=ask.server, where=ask.where,
                   transport=ask.way.transport, edns=ask.way.edns, error="no answer")  # fmt: skip
    once = _tcp if ask.way.transport == "tcp" else _udp
    for number in range(1, TRIES + 1):
        query = build_query(random.getrandbits(16), ask.name, type_number(ask.type), edns_size=ask.way.edns)
        started = time.monotonic()
        try:
            with place():
                data, df, fragment = once(ask.server, query, timeout)
        except TimeoutError:
            result = msgspec.structs.replace(result, error="no answer", tries=number)
            continue
        except OSError as error:
            text = (error.strerror or str(error)).lower()
            result = msgspec.structs.replace(result, error=text, tries=number)
            continue
        seconds = time.monotonic() - started
        return _read(msgspec.structs.replace(
            result, error="", tries=number, df=df, fragment=fragment, seconds=seconds, size=len(data)), data)  # fmt: skip
    return result


def probe_all(asks: Sequence[Ask], timeout: float, places: dict[str, Place] | None = None) -> list[Tried]:
    """Every question, several at a time, in the order given."""
    places = places or {}
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(lambda a: probe(a, timeout, places.get(a.where, contextlib.nullcontext)), asks))


def _read(result: Tried, data: bytes) -> Tried:
    try:
        answer = read_answer(data)
    except WireError as error:
        return msgspec.structs.replace(result, error=f"unreadable answer: {error}")
    try:
        rrs = read_message(data).answers
    except WireError:
        rrs = ()
    return msgspec.structs.replace(
        result,
        rcode=rcode_name(answer.rcode),
        truncated=answer.truncated,
        records=tuple(sorted(f"{rr.type} {rr.data}" for rr in rrs)),
        ttl=min((rr.ttl for rr in rrs), default=None),
    )


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _udp(server: str, query: bytes, timeout: float) -> tuple[bytes, bool | None, int]:
    family, address = endpoint(server)
    until = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        level, option = (
            (socket.IPPROTO_IPV6, IPV6_RECVFRAGSIZE)
            if family == socket.AF_INET6
            else (socket.IPPROTO_IP, IP_RECVFRAGSIZE)
        )
        with contextlib.suppress(OSError):  # not Linux, or older than 4.12
            sock.setsockopt(level, option, 1)
        raw = _raw(family, address[0], stack)
        sock.connect(address)
        sock.send(query)
        while True:
            sock.settimeout(_left(until))
            data, control, _flags, _peer = sock.recvmsg(65535, 64)
            if data[:2] == query[:2]:
                break
        sizes = [
            int.from_bytes(value[:4], "little")
            for lv, kind, value in control
            if (lv, kind) == (level, option)
        ]
        df = _df(raw, sock.getsockname()[1], address[1], data) if raw is not None else None
        return data, df, max(sizes, default=0)


def _raw(family: socket.AddressFamily, host: str, stack: contextlib.ExitStack) -> socket.socket | None:
    """A raw socket that sees the datagrams of ``host`` with their IPv4 header; None without the right to one."""
    if family != socket.AF_INET:
        return None
    try:
        raw = stack.enter_context(socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_UDP))
        raw.connect((host, 0))
    except OSError:
        return None
    return raw


def _df(raw: socket.socket, port: int, server_port: int, data: bytes) -> bool | None:
    """DF of the packet whose UDP payload is ``data``; it is in the raw socket's queue before the other has it."""
    while select.select([raw], [], [], 0)[0]:
        packet = raw.recv(65535)
        start = (packet[0] & 15) * 4
        ports = (
            int.from_bytes(packet[start : start + 2], "big"),
            int.from_bytes(packet[start + 2 : start + 4], "big"),
        )
        if ports == (server_port, port) and packet[start + 8 :] == data:
            return bool(packet[6] & 0x40)
    return None


def _tcp(server: str, query: bytes, timeout: float) -> tuple[bytes, bool | None, int]:
    family, address = endpoint(server)
    until = time.monotonic() + timeout
    framer = Framer()
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        sock.connect(address)
        sock.sendall(frame(query))
        while True:
            sock.settimeout(_left(until))
            piece = sock.recv(65535)
            if not piece:
                raise ConnectionResetError(104, "the connection was closed without an answer")
            for message in framer.feed(piece):
                if message[:2] == query[:2]:
                    return message, None, 0


def asks_of(
    questions: Iterable[tuple[str, str]], servers: Iterable[str], ways: Iterable[Way], places: Iterable[str]
) -> list[Ask]:
    """Every question to every server by every way from every place."""
    servers, ways, places = list(servers), list(ways), list(places)
    return [
        Ask(name, rtype, server, way, where)
        for name, rtype in questions
        for server in servers
        for where in places
        for way in ways
    ]
