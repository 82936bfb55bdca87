"""One connection to an upstream: bytes to response events, for one exchange at a time.

Whatever an upstream sends without being asked (bytes on an idle connection, a second response behind the first) makes
the connection unfit to be used again: it would be the next client's answer.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Protocol as Interface
from typing import cast

import httptools

from deadhop.gateway.outbound import Fields

#: Interim responses (103 Early Hints) in front of one final response; no server has use for more.
MOST_INTERIM = 8


class Receiver(Interface):
    """What a connection tells its exchange."""

    method: bytes

    def response_head(self, status: int, fields: Fields, framing: str) -> None: ...
    def response_body(self, data: bytes) -> None: ...
    def response_end(self) -> None: ...
    def response_pause(self) -> None: ...
    def switched(self, rest: bytes) -> None: ...
    def tunnelled(self, data: bytes) -> None: ...
    def failed(self, reason: str) -> None: ...
    def upstream_writable(self, yes: bool) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """``framing`` of a response: ``none``, ``length``, ``chunked``, ``close`` (until the connection's end)."""

    def __init__(self, head_limit: int, field_limit: int) -> None:
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.exchange: Receiver | None = None
        self.address = ""
        self.served = 0
        self.idle_since = 0.0
        self.touched = 0.0
        self.open = False
        self.tunnel = False
        self._limits = (head_limit, field_limit)
        self._parser = httptools.HttpResponseParser(self)
        self._begin()

    def _begin(self) -> None:
        self._fields: Fields = []
        self._size = 0
        self._in_head = True
        self._framing = ""
        self._finished = False
        self._dirty = False
        self._interim = 0
        self._keep = False
        self._bodiless = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.open = True
        peer = transport.get_extra_info("peername")
        self.address = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""

    def send(self, exchange: Receiver, data: bytes) -> None:
        """Begin an exchange with the request's first octets."""
        self._begin()
        self.exchange = exchange
        self.served += 1
        self.touched = monotonic()
        self.transport.write(data)

    def release(self) -> bool:
        """The exchange is over: may the connection serve another?"""
        self.exchange = None
        fit = self.open and self._finished and self._keep and not self._dirty and not self.tunnel
        fit = fit and not self.transport.is_closing()
        if fit:
            self.idle_since = monotonic()
            self.transport.resume_reading()
        return fit

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        self.touched = monotonic()
        if exchange is None:
            self._dirty = True
            self.transport.abort()
            return
        if self.tunnel:
            exchange.tunnelled(data)
            return
        if self._finished:
            self._dirty = True
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as at:
            self.tunnel = True
            exchange.switched(data[at.args[0] :])
            return
        except httptools.HttpParserError:
            if not self._finished:
                exchange.failed("bad-response")
                return
            self._dirty = True
        if self._bodiless:
            # The answer to HEAD announces a body that does not come, and llhttp cannot be told so.
            self._parser = httptools.HttpResponseParser(self)
            self._dirty = self._dirty or not data.endswith(b"\r\n\r\n")
        if self._finished:
            exchange.response_end()
        else:
            exchange.response_pause()

    def on_message_begin(self) -> None:
        if self._finished:
            self._dirty = True
            raise ValueError("a response that nobody asked for")
        self._fields = []
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return
        self._size += len(name) + len(value) + 4
        if self._size > self._limits[0] or len(self._fields) >= self._limits[1]:
            raise ValueError("the response's head is too large")
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        exchange = self.exchange
        assert exchange is not None
        status = self._parser.get_status_code()
        self._in_head = False
        if 100 <= status < 200 and status != 101:
            self._interim += 1
            if self._interim > MOST_INTERIM:
                raise ValueError("too many interim responses")
            exchange.response_head(status, self._fields, "none")
            return
        self._keep = self._parser.should_keep_alive()
        self._bodiless = exchange.method == b"HEAD"
        self._framing = self._frame(status)
        self._finished = self._bodiless
        exchange.response_head(status, self._fields, self._framing)

    def _frame(self, status: int) -> str:
        codings = [v.lower() for n, v in self._fields if n == b"transfer-encoding"]
        lengths = [v for n, v in self._fields if n == b"content-length"]
        if codings not in ([], [b"chunked"]) or len(lengths) > 1 or (codings and lengths):
            raise ValueError("the response's framing has two readings")
        if self._bodiless or status in (101, 204, 304):
            return "none"
        return "chunked" if codings else "length" if lengths else "close"

    def on_body(self, data: bytes) -> None:
        if self._bodiless:
            self._dirty = True
        elif self.exchange is not None:
            self.exchange.response_body(data)

    def on_message_complete(self) -> None:
        if self._in_head or (self._framing == "" and not self._bodiless):
            return  # an interim response: the final one follows
        self._finished = True

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        if self._framing == "close" and error is None and not self._finished:
            self._finished = True
            exchange.response_end()
        elif self.tunnel or not self._finished:
            exchange.failed("upstream-reset" if error else "upstream-closed")

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.upstream_writable(False)

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.upstream_writable(True)
