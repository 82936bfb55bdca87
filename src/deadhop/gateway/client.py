"""One connection of a client: bytes to requests, one exchange after the other, in order.

Pipelined requests wait their turn. What is refused is answered in its turn too, and ends the connection, as nobody can say
where the next request would begin (RFC 9112 §9.6).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, cast

import httptools

from deadhop.gateway.exchange import REASONS, Exchange
from deadhop.gateway.inbound import Head, Refused, check
from deadhop.gateway.outbound import Fields, Sender, written

if TYPE_CHECKING:
    from deadhop.gateway.server import Gateway

#: Octets of a request's body that may come before its upstream is there.
EARLY = 65536
#: Requests of one connection that may wait behind the one being served.
WAITING = 16
#: Seconds for a refused client to read the refusal before the connection goes.
LINGER = 2.0


class Request:
    """A request as it arrives; ``head`` once its head is whole and good, ``refused`` where it is not."""

    __slots__ = ("_early", "chunked", "complete", "fields", "head", "length", "method", "refused", "sink", "size", "started", "target", "unread", "upgrade", "version")  # fmt: skip

    def __init__(self, started: float) -> None:
        self.method = self.target = self.upgrade = b""
        self.version = "1.1"
        self.fields: Fields = []
        self.size = self.unread = 0
        self.head: Head | None = None
        self.refused: Refused | None = None
        self.chunked = self.complete = False
        self.length: int | None = None
        self.sink: Exchange | None = None
        self.started = started
        self._early: list[bytes] = []

    def take(self) -> bytes:
        """What came of the body until now."""
        early, self._early = self._early, []
        return b"".join(early)

    def body(self, data: bytes) -> bool:
        """Take octets of the body; False where the reader should wait."""
        if self.sink is not None:
            self.sink.request_body(data)
            return True
        self._early.append(data)
        return sum(map(len, self._early)) < EARLY


class ClientConnection(asyncio.Protocol):
    """The client's side. The task of :meth:`_serve` lives as long as the connection."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self.gateway, self.loop = gateway, gateway.loop
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.exchange: Exchange | None = None
        self.sender = Sender("", False, "http", port)
        self.touched = monotonic()
        self.lost = False
        self._parser = httptools.HttpRequestParser(self)
        self._request: Request | None = None
        self._queue: deque[Request] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self._holds: set[str] = set()
        self._held: bytes | None = None
        self._tunnel = self._deaf = False
        self._head_since: float | None = self.touched
        self._closing_since: float | None = None
        self._task: asyncio.Task[None] | None = None

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        address = str(peer[0]).partition("%")[0] if isinstance(peer, tuple) and peer else ""
        scheme = "https" if transport.get_extra_info("ssl_object") else "http"
        self.sender = Sender(address, self.gateway.trusts(address), scheme, self.sender.port)
        if not self.gateway.admit(self):
            self._closing_since = self.touched
            self._deaf = True
            self.reply(503, b"too many connections\n", close=True)
            return
        self._task = self.loop.create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self.touched = monotonic()
        if self._deaf:
            return
        if self._tunnel:
            if self.exchange is not None:
                self.exchange.sent += len(data)
                self.exchange.upstream.transport.write(data)
            return
        if self._held is not None:
            self._held += data
            return
        if self._head_since is None and self._request is None:
            self._head_since = self.touched
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        waiting = self._request if self._request is not None and self._request.head is None else None
        size = len(data)
        while data:
            try:
                self._parser.feed_data(data)
                data = b""
            except httptools.HttpParserUpgrade as at:
                data = data[at.args[0] :]
                self._parser = httptools.HttpRequestParser(self)
                if self._queue and self._queue[-1].upgrade:
                    self._held = data
                    self.hold("upgrade", True)
                    return
            except httptools.HttpParserError:
                self._refuse(Refused(400, "malformed"))
                return
            if self._deaf:
                return
        if waiting is not None and waiting is self._request and waiting.head is None:
            # A field that does not end is in llhttp's hands until it does: its octets count as they come.
            waiting.unread += size
            if waiting.unread > self.gateway.config.limits.head:
                self._refuse(Refused(431, "head-too-large"))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self.lost = True
        self.gateway.forget(self)
        if self.exchange is not None:
            self.exchange.failed("switched" if self._tunnel else "client-gone")
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.client_writable(False)

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.client_writable(True)

    # The parser's side.

    def on_message_begin(self) -> None:
        self._request = Request(monotonic())
        if self._head_since is None:
            self._head_since = self.touched

    def on_url(self, part: bytes) -> None:
        assert self._request is not None
        self._request.target += part
        self._grow(self._request, len(part))

    def _grow(self, request: Request, more: int) -> None:
        request.size += more
        if request.size > self.gateway.config.limits.head:
            request.refused = Refused(431, "head-too-large")
            raise request.refused

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._request
        assert request is not None
        if request.head is not None:
            return  # a trailer field: RFC 9110 §6.5.1 lets a recipient drop it, and merging it would be a trap
        self._grow(request, len(name) + len(value) + 4)
        request.fields.append((name.lower(), value))
        if len(request.fields) > self.gateway.config.limits.fields:
            request.refused = Refused(431, "too-many-fields")
            raise request.refused

    def on_headers_complete(self) -> None:
        request = self._request
        assert request is not None
        request.method = self._parser.get_method()
        request.version = self._parser.get_http_version()
        wanted = next((v for n, v in request.fields if n == b"upgrade"), b"")
        websocket = (
            self._parser.should_upgrade()
            and wanted.lower() == b"websocket"
            and request.method == b"GET"
            and request.version == "1.1"
        )
        try:
            head = check(request.method, request.target, request.version, request.fields, websocket)
            if websocket and (head.chunked or head.length):
                raise Refused(400, "upgrade-with-body")
        except Refused as refusal:
            request.refused = refusal
            raise
        request.head, request.chunked, request.length = head, head.chunked, head.length
        request.upgrade = head.upgrade
        self._head_since = None
        self._arrived(request)

    def on_body(self, data: bytes) -> None:
        assert self._request is not None
        if not self._request.body(data):
            self.hold("body", True)

    def on_message_complete(self) -> None:
        request = self._request
        assert request is not None
        request.complete = True
        self._request = None
        if request.sink is not None:
            request.sink.request_end()

    def _refuse(self, refusal: Refused) -> None:
        """Nothing behind this point can be told apart: the refusal takes its place in the queue, the rest is unread."""
        request = self._request or Request(monotonic())
        refused = request.refused or refusal
        self._deaf = True
        self._head_since = None
        if request.head is not None and request.refused is None:
            # The head was good and is being served; its body is not.
            request.refused = refusal
            if request.sink is not None:
                request.sink.failed("malformed-body")
            return
        request.refused = refused
        self._arrived(request)

    def _arrived(self, request: Request) -> None:
        self._queue.append(request)
        if len(self._queue) >= WAITING:
            self.hold("queue", True)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def hold(self, why: str, yes: bool) -> None:
        """Stop reading for a reason, or go on when the last one is gone."""
        before = bool(self._holds)
        (self._holds.add if yes else self._holds.discard)(why)
        if before != bool(self._holds) and not self.lost and not self.transport.is_closing():
            (self.transport.pause_reading if self._holds else self.transport.resume_reading)()

    # Serving.

    async def _serve(self) -> None:
        try:
            while not self.lost:
                if not self._queue:
                    if self.gateway.draining or self._deaf:
                        break
                    self._arrival = self.loop.create_future()
                    await self._arrival
                    continue
                request = self._queue.popleft()
                if "queue" in self._holds and len(self._queue) < WAITING // 2:
                    self.hold("queue", False)
                if not await self.gateway.handle(self, request):
                    break
                self._resume_parsing()
            if not self.lost:
                self.close()
        except Exception as error:  # a defect here must not leave a client hanging
            self.gateway.complain(f"internal error: {type(error).__name__}: {error}", error)
            self.transport.abort()

    def _resume_parsing(self) -> None:
        """After an upgrade that the upstream did not make: what was held is the next request."""
        if self._held is not None:
            held, self._held = self._held, None
            self.hold("upgrade", False)
            if held:
                self._feed(held)

    def body_taken(self) -> None:
        """The early octets of a body are on their way."""
        self.hold("body", False)

    def begin_tunnel(self) -> bytes:
        """From here on octets are not parsed; what was read past the request is the tunnel's."""
        self._tunnel = True
        held, self._held = self._held or b"", None
        self.hold("upgrade", False)
        return held

    def keeps(self, request: Request) -> bool:
        """Can the connection carry another request behind this one?"""
        if self.gateway.draining or (self._deaf and not self._queue) or not request.complete:
            return False
        said = b",".join(v for n, v in request.fields if n == b"connection").lower()
        tokens = [t.strip() for t in said.split(b",")]
        return b"close" not in tokens if request.version == "1.1" else b"keep-alive" in tokens

    def write(self, parts: list[bytes]) -> None:
        if not self.lost:
            self.transport.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def reply(
        self,
        status: int,
        body: bytes,
        fields: Iterable[tuple[bytes, bytes]] = (),
        *,
        close: bool,
        method: bytes = b"",
        version: str = "1.1",
    ) -> None:
        """An answer of the gateway's own."""
        out = [(b"Content-Type", b"text/plain; charset=utf-8"), *fields]
        out += [(b"Content-Length", str(len(body)).encode()), (b"Cache-Control", b"no-store")]
        if close:
            out.append((b"Connection", b"close"))
        elif version == "1.0":
            out.append((b"Connection", b"keep-alive"))
        head = written(b"HTTP/1.1" + REASONS[status], out)
        self.write([head, b"" if method == b"HEAD" else body])

    def close(self) -> None:
        """Flush and go. A client that may still be sending gets its answer before the reset that close() would be
        (RFC 9112 §9.6)."""
        self._deaf = True
        self._closing_since = monotonic()
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof() and self._holds != {"upgrade"}:
            self._holds.clear()
            self.transport.write_eof()
            self.transport.resume_reading()
        else:
            self.transport.close()

    def end(self) -> None:
        """Drain: an idle connection goes now."""
        if self.exchange is None and not self._queue and self._request is None:
            self._deaf = True
            if self._arrival is not None and not self._arrival.done():
                self._arrival.set_result(None)

    def abort(self) -> None:
        if not self.lost:
            self.transport.abort()

    def sweep(self, now: float) -> None:
        """What takes too long ends."""
        times = self.gateway.config.timeouts
        if self._closing_since is not None:
            unsent = not self.lost and self.transport.get_write_buffer_size()
            if now - self._closing_since > (times.stream if unsent else LINGER):
                self.abort()
        elif self.exchange is not None:
            self.exchange.sweep(now, times.response, times.stream)
        elif self._queue:
            return
        elif self._head_since is not None:
            if now - self._head_since <= times.header:
                return
            if self._request is not None:
                self._refuse(Refused(408, "slow-head"))
            else:
                self.end()
        elif self._request is None and now - self.touched > times.idle:
            self.end()
