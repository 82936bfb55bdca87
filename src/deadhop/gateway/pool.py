"""Connections to one upstream: the last used first, at most so many at one time.

A server may close an idle connection while a request is on its way to it. A request that may be repeated is (once, on a
connection of its own); one that may not only gets a connection that was in use a moment ago.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from time import monotonic

from deadhop.gateway.config import Config, Upstream
from deadhop.gateway.upstream import UpstreamConnection

#: Seconds after which an idle connection is closed here: below the 60 s of nginx and Envoy's hour; Node has 5 s.
IDLE = 55.0
#: Seconds for which an idle connection is taken to be open still by a request that must not be sent twice.
FRESH = 1.0
#: Methods that may be sent again (RFC 9110 §9.2.2).
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})


class Unavailable(Exception):
    """No connection: ``reason`` is ``connect-refused``, ``connect-timeout``, ``unresolved``, ``tls`` or ``overflow``;
    ``detail`` is the system's own text."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class Pool:
    """The connections to one upstream."""

    def __init__(self, name: str, upstream: Upstream, config: Config) -> None:
        self.name, self.upstream = name, upstream
        self.address, self.tls = upstream.address, upstream.tls
        self.connects = self.reuses = 0
        self._config = config
        self._idle: deque[UpstreamConnection] = deque()
        self._places = asyncio.Semaphore(upstream.connections)
        self._tls = self._context() if upstream.tls else None

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.upstream.ca) if self.upstream.ca else None)
        context.set_alpn_protocols(["http/1.1"])
        return context

    @property
    def idle(self) -> int:
        return len(self._idle)

    async def take(self, method: bytes, fresh: bool = False) -> tuple[UpstreamConnection, bool]:
        """A connection, and whether it was used before. ``fresh`` asks for a new one. Raises :class:`Unavailable`."""
        wait = self._config.timeouts.connect
        if self._places.locked():
            try:
                await asyncio.wait_for(self._places.acquire(), wait)
            except TimeoutError:
                raise Unavailable("overflow", f"{self.upstream.connections} connections are in use") from None
        else:
            await self._places.acquire()
        try:
            if not fresh and (found := self._find(method)):
                self.reuses += 1
                return found, True
            self.connects += 1
            return await self._connect(wait), False
        except BaseException:
            self._places.release()
            raise

    def _find(self, method: bytes) -> UpstreamConnection | None:
        now = monotonic()
        while self._idle:
            found = self._idle[-1]
            if not found.open or found.transport.is_closing():
                self._idle.pop()
                continue
            if method not in IDEMPOTENT and now - found.idle_since > FRESH:
                return None
            return self._idle.pop()
        return None

    async def _connect(self, wait: float) -> UpstreamConnection:
        host, port = self.address
        limits = self._config.limits
        loop = asyncio.get_running_loop()
        try:
            _, made = await asyncio.wait_for(
                loop.create_connection(
                    lambda: UpstreamConnection(limits.head, limits.fields),
                    host,
                    port,
                    ssl=self._tls,
                    server_hostname=host if self._tls else None,
                ),
                wait,
            )
        except TimeoutError:
            raise Unavailable("connect-timeout", f"{host}:{port} did not answer within {wait:g} s") from None
        except ssl.SSLError as error:
            raise Unavailable("tls", str(error)) from None
        except OSError as error:
            unresolved = type(error).__name__ == "gaierror"
            raise Unavailable("unresolved" if unresolved else "connect-refused", str(error)) from None
        return made

    def give(self, connection: UpstreamConnection, whole: bool) -> None:
        """The end of an exchange: keep the connection where it is fit and request and response were ``whole``."""
        self._places.release()
        if connection.release() and whole:
            self._idle.append(connection)
        elif connection.tunnel:
            connection.transport.close()
        elif not connection.transport.is_closing():
            connection.transport.abort()

    def sweep(self, now: float) -> None:
        """Close what is idle too long."""
        while self._idle and now - self._idle[0].idle_since > IDLE:
            self._idle.popleft().transport.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().transport.close()
