"""Hostile servers and hostile pods against the real agent: what they send, and what comes of it."""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest

from agent.rig import IP, NAME, OTHER, Rig, a_record, honest, reply, rig
from deadhop.lab.scenarios._fqdn import DNS, addresses, allow_names
from deadhop.model.dns import RR, Rcode
from deadhop.wire.build import build_query
from deadhop.wire.dns import read_message
from deadhop.wire.framing import Framer, frame

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def shared() -> Iterator[Rig]:
    with rig(policy=allow_names("*.k8s.intra", dns=("*.k8s.intra",))) as made:
        yield made


@pytest.fixture
def attack(shared: Rig) -> Rig:
    shared.server.handler = honest
    shared.server.queries.clear()
    shared.agent.command("fqdn", "cache", "clean", "-f")
    return shared


def still_serves(attack: Rig, name: str = "alive.k8s.intra.") -> None:
    attack.server.handler = honest
    assert addresses(attack.cluster.ask("b", name)) == [IP]
    assert attack.agent.running.poll() is None


# A hostile server, or somebody who pretends to be the server


def test_an_answer_with_another_id_is_not_learned(attack: Rig) -> None:
    before = attack.count("mismatched")

    def forge(query: bytes) -> list[bytes]:
        forged = reply(query, a_record(query, OTHER))
        wrong = bytes([forged[0] ^ 1]) + forged[1:]
        return [wrong, *honest(query)]

    attack.server.handler = forge
    assert addresses(attack.cluster.ask("a", NAME)) == [IP]
    assert attack.count("mismatched") == before + 1
    assert not attack.cluster.reaches("a", OTHER)


def test_guessing_ids_ahead_of_the_answer(attack: Rig) -> None:
    before = attack.count("mismatched")

    def guess(query: bytes) -> list[bytes]:
        forged = reply(query, a_record(query, OTHER))[2:]
        right = int.from_bytes(query[:2], "big")
        guesses = [number for number in range(500) if number != right]
        return [*(number.to_bytes(2, "big") + forged for number in guesses), *honest(query)]

    attack.server.handler = guess
    assert addresses(attack.cluster.ask("a", NAME)) == [IP]
    assert attack.count("mismatched") >= before + 499
    assert not attack.cluster.reaches("a", OTHER)


def test_ids_and_ports_towards_servers_do_not_repeat_the_pods(attack: Rig) -> None:
    query = build_query(0x1234, NAME, 1)
    with attack.cluster.lab.inside("a"):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(5)
        sock.connect((DNS, 53))
        for _ in range(20):
            sock.send(query)
            assert sock.recv(4096)[:2] == b"\x12\x34", "the client gets its own id back"
        own = sock.getsockname()[1]
    ids = {data[:2] for data, _ in attack.server.queries}
    assert len(ids) > 10
    assert {peer[0] for _, peer in attack.server.queries} == {attack.cluster.pods["a"][1]}, (
        "the server sees the pod"
    )
    assert own not in {peer[1] for _, peer in attack.server.queries}


def test_an_answer_to_another_question_is_not_learned(attack: Rig) -> None:
    before = attack.count("mismatched")

    def forge(query: bytes) -> list[bytes]:
        ident = int.from_bytes(query[:2], "big")
        other = build_query(ident, "evil.k8s.intra.", 1)
        return [reply(other, a_record(other, OTHER)), *honest(query)]

    attack.server.handler = forge
    assert addresses(attack.cluster.ask("a", NAME)) == [IP]
    assert attack.names() == {NAME}
    assert attack.count("mismatched") == before + 1


def test_an_answer_from_another_server_is_not_learned(attack: Rig) -> None:
    attack.cluster.outside_address("10.70.9.66")
    with attack.cluster.lab.inside("outside"):
        stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stranger.bind(("10.70.9.66", 53))

    def forge(query: bytes) -> list[bytes]:
        peer = attack.server.queries[-1][1]
        stranger.sendto(reply(query, a_record(query, OTHER)), peer)
        stranger.sendto(reply(query, a_record(query, OTHER)), (peer[0], 53))
        return honest(query)

    attack.server.handler = forge
    with stranger:
        assert addresses(attack.cluster.ask("a", NAME)) == [IP]
    assert not attack.cluster.reaches("a", OTHER)


def test_an_answer_is_taken_once(attack: Rig) -> None:
    before = attack.count("mismatched")
    attack.server.handler = lambda query: [*honest(query), reply(query, a_record(query, OTHER))]
    assert addresses(attack.cluster.ask("a", NAME)) == [IP]
    attack.until(lambda: attack.count("mismatched") == before + 1)
    assert not attack.cluster.reaches("a", OTHER)


