"""The filter language: its grammar, and the compiled filter against a Python evaluator of the same tree.

The compiled filter runs in the kernel's own verifier and JIT by BPF_PROG_TEST_RUN: a classifier loads an event from
its packet to the stack, where the probes keep it, and returns what the filter says.
"""

from __future__ import annotations

import contextlib
import os
import random
import struct
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadhop.kernel import syscalls
from deadhop.kernel.assembler import FP, R0, R2, R3, R4, SKB_LOAD_BYTES, Assembler
from deadhop.kernel.capture import EVENT
from deadhop.kernel.event import LAYOUT, SIZE, Event
from deadhop.kernel.filter import FilterError, Node, compile_filter, matches, parse
from deadhop.kernel.syscalls import NoProbe

REASONS = {"NOT_SPECIFIED": 2, "IP_RPFILTER": 16, "PKT_TOO_BIG": 93}
NAMESPACES = {"web": 4026532300, "self": 4026531833}

FILTERS = [
    "", "tcp", "udp", "icmp", "icmp6", "ip", "ip6", "arp", "sctp", "proto 47", "proto tcp",
    "udp and src port 9053", "port 53", "tcp dst port 443", "portrange 1000-2000", "src portrange 0-1023",
    "host 10.0.0.63", "src host 10.0.0.63", "dst 10.0.0.63", "net 10.0.0.0/8", "dst net 10.0.0.0/13", "net 0.0.0.0/0",
    "host fd00::63", "net fd00::/8", "net fd00:0:0:1::/64", "src net fd00::/72", "net ::/0", "net fd00::60/126",
    "dev lxc0", "not dev lxc0", "dev fifteen-bytes-x", "netns web", "netns 4026531833 or netns web", "reason PKT_TOO_BIG",
    "not reason skb_drop_reason_ip_rpfilter", "mark 0x1", "mark 0x200/0xf00", "less 100", "greater 1500",
    "udp and (port 53 or port 9053) and not net 10.0.0.0/8", "! udp || tcp && port 53", "not (tcp or udp)",
    "tcp port 80 or 443", "src 10.0.0.63 or 10.0.0.64 and udp", "not not ip", "mark 0xffffffff", "greater 0xffffffff",
]  # fmt: skip


def tree(text: str) -> Node:
    return parse(text, REASONS, lambda name: int(name) if name.isdecimal() else NAMESPACES[name])


def an_event(choose: random.Random) -> bytes:
    """A random event, with values that the filters ask for and their neighbours."""
    version = choose.choice([0, 4, 4, 4, 6, 6])
    four = [
        bytes([10, 0, 0, 63]),
        bytes([10, 0, 0, 64]),
        bytes([10, 7, 255, 255]),
        bytes([10, 8, 0, 0]),
        bytes([192, 0, 2, 1]),
    ]
    six = [
        bytes.fromhex(t)
        for t in (
            "fd" + "00" * 14 + "63",
            "fd0000000000000100" + "0" * 12 + "63",
            "fd" + "00" * 14 + "64",
            "20010db8" + "00" * 12,
        )
    ]
    addresses = [a.ljust(16, b"\0") for a in four] if version == 4 else six if version == 6 else [bytes(16)]
    proto = choose.choice([1, 6, 17, 47, 58, 132]) if version else 0
    ports = proto in (6, 17, 132) and choose.random() < 0.9
    port = [0, 53, 80, 443, 999, 1000, 2000, 2001, 9053, 1023, 1024, 65535]
    return LAYOUT.pack(
        1, 2, 3, choose.choice([0, 2, 16, 93, 1 << 16]), choose.choice([0, *NAMESPACES.values(), 0xFFFFFFFF]), 4, 5,
        choose.choice([0, 1, 0x200, 0x2FF, 0x80000001, 0xFFFFFFFF]), choose.choice([0, 28, 99, 100, 101, 1499, 1500, 2379, 0xFFFFFFFF]),
        choose.choice([b"\x08\x00", b"\x86\xdd", b"\x08\x06", b"\0\0"]), 20, version, proto, int(ports), 1, 1500, 0,
        choose.choice([b"lxc0", b"lxc", b"lxc01", b"fifteen-bytes-x", b"eth0", b""]), choose.choice(addresses), choose.choice(addresses),
        struct.pack(">H", choose.choice(port) if ports else 0), struct.pack(">H", choose.choice(port) if ports else 0), 1, b"x", bytes(128),
    )  # fmt: skip


