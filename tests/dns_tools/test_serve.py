"""The server for reproductions: what it answers, and each of its faults, over real sockets; dnspython asks."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from click.testing import CliRunner
from dns import rdatatype
from hypothesis import given, settings
from hypothesis import strategies as st

from deadhop.cli import group
from deadhop.dns.faults import Faults
from deadhop.dns.listen import Server
from deadhop.dns.sockets import endpoint, shown
from deadhop.wire.zonefile import ZoneError, ZoneFile

from .served import ZONE, Served, served

SRV = "_kerberos._udp.corp.test."


def ask(
    at: Served, name: str, rtype: str = "A", *, tcp: bool = False, payload: int | None = None
) -> dns.message.Message:
    query = dns.message.make_query(name, rtype, use_edns=payload is not None, payload=payload or 0)
    how = dns.query.tcp if tcp else dns.query.udp
    return how(query, "127.0.0.1", port=at.port, timeout=20, ignore_trailing=True)


def rows(reply: dns.message.Message) -> list[str]:
    return [f"{s.name} {s.ttl} {rdatatype.to_text(s.rdtype)} {r}" for s in reply.answer for r in s]


@pytest.mark.parametrize(
    "name, rtype, rcode, answers",
    [
        ("api.corp.test", "A", "NOERROR", ["api.corp.test. 30 A 192.0.2.1"]),
        ("API.corp.test", "AAAA", "NOERROR", ["API.corp.test. 30 AAAA 2001:db8::1"]),
        ("www.corp.test", "A", "NOERROR",
         ["www.corp.test. 300 CNAME api.corp.test.", "api.corp.test. 30 A 192.0.2.1"]),
        ("www.corp.test", "CNAME", "NOERROR", ["www.corp.test. 300 CNAME api.corp.test."]),
        ("out.corp.test", "A", "NOERROR", ["out.corp.test. 300 CNAME www.elsewhere.test."]),
        ("x.y.wild.corp.test", "A", "NOERROR", ["x.y.wild.corp.test. 300 A 192.0.2.9"]),
        ("wild.corp.test", "A", "NOERROR", []),
        ("deep.tree.corp.test", "A", "NOERROR", []),
        ("api.corp.test", "MX", "NOERROR", []),
        ("nope.corp.test", "A", "NXDOMAIN", []),
        ("b.api.corp.test", "A", "NXDOMAIN", []),
        ("host.sub.corp.test", "A", "NOERROR", []),
        ("api.other.test", "A", "REFUSED", []),
    ],
)  # fmt: skip
def test_answers(name: str, rtype: str, rcode: str, answers: list[str]) -> None:
    query = dns.message.make_query(name, rtype)
    reply = ZoneFile(ZONE).answer(query)
    assert (dns.rcode.to_text(reply.rcode()), rows(reply)) == (rcode, answers)
    if rcode == "NXDOMAIN" or (not answers and name != "host.sub.corp.test" and rcode == "NOERROR"):
        assert [rdatatype.to_text(s.rdtype) for s in reply.authority] == ["SOA"]
    if name.startswith("host.sub"):
        assert not reply.flags & dns.flags.AA
        assert [str(s.name) for s in (*reply.authority, *reply.additional)] == [
            "sub.corp.test.",
            "ns.sub.corp.test.",
        ]


def test_transports_sizes_and_truncation() -> None:
    with served() as at:
        whole = ask(at, SRV, "SRV", tcp=True)
        assert len(whole.answer[0]) == 48
        plain = ask(at, SRV, "SRV")
        assert plain.flags & dns.flags.TC
        assert len(plain.to_wire()) <= 512
        assert not ask(at, SRV, "SRV", payload=4096).flags & dns.flags.TC
        assert ask(at, SRV, "SRV", payload=1232).flags & dns.flags.TC
        assert at.asked("tcp") == [f"SRV {SRV}"]


@pytest.mark.parametrize("pad", [600, 1473, 2351, 9000])
@pytest.mark.parametrize("name", ["api.corp.test", SRV])
def test_padding_is_exact(pad: int, name: str) -> None:
    with served(faults=Faults(pad=pad)) as at:
        query = dns.message.make_query(name, "ANY", use_edns=True, payload=65000)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(query.to_wire(), ("127.0.0.1", at.port))
            data = sock.recv(65535)
        bare = len(ZoneFile(ZONE).answer(query).to_wire(max_size=65535))
        assert len(data) == max(pad, bare)
        dns.message.from_wire(data)


def test_faults() -> None:
    with served(faults=Faults(truncate_at=600)) as at:
        assert ask(at, SRV, "SRV", payload=4096).flags & dns.flags.TC
        assert not ask(at, "api.corp.test", payload=4096).flags & dns.flags.TC
    with served(faults=Faults(tc=False)) as at:
        whole = ask(at, SRV, "SRV")
        assert not whole.flags & dns.flags.TC
        assert len(whole.answer[0]) == 48, "all of it, though the client takes 512 octets"
    with served(faults=Faults(tc=False, truncate_at=600)) as at:
        part = ask(at, SRV, "SRV", payload=4096)
        assert not part.flags & dns.flags.TC
        assert 0 < len(part.answer[0]) < 48
    with served(faults=Faults(delay=0.2)) as at:
        before = time.monotonic()
        ask(at, "api.corp.test")
        assert time.monotonic() - before >= 0.2


def test_the_first_datagrams_are_dropped_and_tcp_is_not() -> None:
    with served(faults=Faults(drop_first=2)) as at:
        assert rows(ask(at, "api.corp.test", tcp=True))
        query = dns.message.make_query("api.corp.test", "A")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(3):
                sock.sendto(query.to_wire(), ("127.0.0.1", at.port))
            assert dns.message.from_wire(sock.recv(512)).answer
        unanswered = [line for line in at.lines if " - - 0 " in line]
        assert len(unanswered) == 2


def test_hostile_messages_do_not_stop_it() -> None:
    with served() as at:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for data in (b"", b"x", bytes(12), b"\xff" * 600, b"\0\1\x01\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1"):
                sock.sendto(data, ("127.0.0.1", at.port))
        with socket.create_connection(("127.0.0.1", at.port)) as stream:
            stream.sendall(b"\0\5hello\0\0")
        assert rows(ask(at, "api.corp.test"))


def test_ipv6() -> None:
    try:
        with served(listen="[::1]:0") as at:
            query = dns.message.make_query("api.corp.test", "A")
            assert rows(dns.query.udp(query, "::1", port=at.port, timeout=20))
            assert rows(dns.query.tcp(query, "::1", port=at.port, timeout=20))
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")


@pytest.mark.parametrize(
    "text, said",
    [
        ("$ORIGIN a.test.\nx 3 A 192.0.2.1\ny 3 WHAT 1\n", ":3"),
        ("x 3 A 192.0.2.1\n", "--origin"),
        ("$ORIGIN a.test.\n", "no record"),
    ],
)
def test_a_wrong_zone_names_file_and_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "my.zone"
    path.write_text(text)
    with pytest.raises(ZoneError) as raised:
        ZoneFile(text, str(path))
    assert str(path) in str(raised.value)
    assert said in str(raised.value)
    result = CliRunner().invoke(group, ["dns", "serve", str(path)])
    assert result.exit_code == 2


@given(
    st.lists(
        st.sampled_from(
            [
                "$ORIGIN a.test.",
                "$TTL x",
                "$INCLUDE /etc/passwd",
                "@ 3 SOA a b 1 1 1 1 1",
                "x A 192.0.2.1",
                'x TXT "',
                "(",
                ")",
                ";",
                "\\300 A 1.2.3.4",
                "$GENERATE 1-9 a$ A 192.0.2.$",
                "* CNAME *",
                "é 3 A ::1",
                "a" * 70 + " A 192.0.2.1",
            ]
        ),
        max_size=6,
    ),
    st.text(max_size=20),
)
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_zone_or_a_zone_error(lines: list[str], noise: str) -> None:
    try:
        zone = ZoneFile("\n".join(lines) + noise)
    except ZoneError:
        return
    for name in ("a.test", "x.a.test", "b.x.a.test"):
        zone.answer(dns.message.make_query(name, "A")).to_wire(max_size=65535)


ZONE_FILE = ZoneFile(ZONE)


@given(st.binary(max_size=80), st.integers(0, 80), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_any_octets_are_answered_or_passed_over(data: bytes, place: int, octet: int) -> None:
    query = bytearray(dns.message.make_query("api.corp.test", "A", use_edns=0).to_wire())
    query[place % len(query)] = octet
    server = Server(ZONE_FILE, Faults(pad=700, truncate_at=512))

    async def ask() -> None:
        for transport in ("udp", "tcp"):
            for message in (data, bytes(query), bytes(query)[:place]):
                await server.handle(message, ("127.0.0.1", 1), transport)

    asyncio.run(ask())


def test_addresses() -> None:
    assert endpoint("10.0.0.1") == (socket.AF_INET, ("10.0.0.1", 53))
    assert endpoint("[::1]:5300") == (socket.AF_INET6, ("::1", 5300))
    assert shown(endpoint("::1", 54)[1]) == "[::1]:54"
    for wrong in ("", "a.b", "10.0.0.1:x", "10.0.0.1:99999", "[::1]x", "1.2.3"):
        with pytest.raises(ValueError):
            endpoint(wrong)


def test_the_command_serves_until_sigterm(tmp_path: Path) -> None:
    path = tmp_path / "my.zone"
    path.write_text(ZONE)
    command = [sys.executable, "-m", "deadhop", "dns", "serve", str(path), "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        port = re.search(r"127\.0\.0\.1:(\d+)", first)
        assert port, first
        query = dns.message.make_query("api.corp.test", "A")
        assert rows(dns.query.udp(query, "127.0.0.1", port=int(port[1]), timeout=20))
        assert "A IN api.corp.test. udp" in process.stdout.readline()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
        if process.stdout:
            process.stdout.close()
