"""DNS over TCP: each redirected connection has a connection of its own to the server, from the pod's address.

Limits are those of Cilium's DNS library where it has them: 128 queries to a connection, two seconds for a message
that has begun, eight seconds of silence. The number of connections, of one endpoint's connections and of octets that
wait to be written is bounded as well; beyond them a connection is closed.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter

from deadhop.agent.loop import READ, WRITE
from deadhop.agent.pending import Pending
from deadhop.agent.proxy import Allowed, Proxy, Refusal
from deadhop.agent.sockets import Address, upstream
from deadhop.wire.framing import Framer, frame

QUERIES = 128
READ_SECONDS = 2.0
IDLE_SECONDS = 8.0
CONNECTIONS = 2048
CONNECTIONS_OF_ENDPOINT = 512
UNSENT_OCTETS = 256 << 10
_PIECE = 65_536


class _Stream:
    """One end of a connection: what waits to be written, and messages out of what is read."""

    def __init__(self, proxy: Proxy, sock: socket.socket) -> None:
        self.loop = proxy.loop
        self.sock = sock
        self.fd = sock.fileno()
        self.framer = Framer()
        self.unsent = bytearray()
        self.open = True

    def write(self, message: bytes) -> None:
        """Raises ``OSError``, also where too much waits."""
        self.unsent += frame(message)
        if len(self.unsent) > UNSENT_OCTETS:
            raise OSError("the peer does not read")
        self.flush()

    def flush(self) -> None:
        try:
            while self.unsent:
                del self.unsent[: self.sock.send(self.unsent)]
        except (BlockingIOError, InterruptedError):
            pass
        self.loop.events(self.fd, READ | WRITE if self.unsent else READ)

    def read(self) -> list[bytes] | None:
        """The messages that arrived; None at the end of the stream. Raises ``OSError``."""
        try:
            piece = self.sock.recv(_PIECE)
        except (BlockingIOError, InterruptedError):
            return []
        return self.framer.feed(piece) if piece else None

    def close(self) -> None:
        if self.open:
            self.open = False
            self.loop.remove(self.fd)
            self.sock.close()


class _Session:
    """One client's connection with the connection to its server."""

    def __init__(self, owner: TcpProxy, sock: socket.socket, client: Address, server: Address) -> None:
        self.owner = owner
        self.proxy = owner.proxy
        self.client = client
        self.server = server
        self.place = f"TCP {server[0]} {server[1]}".encode()
        self.down = _Stream(owner.proxy, sock)
        self.up: _Stream | None = None
        self.connected = False
        self.pending = Pending(owner.proxy)
        self.queries = 0
        self.last = time.monotonic()
        self.began: float | None = None
        self.proxy.loop.add(self.down.fd, self._from_client)

    def _from_client(self, events: int) -> None:
        try:
            if events & WRITE:
                self.down.flush()
            if events & ~WRITE:
                messages = self.down.read()
                if messages is None:
                    self.close()  # closing towards the server follows the client, since 1.17
                    return
                self.last = time.monotonic()
                self.began = (self.began or self.last) if self.down.framer.pending else None
                for message in messages:
                    self._query(message)
                    if not self.down.open:
                        return
        except OSError:
            self.close()

    def _query(self, data: bytes) -> None:
        self.queries += 1
        if self.queries > QUERIES:
            self.proxy.stats.count["tcp_limited"] += 1
            self.close()
            return
        judged = self.proxy.judge(data, self.client, self.place, self.server, "TCP")
        if isinstance(judged, Refusal):
            self._reply(judged.reply)
            return
        self.proxy.begin(
            judged.endpoint.id, data, lambda: self._forward(judged, data), lambda reply: self._reply(reply)
        )

    def _reply(self, data: bytes) -> None:
        if data and self.down.open:
            try:
                self.down.write(data)
            except (OSError, ValueError):
                self.close()

    def _forward(self, allowed: Allowed, data: bytes) -> None:
        if not self.down.open:
            self.proxy.ended(allowed.endpoint.id)
            return
        ident = self.pending.fresh()
        self.pending[ident] = allowed, self.client, data[:2], time.monotonic()
        try:
            if self.up is None:
                self._connect()
            assert self.up is not None
            if self.connected:
                self.up.write(ident + data[2:])
            else:
                self.up.unsent += frame(ident + data[2:])
        except OSError:
            self._lost()
            return
        self.proxy.stats.count["forwarded"] += 1

    def _connect(self) -> None:
        owner = self.owner
        source = self.client[0] if owner.transparent else None
        sock = upstream(source, self.server, tcp=True, linger=owner.linger)
        self.up = _Stream(self.proxy, sock)
        self.connected = False
        self.proxy.loop.add(self.up.fd, self._from_server, READ | WRITE)

    def _from_server(self, events: int) -> None:
        up = self.up
        if up is None:
            return
        try:
            if not self.connected:
                number = up.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number:
                    raise OSError(number, os.strerror(number))
                self.connected = True
            if events & WRITE:
                up.flush()
            if events & ~WRITE:
                messages = up.read()
                if messages is None:
                    self._lost()
                    return
                self.last = time.monotonic()
                for message in messages:
                    self._answer(message)
        except OSError:
            self._lost()

    def _answer(self, data: bytes) -> None:
        asked = self.pending.answered(data)
        if asked is None:
            return
        allowed, _, ident, _ = asked

        def release(body: bytes) -> None:
            if body:
                self._reply(ident + body)

        if self.proxy.repeated(allowed, self.client, "TCP", data):
            release(data[2:])
        else:
            self.proxy.answer(allowed, self.client, "TCP", data, release)

    def _lost(self) -> None:
        """The server's connection is gone: what was asked through it has failed."""
        if self.up is not None:
            self.up.close()
            self.up = None
        for _, reply in self.pending.lost():
            self._reply(reply)

    def sweep(self, now: float) -> None:
        """End what is too slow or silent, give up what is overdue."""
        self.pending.overdue(now)
        slow = self.began is not None and now - self.began > READ_SECONDS
        if slow or (not self.pending and now - self.last > IDLE_SECONDS):
            self.close()

    def close(self) -> None:
        if not self.down.open:
            return
        self.down.close()
        if self.up is not None:
            self.up.close()
            self.up = None
        self.pending.abandon()
        self.owner.closed(self)


