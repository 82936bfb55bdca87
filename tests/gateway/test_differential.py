"""Random hostile octets: what reaches the upstream is, to another parser (h11), the requests that the gateway meant to send.

This is what smuggling breaks: two readers of one stream that count different requests.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from gateway.rig import Upstream, gateway, until_closed

pytest.importorskip("httptools", reason="deadhop[gateway] is not installed")
h11 = pytest.importorskip("h11", reason="h11 is not installed")

LINES = [b"GET / HTTP/1.1", b"POST /a HTTP/1.1", b"POST /b HTTP/1.0", b"HEAD /h HTTP/1.1", b"PUT http://app/c HTTP/1.1", b"GET //d;x HTTP/1.1"]  # fmt: skip
FIELDS = [
    b"Host: app", b"Host: app", b"Host: app", b"Host : app", b"host:app", b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 05",
    b"content-length:5", b"Content-Length: 5\t", b"Content_Length: 50", b"Content-Length: 5,5", b"Transfer-Encoding: chunked",
    b"Transfer-encoding:chunked", b"Transfer-Encoding: chunked ", b"Transfer_Encoding: chunked", b"Transfer-Encoding: identity",
    b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: \"chunked\"", b"Connection: close", b"Connection: keep-alive, content-length",
    b"Connection: transfer-encoding", b"Connection: host", b"Upgrade: websocket", b"Connection: Upgrade", b"Expect: 100-continue", b"TE: trailers, chunked",
    b"X: y\r\n z", b"X: \x00", b"X: \xff\xfe", b"X:", b"X", b"\tX: y", b"X: a\rb", b"Trailer: Content-Length", b"Via: 1.1 x",
]  # fmt: skip
BODIES = [
    b"", b"", b"hello", b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n", b"5\nhello\n0\n\n", b"05\r\nhello\r\n00\r\n\r\n",
    b"5\r\nhello0\r\n\r\n", b"GET /evil HTTP/1.1\r\nHost: app\r\n\r\n", b"0\r\n\r\nGET /evil HTTP/1.1\r\nHost: app\r\n\r\n", b"f" * 16 + b"\r\nhello\r\n0\r\n\r\n", b"\r\n",
]  # fmt: skip
ENDS = [b"\r\n"] * 8 + [b"\n", b"\r\r\n"]


def hostile(rng: random.Random) -> bytes:
    """One to three requests with a few things wrong."""
    out = b""
    for _ in range(rng.randint(1, 3)):
        fields = [b"Host: app", *rng.sample(FIELDS, rng.randint(0, 3))]
        rng.shuffle(fields)
        end = rng.choice(ENDS)
        out += end.join([rng.choice(LINES), *fields, b"", b""]) + rng.choice(BODIES)
    if rng.random() < 0.2:
        at = rng.randrange(len(out))
        out = out[:at] + bytes([rng.randrange(256)]) + out[at + 1 :]
    return out


def parsed(octets: bytes) -> list[str]:
    """The targets that h11 reads from a stream of requests; an error where it reads anything else."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(octets)
    found = []
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA or event is h11.PAUSED:
            if connection.our_state is h11.SEND_RESPONSE and connection.their_state is h11.DONE:
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
                continue
            if connection.their_state is h11.MIGHT_SWITCH_PROTOCOL:
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
                continue
            return found
        if isinstance(event, h11.Request):
            assert [n for n, _ in event.headers].count(b"host") == 1
            found.append(event.target.decode())


@pytest.mark.parametrize("seed", range(4))
def test_both_ends_count_the_same_requests(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    upstream = Upstream()
    times = {"header": 0.2, "idle": 0.2, "response": 0.3, "stream": 0.3}
    served = refused = 0
    with gateway(tmp_path, upstream, timeouts=times) as running:
        sent: list[bytes] = []
        for _ in range(60):
            octets = hostile(rng)
            sent.append(octets)
            with running.connect() as connection:
                try:
                    connection.sendall(octets)
                except ConnectionError:
                    continue
                answer = until_closed(connection)
                served += answer.count(b"HTTP/1.1 200")
                refused += b"HTTP/1.1 4" in answer or b"HTTP/1.1 5" in answer
        running.process.terminate()
        running.process.wait()
        lines = [json.loads(x) for x in running.log.read_bytes().splitlines()]
        meant = [x["outgoing"]["target"] for x in lines if "address" in x.get("outgoing", {})]
        got = [target for stream in upstream.got for target in parsed(bytes(stream))]
    assert sorted(got) == sorted(meant), sent
    assert served
    assert refused