def in_kernel(node: Node) -> int:
    """A loaded classifier that answers with the filter's verdict on the event behind 14 bytes of its packet."""
    asm = Assembler()
    asm.mov_imm(R2, 14)
    asm.mov(R3, FP)
    asm.add_imm(R3, EVENT)
    asm.mov_imm(R4, SIZE)
    asm.call(SKB_LOAD_BYTES)
    asm.jump_if("ne", R0, 0, "failed")
    asm.jump_if("ne", R0, 0, "no")  # the verifier wants a way to every instruction, though all may pass
    compile_filter(asm, node, "yes", "no")
    for label, answer in (("yes", 1), ("no", 0), ("failed", 99)):
        asm.label(label)
        asm.mov_imm(R0, answer)
        asm.exit()
    return syscalls.load(syscalls.PROG_SCHED_CLS, asm.code())


@cache
def unavailable() -> str:
    try:
        os.close(in_kernel(tree("")))
    except NoProbe as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def events() -> list[bytes]:
    choose = random.Random(7)
    return [an_event(choose) for _ in range(300)]


@pytest.mark.skipif(bool(unavailable()), reason=f"cannot load BPF: {unavailable()}")
@pytest.mark.parametrize("text", FILTERS)
def test_the_compiled_filter_says_what_the_evaluator_says(text: str, events: list[bytes]) -> None:
    node = tree(text)
    program = in_kernel(node)
    try:
        for event in events:
            assert syscalls.test_run(program, bytes(14) + event) == matches(node, Event(event)), (text, event)
    finally:
        os.close(program)


@pytest.mark.skipif(bool(unavailable()), reason=f"cannot load BPF: {unavailable()}")
def test_random_filters_agree_too(events: list[bytes]) -> None:
    choose = random.Random(11)
    for _ in range(60):
        text = choose.choice(FILTERS[1:])
        for _ in range(choose.randrange(1, 6)):
            text = f"{choose.choice(['', 'not '])}({text}) {choose.choice(['and', 'or'])} {choose.choice(['', 'not '])}({choose.choice(FILTERS[1:])})"
        node = tree(text)
        program = in_kernel(node)
        try:
            for event in events[:80]:
                assert syscalls.test_run(program, bytes(14) + event) == matches(node, Event(event)), text
        finally:
            os.close(program)


def test_every_filter_lets_something_pass_and_stops_something(events: list[bytes]) -> None:
    """Otherwise the comparison above would say little."""
    for text in FILTERS:
        found = {matches(tree(text), Event(event)) for event in events}
        assert True in found, text
        assert (False in found) == (text != ""), text


def test_and_and_or_group_from_the_left_as_in_tcpdump() -> None:
    assert tree("tcp or udp and port 53") == tree("(tcp or udp) and port 53")
    assert tree("not tcp and udp") == tree("(not tcp) and udp")


def test_a_value_alone_takes_the_words_before_it() -> None:
    assert tree("port 53 or 5353") == tree("port 53 or port 5353")
    assert tree("tcp dst port http") == tree("tcp and dst port 80")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("udp and src prot 9053", "'prot'; did you mean port?"),
        ("host example.com", "names are not looked up"),
        ("port 70000", "ports end at 65535"),
        ("port no-such-service", "no port or service"),
        ("(tcp", "a ) is missing"),
        ("tcp)", "what should ')' say here"),
        ("tcp udp", "join with and, or"),
        ("not", "a condition is missing"),
        ("dev", "what follows dev is missing"),
        ("dev a-name-that-is-too-long", "at most 15 bytes"),
        ("reason PKT_TOO_BGI", "near: PKT_TOO_BIG"),
        ("mark 1/x", "'x' is no number"),
        ("host 10.0.0.0/8", "write net"),
        ("portrange 5", "a range is LOW-HIGH"),
        ("(" * 200, "nested too deep"),
    ],
)
def test_a_slip_is_answered_with_its_place(text: str, says: str) -> None:
    with pytest.raises(FilterError) as error:
        tree(text)
    assert says in str(error.value)
    assert str(error.value).endswith("^")


def test_a_filter_too_long_for_the_tree_is_refused() -> None:
    with pytest.raises(FilterError, match="at most 500 words"):
        tree(" and ".join(["tcp"] * 400))


@given(st.text(alphabet=st.sampled_from(" ()!&|tcpudporsthn0123456789./:-"), max_size=60))
def test_parsing_is_total(text: str) -> None:
    with contextlib.suppress(FilterError):
        parse(text, REASONS)
