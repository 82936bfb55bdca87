"""A DNS server's sockets: UDP and TCP on any addresses, one asyncio loop, one log line for each query.

The log line is CoreDNS's (plugin/log, ``{common}``), so that what reads CoreDNS logs reads these.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterable
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from deadhop.dns.faults import Faults
from deadhop.dns.sockets import shown, udp_socket
from deadhop.wire.framing import Framer, frame
from deadhop.wire.zonefile import ZoneFile

IDLE = 30.0
"""Seconds after which a silent TCP connection is closed."""
Say = Callable[[str], None]


class Server:
    """Answers from a zone with faults. ``df``: DF on every datagram, whatever path MTU the kernel has learned."""

    def __init__(
        self, zone: ZoneFile, faults: Faults, *, df: bool = False, say: Say = lambda _: None
    ) -> None:
        self.zone = zone
        self.faults = faults
        self.df = df
        self.say = say
        self.bound: list[tuple[str, int]] = []
        self._closers: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, addresses: Iterable[tuple[socket.AddressFamily, tuple[str, int]]]) -> None:
        """Listens. Raises :class:`OSError` where an address cannot be had. Port 0 is any free one, for both."""
        loop = asyncio.get_running_loop()
        for family, (host, port) in addresses:
            # IP_PMTUDISC_PROBE: DF, and no regard for what a frag-needed has taught (ip(7)).
            udp = udp_socket(family, "probe" if self.df else "dont")
            tcp = socket.socket(family, socket.SOCK_STREAM)
            self._closers += [udp.close, tcp.close]
            if family == socket.AF_INET6:
                tcp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tcp.bind((host, port))
                udp.bind((host, tcp.getsockname()[1]))
            except OSError as error:
                raise OSError(error.errno, f"{shown((host, port))}: {error.strerror}") from None
            tcp.listen(128)
            for made in (udp, tcp):
                made.setblocking(False)
            self.bound.append(tcp.getsockname()[:2])
            transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=udp)
            server = await asyncio.start_server(self._converse, sock=tcp)
            self._closers += [transport.close, server.close]

    def close(self) -> None:
        for close in reversed(self._closers):
            close()
        for task in list(self._tasks):
            task.cancel()

    async def handle(self, data: bytes, peer: tuple[str, int], transport: str) -> bytes | None:
        """The octets to send back, after the delay; None where nothing is sent."""
        started = time.monotonic()
        try:
            query = dns.message.from_wire(data, one_rr_per_rrset=True)
        except (dns.exception.DNSException, ValueError):
            self.say(f"[ERROR] {shown(peer)}: no DNS message ({len(data)} octets)")
            return None
        if query.flags & dns.flags.QR:
            return None
        out, reply = None, None
        if not (transport == "udp" and self.faults.drops(peer[0], query)):
            reply = self.zone.answer(query)
            out = self.faults.wire(query, reply, transport)
            if self.faults.delay:
                await asyncio.sleep(self.faults.delay)
        self.say(_line(query, reply, data, out, peer, transport, time.monotonic() - started))
        return out

    def spawn(self, data: bytes, peer: tuple[str, int], send: Callable[[bytes], None]) -> None:
        async def work() -> None:
            if (out := await self.handle(data, peer, "udp")) is not None:
                send(out)

        task = asyncio.get_running_loop().create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")[:2]
        framer = Framer()
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            while piece := await asyncio.wait_for(reader.read(65536), IDLE):
                for data in framer.feed(piece):
                    if (out := await self.handle(data, peer, "tcp")) is not None:
                        writer.write(frame(out))
                await writer.drain()
        writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: Server) -> None:
        self.server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.server.spawn(data, addr[:2], lambda out: self.transport.sendto(out, addr))

    def error_received(self, exc: Exception) -> None:
        # EMSGSIZE: larger than the device takes with DF set.
        self.server.say(f"[ERROR] no answer sent: {exc}")


def _line(
    query: dns.message.Message,
    reply: dns.message.Message | None,
    data: bytes,
    out: bytes | None,
    peer: tuple[str, int],
    transport: str,
    seconds: float,
) -> str:
    asked = query.question[0] if query.question else None
    name = asked.name.to_text().lower() if asked is not None else "."
    kind = dns.rdatatype.to_text(asked.rdtype) if asked is not None else "TYPE0"
    klass = dns.rdataclass.to_text(asked.rdclass) if asked is not None else "IN"
    do = "true" if query.ednsflags & dns.flags.DO else "false"
    limit = max(512, query.payload) if query.edns >= 0 else 512
    if transport == "tcp":
        limit = 65535
    head = f'[INFO] {shown(peer)} - {query.id} "{kind} {klass} {name} {transport} {len(data)} {do} {limit}"'
    if out is None or reply is None:
        return f"{head} - - 0 {seconds:.9f}s"
    bits = (("qr", 0x8000), ("aa", 0x0400), ("tc", 0x0200), ("rd", 0x0100), ("ra", 0x0080))
    flags = ",".join(word for word, bit in bits if int.from_bytes(out[2:4], "big") & bit)
    return f"{head} {dns.rcode.to_text(reply.rcode())} {flags} {len(out)} {seconds:.9f}s"
