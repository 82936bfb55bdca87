"""One request and its response, octets passed on as they come, in both directions.

The two connections are coupled directly: what one side reads is written to the other at once, and where a side cannot
take more the other is not read. Nothing is collected.
"""

from __future__ import annotations

import asyncio
from http.client import responses
from time import monotonic
from typing import TYPE_CHECKING

from deadhop.gateway.outbound import Fields, response_fields, written
from deadhop.gateway.upstream import UpstreamConnection

if TYPE_CHECKING:
    from deadhop.gateway.client import ClientConnection, Request

REASONS = {status: f" {status} {text}".encode() for status, text in responses.items()}


class Exchange:
    """The receiver of an upstream's response, and the writer of a client's.

    ``done`` ends with ``ok``, ``switched`` (a tunnel that ended), or what went wrong. ``begun``: has the client got
    octets of the response?
    """

    def __init__(self, client: ClientConnection, request: Request, upstream: UpstreamConnection) -> None:
        self.client, self.request, self.upstream = client, request, upstream
        self.method = request.method
        self.done: asyncio.Future[str] = client.loop.create_future()
        self.begun = False
        self.status = 0
        self.keep = True
        self.sent = 0
        self.received = 0
        self.head_at = 0.0
        self.sent_at = 0.0
        self.tunnel = False
        self._out: list[bytes] = []
        self._chunked = False

    # The request.

    def start(self, head: bytes) -> None:
        """Send the head and what came of the body."""
        body = self.request.take()
        self.sent += len(body)
        self.upstream.send(self, head + self._coded(body))
        self.request.sink = self
        if self.request.complete:
            self.request_end()

    def _coded(self, data: bytes) -> bytes:
        if not data or not self.request.chunked:
            return data
        return b"%x\r\n%b\r\n" % (len(data), data)

    def request_body(self, data: bytes) -> None:
        self.sent += len(data)
        self.upstream.transport.write(self._coded(data))

    def request_end(self) -> None:
        if self.request.chunked:
            self.upstream.transport.write(b"0\r\n\r\n")
        self.sent_at = monotonic()

    # The response.

    def response_head(self, status: int, fields: Fields, framing: str) -> None:
        client, request = self.client, self.request
        if status < 200 and status != 101:
            if request.version == "1.1" and status in (100, 103):
                self._write(written(b"HTTP/1.1" + REASONS[status], response_fields(fields, False)))
            return
        if status == 101 and not request.upgrade:
            self.failed("unasked-upgrade")
            return
        self.status = status
        self.head_at = monotonic()
        self.keep = client.keeps(request) and status != 101
        out = response_fields(fields, status == 101)
        length = next((v for n, v in fields if n == b"content-length"), None)
        if framing in ("chunked", "close"):
            self._chunked = request.version == "1.1"
            self.keep = self.keep and self._chunked
            if self._chunked:
                out.append((b"Transfer-Encoding", b"chunked"))
        elif length is not None and status not in (101, 204):
            out.append((b"Content-Length", length))
        if status == 101:
            out.append((b"Connection", b"Upgrade"))
        elif not self.keep:
            out.append((b"Connection", b"close"))
        elif request.version == "1.0":
            out.append((b"Connection", b"keep-alive"))
        self._write(written(b"HTTP/1.1" + (REASONS.get(status) or b" %d " % status), out))

    def response_body(self, data: bytes) -> None:
        if self.done.done():
            return
        self.received += len(data)
        if self._chunked:
            self._out += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._out.append(data)

    def response_pause(self) -> None:
        """The upstream's octets are used up for now: what there is goes out."""
        if self._out:
            out, self._out = self._out, []
            self.begun = True
            self.client.write(out)

    def response_end(self) -> None:
        if self.done.done():
            return
        if self._chunked:
            self._out.append(b"0\r\n\r\n")
        self.response_pause()
        self._finish("ok")

    def _write(self, data: bytes) -> None:
        self._out.append(data)

    # Tunnels.

    def switched(self, rest: bytes) -> None:
        """101: from here on octets are octets."""
        if self.done.done():
            return
        self.response_pause()
        self.tunnel = True
        if held := self.client.begin_tunnel():
            self.sent += len(held)
            self.upstream.transport.write(held)
        if rest:
            self.tunnelled(rest)

    def tunnelled(self, data: bytes) -> None:
        self.received += len(data)
        self.client.write([data])

    # Ends.

    def failed(self, reason: str) -> None:
        if self.tunnel and reason in ("upstream-closed", "upstream-reset"):
            reason = "switched"
        self._finish(reason)

    def _finish(self, result: str) -> None:
        if not self.done.done():
            self.request.sink = None
            self.done.set_result(result)

    def upstream_writable(self, yes: bool) -> None:
        self.client.hold("upstream", not yes)

    def client_writable(self, yes: bool) -> None:
        if self.upstream.open and not self.upstream.transport.is_closing():
            if yes:
                self.upstream.transport.resume_reading()
            else:
                self.upstream.transport.pause_reading()

    def sweep(self, now: float, response: float, stream: float) -> None:
        """End what takes too long."""
        if self.done.done():
            return
        if not self.status and self.sent_at and now - max(self.sent_at, self.upstream.touched) > response:
            self._finish("response-timeout")
        elif now - max(self.client.touched, self.upstream.touched) > stream:
            self._finish("stream-timeout")