def test_letter_case_may_differ(attack: Rig) -> None:
    mixed = "EcHo.K8s.iNtRa."
    attack.server.handler = lambda query: [reply(query[:2] + query[2:].lower(), a_record(query))]
    answer = attack.cluster.ask("a", mixed)
    assert addresses(answer) == [IP]
    assert attack.names() == {NAME}
    attack.server.handler = honest
    answer = attack.cluster.ask("b", mixed)
    assert answer is not None
    assert answer.questions[0].name == mixed, "the server's letters are passed on"


def test_addresses_outside_the_answer_section_teach_nothing(attack: Rig) -> None:
    extra = (RR(NAME, 30, "A", OTHER),)
    attack.server.handler = lambda query: [reply(query, a_record(query), additional=extra, authority=extra)]
    assert addresses(attack.cluster.ask("a", NAME)) == [IP]
    assert not attack.cluster.reaches("a", OTHER)


def test_the_longest_ttl_and_none(attack: Rig) -> None:
    for ttl in (0x7FFFFFFF, 0xFFFFFFFF, 0):
        attack.server.handler = lambda query, ttl=ttl: [reply(query, a_record(query, ttl=ttl))]  # type: ignore[misc]
        assert addresses(attack.cluster.ask("a", f"t{ttl}.k8s.intra.")) == [IP]
        assert attack.cluster.connects("a", IP)
    assert attack.count("set_errors") == 0
    still_serves(attack)


def test_an_error_with_addresses_teaches_nothing(attack: Rig) -> None:
    attack.server.handler = lambda query: [reply(query, a_record(query), rcode=Rcode.NXDOMAIN)]
    attack.cluster.ask("a", NAME)
    assert attack.names() == set()
    assert not attack.cluster.reaches("a", IP)


def test_a_name_cannot_open_a_pod_or_the_node(attack: Rig) -> None:
    pod, node = attack.cluster.pods["b"][1], "10.70.1.2"
    attack.server.handler = lambda query: [reply(query, a_record(query, pod), a_record(query, node))]
    assert addresses(attack.cluster.ask("a", NAME)) == [pod, node]
    with attack.cluster.lab.inside("b"):
        listener = socket.create_server((pod, 8080))
    with listener:
        assert not attack.cluster.reaches("a", pod)
    assert not attack.cluster.reaches("a", node, 22)
    assert attack.agent.ask("status")["elements"] == 0


@pytest.mark.parametrize(
    "tail",
    [
        b"\xc0\x0c" * 3,
        b"\xc0\x1c\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x04\x01\x02",
        b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x03\x01\x02\x03",
        b"\xc0\xff\x00\x01",
        b"\x3f" + b"a" * 10,
        b"",
    ],
)
def test_damaged_answers_give_servfail(attack: Rig, tail: bytes) -> None:
    def damage(query: bytes) -> list[bytes]:
        head = reply(query)
        return [head[:6] + b"\0\1" + head[8:] + tail]

    attack.server.handler = damage
    answer = attack.cluster.ask("a", NAME)
    assert answer is not None
    assert answer.rcode == Rcode.SERVFAIL
    assert attack.names() == set()
    still_serves(attack)


def test_names_that_point_at_themselves_and_bombs_of_pointers(attack: Rig) -> None:
    """Each of many records has an owner that points to the record before: a naive reader takes quadratic time."""

    def bomb(query: bytes) -> list[bytes]:
        head = bytearray(reply(query))
        count = 3000
        head[6:8] = count.to_bytes(2, "big")
        place = 12
        for _ in range(count):
            here = len(head)
            head += (
                b"\1a" + (0xC000 | place).to_bytes(2, "big") + struct.pack("!HHIH", 1, 1, 30, 4) + b"\1\2\3\4"
            )
            place = here if here < 0x3FFF else place
        return [bytes(head[:65000])]

    attack.server.handler = bomb
    attack.cluster.ask("a", NAME, tcp=True)
    still_serves(attack)


def test_a_giant_chain_and_thousands_of_addresses(attack: Rig) -> None:
    def giant(query: bytes) -> list[bytes]:
        chain, owner = [], read_message(query).questions[0].name
        for number in range(1200):
            target = f"c{number}.example."
            chain.append(RR(owner, 30, "CNAME", target))
            owner = target
        records = [RR(owner, 30, "A", f"198.18.{n // 250}.{n % 250}") for n in range(1200)]
        return [reply(query, *chain, *records)]

    attack.server.handler = giant
    answer = attack.cluster.ask("a", NAME, tcp=True)
    assert len(addresses(answer)) == 1200
    assert attack.names() == {NAME}
    attack.agent.ask("collect")
    listed = attack.agent.ask("cache-list")["rows"]
    assert isinstance(listed, list)
    still_serves(attack)


# A hostile pod


def datagrams(attack: Rig, pod: str, messages: list[bytes]) -> None:
    with attack.cluster.lab.inside(pod):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        for message in messages:
            sock.sendto(message, (DNS, 53))