class TcpProxy:
    """Accepts redirected connections on ``listeners``."""

    def __init__(
        self, proxy: Proxy, listeners: list[socket.socket], *, transparent: bool, linger: int | None
    ) -> None:
        self.proxy = proxy
        self.transparent = transparent
        self.linger = linger
        self.sessions: set[_Session] = set()
        self._of_client: Counter[str] = Counter()
        for sock in listeners:
            proxy.loop.add(sock.fileno(), lambda _events, sock=sock: self._accept(sock))  # type: ignore[misc]
        proxy.loop.every(0.5, self._sweep)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(32):
            try:
                sock, client = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # gone again, or no descriptors left
                self.proxy.stats.count["tcp_limited"] += 1
                return
            ip = client[0]
            if len(self.sessions) >= CONNECTIONS or self._of_client[ip] >= CONNECTIONS_OF_ENDPOINT:
                self.proxy.stats.count["tcp_limited"] += 1
                sock.close()
                continue
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Behind TPROXY the socket's own address is the server that the client wanted.
            server = sock.getsockname()
            self._of_client[ip] += 1
            self.sessions.add(_Session(self, sock, (ip, client[1]), (server[0], server[1])))

    def closed(self, session: _Session) -> None:
        self.sessions.discard(session)
        ip = session.client[0]
        self._of_client[ip] -= 1
        if self._of_client[ip] <= 0:
            del self._of_client[ip]

    def _sweep(self) -> None:
        now = time.monotonic()
        for session in list(self.sessions):
            session.sweep(now)
