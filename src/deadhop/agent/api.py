"""The agent's unix socket: one JSON request in a line, answers in lines. Root only, like ``cilium.sock``."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from deadhop.agent.loop import READ, WRITE, Loop
from deadhop.fqdn.clock import ZERO
from deadhop.fqdn.formats import CacheRow

REQUEST_OCTETS = 64 << 10
UNREAD_OCTETS = 16 << 20
"""A follower that does not read is disconnected before it takes more memory than this."""
CLIENTS = 64

Handler = Callable[[dict[str, Any], "Client"], None]
_encode = msgspec.json.Encoder().encode


def row_to_json(row: CacheRow) -> list[Any]:
    """A row of the cache in JSON, where Go's zero time is null."""
    times = [None if t == ZERO else t for t in (row.expiration, row.lookup)]
    return [row.endpoint, row.source, row.fqdn, row.ttl, times[0], list(row.ips), times[1]]


def row_from_json(item: Any) -> CacheRow:
    endpoint, source, fqdn, ttl, expiration, ips, lookup = item
    return CacheRow(
        endpoint=endpoint,
        source=source,
        fqdn=fqdn,
        ttl=ttl,
        expiration=ZERO if expiration is None else expiration,
        ips=tuple(ips),
        lookup=ZERO if lookup is None else lookup,
    )


class Client:
    """One connection. ``closed`` is called when it is gone."""

    def __init__(self, api: Api, sock: socket.socket) -> None:
        self._api = api
        self._sock = sock
        self._fd = sock.fileno()
        self._read = bytearray()
        self._unsent = bytearray()
        self._ending = False
        self.closed: Callable[[], None] | None = None
        api.loop.add(self._fd, self._ready)

    def _ready(self, events: int) -> None:
        try:
            if events & WRITE:
                self._flush()
            if events & ~WRITE:
                piece = self._sock.recv(65_536)
                if not piece:
                    self.close()
                    return
                self._read += piece
                if len(self._read) > REQUEST_OCTETS:
                    self.close()
                    return
                line, newline, rest = self._read.partition(b"\n")
                if newline:
                    self._read = rest
                    self._api.handle(bytes(line), self)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.close()

    def send(self, value: Any) -> None:
        """Send one line."""
        self._unsent += _encode(value) + b"\n"
        if len(self._unsent) > UNREAD_OCTETS and self.closed is not None:
            self.close()
            return
        try:
            self._flush()
        except OSError:
            self.close()

    def end(self) -> None:
        """Close when everything is sent."""
        self._ending = True
        try:
            self._flush()
        except OSError:
            self.close()

    def _flush(self) -> None:
        if self._fd < 0:
            return
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent[: 1 << 20])]
        except (BlockingIOError, InterruptedError):
            pass
        if not self._unsent and self._ending:
            self.close()
            return
        self._api.loop.events(self._fd, READ | WRITE if self._unsent else READ)

    def close(self) -> None:
        if self._fd >= 0:
            self._api.loop.remove(self._fd)
            self._sock.close()
            self._fd = -1
            self._api.clients.discard(self)
            if self.closed is not None:
                told, self.closed = self.closed, None
                told()


class Api:
    """Listens at ``path``. ``handlers`` by command."""

    def __init__(self, loop: Loop, path: Path, handlers: dict[str, Handler]) -> None:
        """Raises ``OSError``."""
        self.loop = loop
        self.path = path
        self.handlers = handlers
        self.clients: set[Client] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._sock = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        old = os.umask(0o177)
        try:
            self._sock.bind(str(path))
        finally:
            os.umask(old)
        self._sock.listen(16)
        loop.add(self._sock.fileno(), self._accept)

    def _accept(self, _events: int) -> None:
        try:
            sock, _ = self._sock.accept()
        except OSError:
            return
        if len(self.clients) >= CLIENTS:
            sock.close()
            return
        sock.setblocking(False)
        self.clients.add(Client(self, sock))

    def handle(self, line: bytes, client: Client) -> None:
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, msgspec.ValidationError):
            client.send({"error": "not a request"})
            client.end()
            return
        handler = self.handlers.get(str(request.get("cmd")))
        if handler is None:
            client.send({"error": f"unknown command {request.get('cmd')!r}"})
            client.end()
            return
        try:
            handler(request, client)
        except (ValueError, TypeError, KeyError) as error:
            client.send({"error": str(error)})
            client.end()

    def close(self) -> None:
        for client in list(self.clients):
            client.close()
        self._sock.close()
        self.path.unlink(missing_ok=True)


class NotRunning(RuntimeError):
    """No agent answers at the socket."""


def ask(path: Path, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Ask a running agent; yields its answers. Raises :class:`NotRunning`, ``RuntimeError`` with the agent's error."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with sock:
        try:
            sock.connect(str(path))
        except OSError as error:
            raise NotRunning(f"no agent at {path}: {error.strerror}") from error
        sock.sendall(_encode(request) + b"\n")
        with sock.makefile("rb") as stream:
            for line in stream:
                value = msgspec.json.decode(line, type=dict[str, Any])
                if "error" in value:
                    raise RuntimeError(value["error"])
                yield value
