"""Hostile clients against the running gateway: what each gets, and which octets reach the upstream.

The table of docs/gateway.md is this one. Every case is sent twice: whole, and octet by octet.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.rig import Running, Upstream, gateway, until, until_closed

pytest.importorskip("httptools", reason="deadhop[gateway] is not installed")

POST = b"POST / HTTP/1.1\r\nHost: app\r\n"
EVIL = b"GET /evil HTTP/1.1\r\nHost: app\r\n\r\n"

#: name -> (octets, status). Everything here is refused: nothing of it may reach the upstream.
REFUSED: dict[str, tuple[bytes, int]] = {
    "two different Content-Length": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello" + EVIL, 400),
    "two equal Content-Length": (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello" + EVIL, 400),
    "a list in Content-Length": (POST + b"Content-Length: 5, 5\r\n\r\nhello" + EVIL, 400),
    "a sign in Content-Length": (POST + b"Content-Length: +5\r\n\r\nhello" + EVIL, 400),
    "a negative Content-Length": (POST + b"Content-Length: -1\r\n\r\n" + EVIL, 400),
    "an empty Content-Length": (POST + b"Content-Length: \r\n\r\n" + EVIL, 400),
    "hexadecimal Content-Length": (POST + b"Content-Length: 0x5\r\n\r\nhello" + EVIL, 400),
    "an overflowing Content-Length": (POST + b"Content-Length: 18446744073709551621\r\n\r\nhello" + EVIL, 400),
    "CL.TE": (POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG" + EVIL, 400),
    "TE.CL": (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n" + EVIL + b"\r\n0\r\n\r\n", 400),
    "TE.TE, second unknown": (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n" + EVIL, 400),
    "TE.TE, first unknown": (POST + b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + EVIL, 400),
    "chunked twice": (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + EVIL, 400),
    "gzip before chunked": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + EVIL, 501),
    "xchunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + EVIL, 501),
    "a vertical tab before chunked": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + EVIL, 400),
    "a space before the colon": (POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + EVIL, 400),
    "chunked under HTTP/1.0": (b"POST / HTTP/1.0\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + EVIL, 400),
    "a folded line": (b"GET / HTTP/1.1\r\nHost: app\r\nX: a\r\n b\r\n\r\n", 400),
    "a folded Transfer-Encoding": (POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + EVIL, 400),
    "a first field that begins with a space": (b"GET / HTTP/1.1\r\n Host: app\r\n\r\n", 400),
    "bare LF ends lines": (b"GET / HTTP/1.1\nHost: app\n\n", 400),
    "bare LF in the head": (b"GET / HTTP/1.1\r\nHost: app\nX: y\r\n\r\n", 400),
    "bare CR in a value": (b"GET / HTTP/1.1\r\nHost: app\r\nX: a\rY: b\r\n\r\n", 400),
    "NUL in a value": (b"GET / HTTP/1.1\r\nHost: app\r\nX: a\0b\r\n\r\n", 400),
    "NUL in a name": (b"GET / HTTP/1.1\r\nHost: app\r\nX\0Y: b\r\n\r\n", 400),
    "NUL in the target": (b"GET /\0 HTTP/1.1\r\nHost: app\r\n\r\n", 400),
    "a control character in a value": (b"GET / HTTP/1.1\r\nHost: app\r\nX: a\x01b\r\n\r\n", 400),
    "a field without a name": (b"GET / HTTP/1.1\r\nHost: app\r\n: b\r\n\r\n", 400),
    "a field without a colon": (b"GET / HTTP/1.1\r\nHost: app\r\nfoo\r\n\r\n", 400),
    "no Host": (b"GET / HTTP/1.1\r\nX: y\r\n\r\n", 400),
    "two Hosts": (b"GET / HTTP/1.1\r\nHost: app\r\nHost: other\r\n\r\n", 400),
    "two equal Hosts": (b"GET / HTTP/1.1\r\nHost: app\r\nHost: app\r\n\r\n", 400),
    "a list in Host": (b"GET / HTTP/1.1\r\nHost: app, other\r\n\r\n", 400),
    "userinfo in Host": (b"GET / HTTP/1.1\r\nHost: app@other\r\n\r\n", 400),
    "a path in Host": (b"GET / HTTP/1.1\r\nHost: app/x\r\n\r\n", 400),
    "a port that is none in Host": (b"GET / HTTP/1.1\r\nHost: app:80x\r\n\r\n", 400),
    "a port beyond 65535": (b"GET / HTTP/1.1\r\nHost: app:65536\r\n\r\n", 400),
    "absolute form against Host": (b"GET http://other/ HTTP/1.1\r\nHost: app\r\n\r\n", 400),
    "absolute form with userinfo": (b"GET http://app@other/ HTTP/1.1\r\nHost: app@other\r\n\r\n", 400),
    "absolute form of another scheme": (b"GET ftp://app/ HTTP/1.1\r\nHost: app\r\n\r\n", 400),
    "authority form": (b"GET app:80 HTTP/1.1\r\nHost: app\r\n\r\n", 400),
    "asterisk form": (b"OPTIONS * HTTP/1.1\r\nHost: app\r\n\r\n", 400),
    "CONNECT": (b"CONNECT app:80 HTTP/1.1\r\nHost: app:80\r\n\r\n" + EVIL, 405),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: app\r\n\r\n", 405),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: app\r\n\r\n", 400),
    "tabs in the request line": (b"GET\t/\tHTTP/1.1\r\nHost: app\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 505),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: app\r\n\r\n", 400),
    "the HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), 400),
    "an upgrade with a body": (b"GET / HTTP/1.1\r\nHost: app\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello", 400),
    "dot segments": (b"GET /public/../admin HTTP/1.1\r\nHost: app\r\n\r\n", 400),
    "encoded dot segments": (b"GET /public/%2e%2e/admin HTTP/1.1\r\nHost: app\r\n\r\n", 400),
    "an encoded slash before dots": (b"GET /public%2f..%2fadmin HTTP/1.1\r\nHost: app\r\n\r\n", 400),
    "dots with a parameter": (b"GET /public/..;/admin HTTP/1.1\r\nHost: app\r\n\r\n", 400),
    "a backslash": (b"GET /public\\..\\admin HTTP/1.1\r\nHost: app\r\n\r\n", 400),
    "an encoded NUL": (b"GET /a%00b HTTP/1.1\r\nHost: app\r\n\r\n", 400),
    "an oversized field": (b"GET / HTTP/1.1\r\nHost: app\r\nX: " + b"a" * 40000 + b"\r\n\r\n", 431),
    "an oversized target": (b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\nHost: app\r\n\r\n", 431),
    "too many fields": (b"GET / HTTP/1.1\r\nHost: app\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
}  # fmt: skip

#: Bodies that go wrong behind a good head: the head may have gone out, the response is an error, the upstream's
#: connection is cut, and what follows is never a request.
CUT: dict[str, bytes] = {
    "a chunk size in C's manner": b"0x1\r\nx\r\n0\r\n\r\n",
    "a negative chunk size": b"-1\r\nx\r\n0\r\n\r\n",
    "a space behind the chunk size": b"1 \r\nx\r\n0\r\n\r\n",
    "bare LF behind the chunk size": b"1\nx\r\n0\r\n\r\n",
    "bare LF in a chunk extension": b"1;a\nb\r\nx\r\n0\r\n\r\n",
    "a chunk longer than its size": b"1\r\nxyz\r\n0\r\n\r\n",
    "an overflowing chunk size": b"10000000000000000001\r\nx\r\n0\r\n\r\n",
    "no chunk size": b"\r\nx\r\n0\r\n\r\n",
    "a trailer that is no field": b"0\r\nfoo\r\n\r\n",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Upstream]]:
    upstream = Upstream()
    with gateway(tmp_path_factory.mktemp("gateway"), upstream) as process:
        yield process, upstream


def send(running: Running, octets: bytes, single: bool) -> bytes:
    with running.connect() as connection:
        try:
            for part in [octets[i : i + 1] for i in range(len(octets))] if single else [octets]:
                connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the refusal came before the end
        return until_closed(connection)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("single", [False, True], ids=["whole", "octets"])
def test_refused(running: tuple[Running, Upstream], name: str, single: bool) -> None:
    process, upstream = running
    octets, status = REFUSED[name]
    single = (
        single and len(octets) < 2000
    )  # the gateway is refusing long before the last octet of the large ones
    before = len(upstream.octets)
    answer = send(process, octets, single)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in answer
    assert len(upstream.octets) == before


@pytest.mark.parametrize("name", CUT)
def test_a_malformed_body_is_cut(running: tuple[Running, Upstream], name: str) -> None:
    process, upstream = running
    answer = send(process, POST + b"Transfer-Encoding: chunked\r\n\r\n" + CUT[name] + EVIL, False)
    assert b" 200 " not in answer
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert b"/evil" not in upstream.octets


def seen(running: tuple[Running, Upstream], octets: bytes) -> tuple[bytes, bytes]:
    """A request that is served: the answer, and what the upstream got for it."""
    process, upstream = running
    before = len(upstream.octets)
    with process.connect() as connection:
        connection.sendall(octets)
        answer = until(connection, b"ok")
    return answer, upstream.octets[before:]


def test_chunks_are_framed_anew(running: tuple[Running, Upstream]) -> None:
    body = b"3;x=y\r\nabc\r\n00002\r\nde\r\n0\r\nHost: evil\r\nX-Trailer: 1\r\n\r\n"
    _, got = seen(running, POST + b"transfer-encoding: Chunked\r\n\r\n" + body)
    head, _, sent = got.partition(b"\r\n\r\n")
    assert head.count(b"Transfer-Encoding: chunked") == 1
    assert b"evil" not in got
    assert b"X-Trailer" not in got
    plain = b""
    while sent != b"0\r\n\r\n":
        size, _, sent = sent.partition(b"\r\n")
        plain, sent = plain + sent[: int(size, 16)], sent[int(size, 16) + 2 :]
    assert plain == b"abcde"


def test_absolute_form_goes_out_in_origin_form(running: tuple[Running, Upstream]) -> None:
    _, got = seen(running, b"GET http://app/x?y HTTP/1.1\r\nHost: app\r\n\r\n")
    assert got.startswith(b"GET /x?y HTTP/1.1\r\nHost: 127.0.0.1:")


def test_fields_named_by_connection_end_here(running: tuple[Running, Upstream]) -> None:
    fields = b"Connection: X-One, content-length, x-forwarded-for, host\r\nX-One: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nProxy-Authorization: Basic x\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nTrailer: x\r\n"
    _, got = seen(running, POST + fields + b"Content-Length: 5\r\n\r\nhello")
    for name in (b"connection", b"x-one", b"te:", b"keep-alive", b"proxy-", b"upgrade", b"http2", b"trailer"):
        assert b"\r\n" + name not in got.lower(), name
    assert b"Content-Length: 5" in got
    assert b"X-Forwarded-For: 127.0.0.1\r\n" in got


def test_a_stranger_cannot_forge_who_asks(running: tuple[Running, Upstream]) -> None:
    forged = b"X-Forwarded-For: 10.0.0.1\r\nX_Forwarded_For: 10.0.0.1\r\nX-Forwarded-Host: evil\r\nForwarded: for=10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\nX-Forwarded-Client-Cert: By=x\r\nX-Original-URL: /admin\r\n"
    _, got = seen(running, b"GET / HTTP/1.1\r\nHost: app\r\n" + forged + b"\r\n")
    assert b"10.0.0.1" not in got
    assert b"evil" not in got
    assert b"By=x" not in got
    assert b"/admin" not in got
    assert b'Forwarded: for=127.0.0.1;host="app";proto=http' in got


def test_pipelined_requests_are_answered_in_order_and_apart(running: tuple[Running, Upstream]) -> None:
    process, upstream = running
    before = len(upstream.octets)
    with process.connect() as connection:
        connection.sendall(b"".join(b"GET /%d HTTP/1.1\r\nHost: app\r\n\r\n" % n for n in range(40)))
        answers = until(connection, b"\r\n\r\nok", 40)
    assert answers.count(b"HTTP/1.1 200") == 40
    got = upstream.octets[before:]
    assert [got.find(b"GET /%d HTTP" % n) for n in range(40)] == sorted(got.find(b"GET /%d HTTP" % n) for n in range(40))  # fmt: skip


def test_a_bad_request_behind_a_good_one_is_refused_in_its_turn(running: tuple[Running, Upstream]) -> None:
    process, upstream = running
    answer = send(process, b"GET /good HTTP/1.1\r\nHost: app\r\n\r\nGET /bad HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + EVIL, False)  # fmt: skip
    assert re.findall(rb"HTTP/1\.1 (\d+) ", answer) == [b"200", b"400"]
    assert b"/evil" not in upstream.octets


def test_octets_behind_an_upgrade_that_was_refused_are_a_request(running: tuple[Running, Upstream]) -> None:
    process, _ = running
    upgrade = b"GET /ws HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with process.connect() as connection:
        connection.sendall(upgrade + b"GET /next HTTP/1.1\r\nHost: app\r\n\r\n")
        answers = until(connection, b"\r\n\r\nok", 2)
    assert answers.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize(
    "name",
    ["a second response", "CL and TE", "two Content-Length", "no HTTP", "101 unasked", "a folded line", "HEAD with a body"],
)  # fmt: skip
def test_hostile_upstreams(tmp_path: Path, name: str) -> None:
    """What an upstream sends beyond its answer is never the next client's."""
    poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
    said = {
        "a second response": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + poison,
        "CL and TE": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + poison,
        "two Content-Length": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok" + poison,
        "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
        "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n" + poison,
        "a folded line": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
        "HEAD with a body": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + poison,
    }[name]  # fmt: skip

    def answer(connection: socket.socket, data: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood" if b"/good" in data else said)

    method = b"HEAD" if name == "HEAD with a body" else b"GET"
    with gateway(tmp_path, Upstream(answer)) as process:
        with process.connect() as connection:
            connection.sendall(method + b" / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            first = until_closed(connection)
        with process.connect() as connection:
            connection.sendall(b"GET /good HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            second = until_closed(connection)
    fine = name in ("a second response", "HEAD with a body")
    assert first.startswith(b"HTTP/1.1 200 " if fine else b"HTTP/1.1 502 "), first
    assert b"poison" not in first
    assert second.endswith(b"good"), second
