"""The running gateway between raw sockets: a client that writes any octets, an upstream that keeps every octet it got."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Upstream:
    """A raw TCP server. ``answer`` gets the connection and its octets so far; by default each whole head (and body of
    declared length or chunked) is answered with 200. ``got`` holds what each connection received."""

    def __init__(self, answer: Callable[[socket.socket, bytes], None] | None = None) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.got: list[bytearray] = []
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self._answer = answer
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with self.lock:
                self.got.append(bytearray())
                self._open.append(connection)
                mine = self.got[-1]
            threading.Thread(target=self._serve, args=(connection, mine), daemon=True).start()

    def _serve(self, connection: socket.socket, mine: bytearray) -> None:
        answered = 0
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(65536):
                with self.changed:
                    mine += data
                    self.changed.notify_all()
                if self._answer:
                    self._answer(connection, bytes(mine))
                    continue
                while (end := whole(bytes(mine), answered)) is not None:
                    answered = end
                    connection.sendall(OK)

    @property
    def octets(self) -> bytes:
        """Everything that came, of all connections."""
        with self.lock:
            return b"".join(self.got)

    def wait(self, held: Callable[[bytes], bool]) -> bytes:
        """Until what came satisfies ``held``."""
        with self.changed:
            assert self.changed.wait_for(lambda: held(b"".join(self.got)), 20), self.got
        return self.octets

    def close(self) -> None:
        self.socket.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def whole(data: bytes, at: int) -> int | None:
    """The end of the request that begins at ``at``; None where it is not whole. Reads as a plain server would."""
    end = data.find(b"\r\n\r\n", at)
    if end < 0:
        return None
    head = data[at:end].lower()
    end += 4
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            end += int(line.partition(b":")[2])
            return end if len(data) >= end else None
    if b"transfer-encoding: chunked" in head:
        last = data.find(b"0\r\n\r\n", end)
        return None if last < 0 else last + 5
    return end


class Running:
    """A gateway process. ``port`` listens, ``admin`` is the admin port, ``log`` the access log."""

    def __init__(self, folder: Path, configuration: dict[str, object]) -> None:
        self.log = folder / "access.log"
        self.folder = folder
        configuration = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "access_log": str(self.log), **configuration}  # fmt: skip
        path = folder / "gateway.yaml"
        path.write_text(yaml.safe_dump(configuration))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deadhop", "gateway", "run", str(path)],
            stderr=subprocess.PIPE,
            env={**os.environ, "DEADHOP_DEBUG": "1"},
        )
        self.said = b""
        assert self.process.stderr is not None
        while b"admin http" not in self.said:
            line = self.process.stderr.readline()
            assert line, self.said.decode()
            self.said += line
        lines = self.said.decode().splitlines()
        ports = [int(x.rsplit(":", 1)[1]) for x in lines if "listening on" in x]
        self.port, self.admin = ports[0], ports[-1]
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()

    def ended(self) -> int:
        """Wait for the end: the exit status, with all of ``said`` read."""
        status = self.process.wait()
        self._reader.join()
        return status

    def _drain(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line

    def connect(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def lines(self, least: int = 1) -> list[dict[str, object]]:
        """The access log, once it has so many lines."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            found = self.log.read_bytes().splitlines() if self.log.exists() else []
            if len(found) >= least:
                return [json.loads(x) for x in found]
            time.sleep(0.01)
        raise AssertionError(f"{least} lines of access log did not come: {self.said.decode()}")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def gateway(
    folder: Path, upstream: Upstream, *, scheme: str = "http", **settings: object
) -> Iterator[Running]:
    """A gateway whose one upstream is ``upstream`` and whose routes are one for any host, unless told otherwise."""
    settings.setdefault("routes", [{"upstream": "app"}])
    settings.setdefault("upstreams", {"app": {"url": f"{scheme}://127.0.0.1:{upstream.port}"}})
    running = Running(folder, settings)
    try:
        yield running
    finally:
        running.close()
        upstream.close()


def exchange(running: Running, octets: bytes) -> bytes:
    """Write, half-close nothing, read until the gateway closes or one whole answer to each request came."""
    with running.connect() as connection:
        connection.sendall(octets)
        return until_closed(connection)


def until_closed(connection: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := connection.recv(65536):
            data += more
    return data


def until(connection: socket.socket, mark: bytes, count: int = 1) -> bytes:
    """Read until ``mark`` came ``count`` times."""
    data = b""
    while data.count(mark) < count:
        more = connection.recv(65536)
        assert more, data
        data += more
    return data


__all__ = ["OK", "Running", "Upstream", "exchange", "gateway", "until", "until_closed"]
