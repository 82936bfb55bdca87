"""DNS over UDP: the redirected listeners, and sockets towards the servers with the pods' addresses.

A socket towards a server is connected, so the kernel itself drops what others send to it, and it is replaced after a
while, so that its port does not stay the same: a forger has to guess port and id.
"""

from __future__ import annotations

import socket
import struct
import time
from collections import OrderedDict

from deadhop.agent.pending import Pending
from deadhop.agent.proxy import Allowed, Proxy, Refusal, Release
from deadhop.agent.sockets import (
    ANCILLARY,
    Address,
    Answers,
    original_destination,
    upstream,
)
from deadhop.fqdn.admission import Failure

BATCH = 64
"""Datagrams taken from one socket before the others have their turn."""
QUERY_OCTETS = 4096
ANSWER_OCTETS = 65_535
SOCKET_SECONDS = 30.0
SOCKETS = 4096
PENDING = 1 << 14
"""Queries under way on one socket: an id has to be free, and to be guessed."""


class _Upstream:
    """One socket towards one server for one pod, and what was asked through it."""

    __slots__ = ("born", "key", "pending", "retired", "sock")

    def __init__(self, key: tuple[str, Address], sock: socket.socket, now: float, pending: Pending) -> None:
        self.key = key
        self.sock = sock
        self.born = now
        self.retired = False
        self.pending = pending


class UdpProxy:
    """Takes queries from ``listeners`` and answers through ``answers``."""

    def __init__(
        self, proxy: Proxy, listeners: list[socket.socket], answers: Answers, *, transparent: bool
    ) -> None:
        self.proxy = proxy
        self.loop = proxy.loop
        self.answers = answers
        self.transparent = transparent
        self._servers: dict[bytes, Address] = {}
        self._upstreams: OrderedDict[tuple[str, Address], _Upstream] = OrderedDict()
        self._open: set[_Upstream] = set()
        for sock in listeners:
            self.loop.add(sock.fileno(), lambda _events, sock=sock: self._queries(sock))  # type: ignore[misc]
        self.loop.every(1.0, self._sweep)

    def _queries(self, sock: socket.socket) -> None:
        receive, proxy = sock.recvmsg, self.proxy
        for _ in range(BATCH):
            try:
                data, ancillary, _flags, peer = receive(QUERY_OCTETS, ANCILLARY)
            except (BlockingIOError, InterruptedError):
                return
            client = peer[:2]
            place = ancillary[0][2] if ancillary else b""
            server = self._servers.get(place)
            if server is None:
                try:
                    server = original_destination(place)
                except (struct.error, ValueError):
                    continue
                if len(self._servers) > SOCKETS:
                    self._servers.clear()
                self._servers[place] = server
            judged = proxy.judge(data, client, place, server, "UDP")
            if isinstance(judged, Refusal):
                self._reply(judged.reply, server, client)
            elif proxy.takes(judged.endpoint.id):
                self._forward(judged, data, client)
            else:
                self._wait(judged, data, client, server)

    def _wait(self, judged: Allowed, data: bytes, client: Address, server: Address) -> None:
        self.proxy.begin(
            judged.endpoint.id,
            data,
            lambda: self._forward(judged, data, client),
            lambda reply: self._reply(reply, server, client),
        )

    def _reply(self, data: bytes, server: Address, client: Address) -> None:
        if data:
            try:
                self.answers.send(data, server, client)
            except OSError:
                self.proxy.stats.count["unsent"] += 1

    def _forward(self, allowed: Allowed, data: bytes, client: Address) -> None:
        now = time.monotonic()
        try:
            up = self._upstreams.get((client[0], allowed.server))
            if up is None or len(up.pending) >= PENDING:
                up = self._upstream(client[0], allowed.server, now)
            ident = up.pending.fresh()
            up.sock.send(ident + data[2:])
        except OSError:
            self.proxy.ended(allowed.endpoint.id)
            reply = self.proxy.failed(data, Failure.UPSTREAM_ERROR, "upstream_errors")
            self._reply(reply, allowed.server, client)
            return
        up.pending[ident] = allowed, client, data[:2], now
        self.proxy.stats.count["forwarded"] += 1

    def _upstream(self, pod: str, server: Address, now: float) -> _Upstream:
        """A fresh socket, in place of one that has been used enough."""
        key = pod, server
        up = self._upstreams.get(key)
        if up is not None:
            self._retire(up)
        elif len(self._upstreams) >= SOCKETS:
            self._retire(next(iter(self._upstreams.values())))
        sock = upstream(pod if self.transparent else None, server, tcp=False)
        up = self._upstreams[key] = _Upstream(key, sock, now, Pending(self.proxy))
        self._open.add(up)
        self.loop.add(sock.fileno(), lambda _events: self._answers(up))
        return up

    def _retire(self, up: _Upstream) -> None:
        """No new queries; it closes when its last answer is there or overdue."""
        up.retired = True
        if self._upstreams.get(up.key) is up:
            del self._upstreams[up.key]
        if not up.pending:
            self._close(up)

    def _close(self, up: _Upstream) -> None:
        if up in self._open:
            self._open.discard(up)
            self.loop.remove(up.sock.fileno())
            up.sock.close()

    def _answers(self, up: _Upstream) -> None:
        receive, answered, proxy = up.sock.recv, up.pending.answered, self.proxy
        for _ in range(BATCH):
            try:
                data = receive(ANSWER_OCTETS)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # ICMP: nobody listens at the server's port, or it cannot be reached
                self._unreachable(up)
                break
            asked = answered(data)
            if asked is None:
                continue
            allowed, client, ident, _ = asked
            if proxy.repeated(allowed, client, "UDP", data):
                self._reply(ident + data[2:], allowed.server, client)
            else:
                proxy.answer(allowed, client, "UDP", data, self._releaser(allowed, client, ident))
        if up.retired and not up.pending:
            self._close(up)

    def _releaser(self, allowed: Allowed, client: Address, ident: bytes) -> Release:
        def release(body: bytes) -> None:
            if body:
                self._reply(ident + body, allowed.server, client)

        return release

    def _unreachable(self, up: _Upstream) -> None:
        for asked, reply in up.pending.lost():
            self._reply(reply, asked[0].server, asked[1])

    def _sweep(self) -> None:
        """Give up what is overdue, and sockets that are old."""
        now = time.monotonic()
        for up in list(self._open):
            up.pending.overdue(now)
            if up.retired and not up.pending:
                self._close(up)
            elif not up.retired and now - up.born > SOCKET_SECONDS:
                self._retire(up)
