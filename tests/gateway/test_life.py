"""The gateway's life: limits, slow clients, signals, the end."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from gateway.rig import OK, Upstream, exchange, gateway, until, until_closed

pytest.importorskip("httptools", reason="deadhop[gateway] is not installed")

GET = b"GET / HTTP/1.1\r\nHost: portal.example.com\r\nConnection: close\r\n\r\n"


def test_a_slow_head_ends(tmp_path: Path) -> None:
    with gateway(tmp_path, Upstream(), timeouts={"header": 0.3}) as running:
        with running.connect() as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
            ended = threading.Event()

            def drip() -> None:
                with contextlib.suppress(OSError):
                    while not ended.wait(0.05):
                        connection.sendall(b"y")

            dripping = threading.Thread(target=drip)
            dripping.start()
            assert until_closed(connection).startswith(b"HTTP/1.1 408 ")
            ended.set()
            dripping.join()
        with running.connect() as silent:
            assert until_closed(silent) == b""


def test_the_end_lets_what_is_under_way_finish(tmp_path: Path) -> None:
    asked, gate = threading.Event(), threading.Event()

    def slow(connection: socket.socket, data: bytes) -> None:
        assert data
        asked.set()
        gate.wait(20)
        connection.sendall(OK)

    with gateway(tmp_path, Upstream(slow)) as running, running.connect() as connection:
        idle = running.connect()
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert asked.wait(20)
        running.process.send_signal(signal.SIGTERM)
        assert until_closed(idle) == b""
        with pytest.raises(OSError):  # noqa: PT012 - the listener closes a moment after the signal
            while True:
                running.connect().close()
                time.sleep(0.01)
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{running.admin}/readyz")
        gate.set()
        answer = until_closed(connection)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close" in answer
        assert running.process.wait() == 0
        idle.close()


def test_one_client_too_many_is_told_so(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(gateway(tmp_path, Upstream(), limits={"connections": 2}))
        first, second = (stack.enter_context(running.connect()) for _ in range(2))
        for connection in (first, second):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            until(connection, b"ok")
        third = stack.enter_context(running.connect())
        assert until_closed(third).startswith(b"HTTP/1.1 503 ")
        first.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        until(first, b"ok")


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    asked = threading.Event()

    def never(connection: socket.socket, data: bytes) -> None:  # noqa: ARG001
        asked.set()

    with gateway(tmp_path, Upstream(never)) as running, running.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert asked.wait(20)
        running.process.send_signal(signal.SIGINT)
        while b"finishing 1 requests" not in running.said:
            assert running.process.poll() is None
            time.sleep(0.01)
        running.process.send_signal(signal.SIGINT)
        assert running.ended() == 0
        assert running.said.endswith(b"1 connections were cut\n")


def test_a_log_that_was_rotated_is_opened_anew(tmp_path: Path) -> None:
    with gateway(tmp_path, Upstream()) as running:
        exchange(running, GET)
        running.lines(1)
        running.log.rename(tmp_path / "access.log.1")
        running.process.send_signal(signal.SIGHUP)
        while not running.log.exists():
            assert running.process.poll() is None
            time.sleep(0.01)
        exchange(running, GET)
        assert len(running.lines(1)) == 1
        assert len((tmp_path / "access.log.1").read_bytes().splitlines()) == 1