def test_random_datagrams(attack: Rig) -> None:
    noise = random.Random(7)
    query = build_query(1, NAME, 1)
    messages = [noise.randbytes(noise.randrange(1, 600)) for _ in range(1000)]
    for _ in range(1000):
        changed = bytearray(query)
        for _ in range(noise.randrange(1, 5)):
            changed[noise.randrange(len(changed))] = noise.randrange(256)
        messages.append(bytes(changed[: noise.randrange(1, len(changed) + 1)]))
    datagrams(attack, "a", messages)
    still_serves(attack)
    assert attack.count("errors") == 0


def test_a_zero_octet_in_a_label_does_not_borrow_a_verdict(attack: Rig) -> None:
    """The memo of verdicts finds the end of a name by its first zero octet."""
    head = build_query(1, NAME, 1)[:12]
    allowed = b"\4echo\3k8s\5intra\0\0\1\0\1"
    for tail in (
        b"\5ec\0ho\3k8s\5intra\0\0\1\0\1",
        b"\4echo\3k8s\5intr\0\0\0\1\0\1",
        b"\2a\0\4evil\3com\0\0\1\0\1",
    ):
        datagrams(attack, "a", [head + allowed, head + tail, head + allowed])
    still_serves(attack)
    asked = {read_message(data).questions[0].name for data, _ in attack.server.queries}
    assert asked == {NAME, "alive.k8s.intra."}


def test_a_pod_cannot_speak_as_another(attack: Rig) -> None:
    """Its packets with the other's address are dropped before anything looks at them."""
    before = attack.agent.drops()["invalid_source"]
    victim = attack.cluster.pods["b"][1]
    attack.cluster.lab.ip("a", [f"addr add {victim}/32 dev eth0"])
    try:
        with attack.cluster.lab.inside("a"):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.bind((victim, 0))
            sock.sendto(build_query(1, "stolen.k8s.intra.", 1), (DNS, 53))
        attack.until(lambda: attack.agent.drops()["invalid_source"] == before + 1)
    finally:
        attack.cluster.lab.ip("a", [f"addr del {victim}/32 dev eth0"])
    assert attack.server.queries == []


def stream(attack: Rig, pod: str) -> socket.socket:
    with attack.cluster.lab.inside(pod):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(10)
    sock.connect((DNS, 53))
    return sock


def test_frames_without_content_and_in_single_octets(attack: Rig) -> None:
    with stream(attack, "a") as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(b"\0\0" * 20)
        for octet in frame(build_query(7, NAME, 1)):
            sock.sendall(bytes([octet]))
        framer, got = Framer(), list[bytes]()
        while not got:
            got = framer.feed(sock.recv(4096))
        assert addresses(read_message(got[0])) == [IP]
    still_serves(attack)


def test_a_slow_stream_is_closed(attack: Rig) -> None:
    with stream(attack, "a") as sock:
        sock.sendall(b"\0\x40abc")
        assert sock.recv(1) == b"", "a message that does not go on is not waited for"
    still_serves(attack)


def test_a_stream_that_asks_for_ever_is_closed(attack: Rig) -> None:
    with stream(attack, "a") as sock:
        framer, answers = Framer(), 0
        for number in range(129):
            sock.sendall(frame(build_query(number, NAME, 1)))
            if number < 128:
                got: list[bytes] = []
                while not got:
                    got = framer.feed(sock.recv(65535))
                answers += len(got)
        assert answers == 128
        with suppress(ConnectionResetError):
            assert sock.recv(65535) == b""


def test_too_many_streams_of_one_pod(attack: Rig) -> None:
    before = attack.count("tcp_limited")
    streams = [stream(attack, "a") for _ in range(530)]
    try:
        attack.until(lambda: attack.count("tcp_limited") > before)
        assert addresses(attack.cluster.ask("b", NAME, tcp=True)) == [IP], "the other pod is served"
    finally:
        for sock in streams:
            sock.close()


def test_a_flood_that_no_server_answers(attack: Rig) -> None:
    """One pod's outstanding queries are bounded; the other pod does not notice."""
    before = attack.count("limited")
    attack.server.handler = lambda query: honest(query) if b"alive" in query else []
    queries = [build_query(n & 0xFFFF, f"n{n}.k8s.intra.", 1) for n in range(10_000)]
    with attack.cluster.lab.inside("a"):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.connect((DNS, 53))
        for number, query in enumerate(queries):
            sock.send(query)
            if number % 200 == 199:  # no faster than the agent takes them, so that they count
                attack.until(lambda wanted=number: attack.count("received") > wanted)  # type: ignore[misc]
        attack.until(lambda: attack.count("limited") > before)
        assert addresses(attack.cluster.ask("b", "alive.k8s.intra.")) == [IP]
    with open(f"/proc/{attack.agent.running.pid}/statm") as file:
        memory = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    assert memory < 400 << 20
