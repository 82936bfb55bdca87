"""The gateway as a person meets it: Host, headers, streams, tunnels, limits, the end."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from gateway.rig import OK, Upstream, exchange, gateway, until, until_closed

pytest.importorskip("httptools", reason="deadhop[gateway] is not installed")

GET = b"GET / HTTP/1.1\r\nHost: portal.example.com\r\nConnection: close\r\n\r\n"


def test_host_is_the_upstreams_own_and_preserved_by_choice(tmp_path: Path) -> None:
    upstream = Upstream()
    routes = [
        {"host": "portal.example.com", "upstream": "app"},
        {"host": "*.example.com", "upstream": "app", "host_header": "preserve"},
    ]
    with gateway(tmp_path, upstream, routes=routes) as running:
        exchange(running, GET)
        assert f"\r\nHost: 127.0.0.1:{upstream.port}\r\n".encode() in upstream.octets
        assert b"X-Forwarded-Host: portal.example.com\r\n" in upstream.octets
        exchange(running, GET.replace(b"portal", b"Other"))
        assert b"\r\nHost: Other.example.com\r\n" in upstream.octets
        assert b" 404 " in exchange(running, GET.replace(b"portal.example.com", b"example.org"))


def test_the_longest_path_wins_in_whatever_spelling(tmp_path: Path) -> None:
    upstream, admin = Upstream(), Upstream()
    routes = [{"upstream": "app"}, {"path": "/admin", "upstream": "admin"}]
    upstreams = {
        "app": {"url": f"http://127.0.0.1:{upstream.port}"},
        "admin": {"url": f"http://127.0.0.1:{admin.port}"},
    }
    with gateway(tmp_path, upstream, routes=routes, upstreams=upstreams) as running:
        for path in (b"/admin", b"/admin/x", b"//admin", b"/%61dmin", b"/admin;x=y/z", b"/admin?a=/../b"):
            before = len(admin.octets)
            exchange(running, GET.replace(b" / ", b" " + path + b" "))
            assert admin.octets[before:].startswith(b"GET " + path + b" "), path
        exchange(running, GET.replace(b" / ", b" /administrator "))
        assert b"/administrator" in upstream.octets
    admin.close()


def test_named_headers_are_stripped_and_set(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("file-s3cret\n")
    route = {
        "upstream": "app",
        "strip": ["X-Debug"],
        "set": {"X-Team": "ops", "X-Upstream-Auth": {"file": "token"}, "X-User": {"identity": "subject"}},
    }
    upstream = Upstream()
    with gateway(tmp_path, upstream, routes=[route]) as running:
        forged = b"x-debug: 1\r\nX_Debug: 2\r\nX-Team: evil\r\nX_User: root\r\nX-User: root\r\nAuthorization: Bearer abc\r\n\r\n"
        exchange(running, GET[:-2] + forged)
        got = upstream.octets
        assert b"debug" not in got.lower()
        assert b"evil" not in got
        assert b"root" not in got
        assert b"X-Team: ops\r\n" in got
        assert b"X-Upstream-Auth: file-s3cret\r\n" in got
        assert b"authorization: Bearer abc" in got
        text = json.dumps(running.lines())
        assert "s3cret" not in text
        assert "abc" not in text
        sent = dict(running.lines()[0]["outgoing"]["headers"])  # type: ignore[index]
        assert sent["Host"] == f"127.0.0.1:{upstream.port}"
        assert sent["X-Upstream-Auth"] == "<redacted>"


def test_a_trusted_proxys_word_is_kept_and_appended_to(tmp_path: Path) -> None:
    upstream = Upstream()
    with gateway(tmp_path, upstream, trust=["127.0.0.0/8"]) as running:
        said = b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: www\r\nForwarded: for=203.0.113.9\r\nX-Request-Id: abc\r\n\r\n"
        exchange(running, GET[:-2] + said)
        got = upstream.octets
        assert b"X-Forwarded-For: 203.0.113.9, 127.0.0.1\r\n" in got
        assert b"X-Forwarded-Proto: https\r\n" in got
        assert b"X-Forwarded-Host: www\r\n" in got
        assert b"Forwarded: for=203.0.113.9, for=127.0.0.1;" in got
        assert b"X-Request-Id: abc\r\n" in got


def test_bodies_stream_in_both_directions_before_they_end(tmp_path: Path) -> None:
    """The upstream answers octets as they come: the client reads the first part before it writes the second."""

    def echo(connection: socket.socket, data: bytes) -> None:
        if data.endswith(b"first\r\n"):
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nFIRST\r\n")
        elif data.endswith(b"0\r\n\r\n"):
            connection.sendall(b"6\r\nSECOND\r\n0\r\n\r\n")

    upstream = Upstream(echo)
    with gateway(tmp_path, upstream) as running, running.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        until(connection, b"FIRST")
        connection.sendall(b"6\r\nsecond\r\n0\r\n\r\n")
        until(connection, b"SECOND\r\n0\r\n\r\n")


def test_server_sent_events_come_one_by_one(tmp_path: Path) -> None:
    gate = threading.Event()

    def events(connection: socket.socket, data: bytes) -> None:  # noqa: ARG001
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n"
        )
        gate.wait(20)
        connection.sendall(b"data: 2\n\n")
        connection.close()

    with gateway(tmp_path, Upstream(events)) as running, running.connect() as connection:
        connection.sendall(GET)
        assert b"data: 2" not in until(connection, b"data: 1\n\n")
        gate.set()
        until(connection, b"0\r\n\r\n")


def test_websocket_octets_pass_untouched_in_both_directions(tmp_path: Path) -> None:
    def switch(connection: socket.socket, data: bytes) -> None:
        head, found, rest = data.partition(b"\r\n\r\n")
        if found and not rest:
            assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket" in head
            connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n\x81\x02hi"
            )
        elif rest.endswith(b"\xff\0end"):
            connection.sendall(b"\x81\x03bye")
            connection.close()

    upgrade = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n"
    upstream = Upstream(switch)
    with gateway(tmp_path, upstream) as running, running.connect() as connection:
        connection.sendall(upgrade)
        head = until(connection, b"\x81\x02hi")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"upgrade: websocket" in head
        connection.sendall(b"GET / HTTP/1.1\r\n\xff\0end")
        assert until_closed(connection) == b"\x81\x03bye"
        assert running.lines()[0]["status"] == 101


def test_a_slow_reader_holds_the_upstream_back(tmp_path: Path) -> None:
    """64 MiB are offered and nobody reads: what the gateway and the kernel take is a small part of it."""
    taken = threading.Event()
    total = [0]

    def flood(connection: socket.socket, data: bytes) -> None:  # noqa: ARG001
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
        connection.settimeout(1)
        with contextlib.suppress(OSError):
            while total[0] < 67108864:
                total[0] += connection.send(b"x" * 65536)
        taken.set()

    with gateway(tmp_path, Upstream(flood)) as running, running.connect() as connection:
        connection.sendall(GET)
        assert taken.wait(30)
        assert total[0] < 48 << 20


def test_expect_continue_is_the_upstreams_to_answer(tmp_path: Path) -> None:
    def answer(connection: socket.socket, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n"):
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif data.endswith(b"hello"):
            connection.sendall(OK)

    with gateway(tmp_path, Upstream(answer)) as running, running.connect() as connection:
        connection.sendall(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"hello")
        assert b" 200 " in until(connection, b"ok")


def test_an_idle_connection_that_the_upstream_closed_costs_nobody_a_request(tmp_path: Path) -> None:
    """The second request meets a connection that is closed upon it; it may be repeated and is."""
    seen: dict[int, int] = {}

    def answer(connection: socket.socket, data: bytes) -> None:
        number = seen[id(connection)] = seen.get(id(connection), 0) + 1
        if number > 1:
            connection.close()
        else:
            assert data
            connection.sendall(OK)

    with gateway(tmp_path, Upstream(answer)) as running:
        with running.connect() as connection:
            for _ in range(3):
                connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                until(connection, b"ok")
        page = urllib.request.urlopen(f"http://127.0.0.1:{running.admin}/metrics").read().decode()
        assert "deadhop_gateway_retries_total 0.0" not in page


def test_what_went_wrong_upstream_has_its_own_answer(tmp_path: Path) -> None:
    closing = Upstream(lambda connection, _data: connection.close())
    with socket.create_server(("127.0.0.1", 0)) as unused:
        free = unused.getsockname()[1]
    upstreams = {
        "refused": {"url": f"http://127.0.0.1:{free}"},
        "closes": {"url": f"http://127.0.0.1:{closing.port}"},
        "nowhere": {"url": "http://no-such-host.invalid"},
        "silent": {"url": "http://127.0.0.1:9"},
    }
    silent = socket.create_server(("127.0.0.1", 0))
    upstreams["silent"]["url"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
    routes = [{"path": f"/{name}", "upstream": name} for name in upstreams]
    with gateway(
        tmp_path, closing, upstreams=upstreams, routes=routes, timeouts={"response": 0.2}
    ) as running:
        for name, status, word in [
            ("refused", 502, b"refuses"),
            ("closes", 502, b"closed the connection before"),
            ("nowhere", 502, b"does not resolve"),
            ("silent", 504, b"does not answer"),
        ]:
            answer = exchange(running, GET.replace(b" / ", f" /{name} ".encode()))
            assert answer.startswith(b"HTTP/1.1 %d " % status), name
            assert word in answer, name
    silent.close()


def test_a_response_that_is_cut_does_not_look_whole(tmp_path: Path) -> None:
    def cut(connection: socket.socket, data: bytes) -> None:  # noqa: ARG001
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        connection.close()

    with gateway(tmp_path, Upstream(cut)) as running:
        answer = exchange(running, GET)
        assert b"0\r\n\r\n" not in answer
        assert running.lines()[0]["result"] == "upstream-closed"


def test_http_10_and_head_and_no_content(tmp_path: Path) -> None:
    def answer(connection: socket.socket, data: bytes) -> None:
        if data.rpartition(b"\r\n\r\n")[0].rpartition(b"\r\n\r\n")[2].startswith(b"HEAD"):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
        elif b"/none" in data:
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")

    with gateway(tmp_path, Upstream(answer)) as running:
        old = exchange(running, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        assert old.endswith(b"\r\n\r\nok")
        assert b"chunked" not in old
        with running.connect() as connection:
            connection.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"Content-Length: 500\r\n" in until(connection, b"\r\n\r\n")
            connection.sendall(b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n")
            assert until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 204 ")


def test_bearer_tokens_and_groups(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("# token subject groups\ntok-a alice admins,ops\ntok-b bob\n")
    routes = [
        {"upstream": "app", "require": "anyone", "set": {"X-User": {"identity": "subject"}, "X-Groups": {"identity": "groups"}}},
        {"path": "/admin", "upstream": "app", "require": ["admins"]},
    ]  # fmt: skip
    upstream = Upstream()
    with gateway(tmp_path, upstream, routes=routes, auth={"bearer": "tokens"}) as running:

        def ask(path: bytes, token: bytes = b"") -> bytes:
            field = b"Authorization: Bearer " + token + b"\r\n\r\n" if token else b"\r\n"
            return exchange(running, GET[:-2].replace(b" / ", b" " + path + b" ") + field)[9:12]

        assert ask(b"/") == b"401"
        assert ask(b"/", b"tok-x") == b"401"
        assert ask(b"/", b"tok-b") == b"200"
        assert ask(b"/admin", b"tok-b") == b"403"
        assert ask(b"//%61dmin/", b"tok-b") == b"403"
        assert ask(b"/admin", b"tok-a") == b"200"
        assert ask(b"/", b"tok-a") == b"200"
        assert b"X-User: alice\r\n" in upstream.octets
        assert b"X-Groups: admins,ops\r\n" in upstream.octets
        assert b"tok-" not in upstream.octets


def test_a_loop_is_seen(tmp_path: Path) -> None:
    """The gateway is its own upstream."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    upstreams = {"app": {"url": f"http://127.0.0.1:{port}"}}
    with gateway(tmp_path, Upstream(), listen=f"127.0.0.1:{port}", upstreams=upstreams) as running:
        assert exchange(running, GET).startswith(b"HTTP/1.1 508 ")


def test_an_upgrade_of_tls_upstreams_and_listeners(tmp_path: Path) -> None:
    """TLS on both sides, with a certificate of the test's own; a certificate that is not trusted is a 502."""
    import ssl
    import subprocess

    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    listener = serving.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except ssl.SSLError:
                continue
            except OSError:
                return
            connection.recv(65536)
            connection.sendall(OK)
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    upstreams = {"good": {"url": url, "ca": "cert.pem"}, "strange": {"url": url}}
    routes = [{"upstream": "good"}, {"path": "/strange", "upstream": "strange"}]
    tls = {"cert": "cert.pem", "key": "key.pem"}
    with gateway(tmp_path, Upstream(), upstreams=upstreams, routes=routes, tls=tls) as running:
        trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        for path, status in (("/", 200), ("/strange", 502)):
            request = f"https://localhost:{running.port}{path}"
            try:
                answered = urllib.request.urlopen(request, context=trusting).status
            except urllib.error.HTTPError as error:
                answered = error.code
            assert answered == status
    listener.close()
