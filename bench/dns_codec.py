"""Answers a second on one core: ``wire.dns`` against dnspython, over the same messages in the same run.

An answer is one resource record of the answer section. Run: ``python bench/dns_codec.py [seconds per case]``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import pairwise

import dns.message

from deadhop.model.dns import RR, Message, Question
from deadhop.wire.build import build_error, build_query, write_message
from deadhop.wire.dns import read_answer, read_message, read_question


def response(addresses: int, chain: int, v6: bool = False) -> bytes:
    """One response: a CNAME chain and then addresses, with EDNS."""
    names = ["login.example.com.", *(f"edge{n}.cdn.example.net." for n in range(chain))]
    rrs = [RR(a, 300, "CNAME", b) for a, b in pairwise(names)]
    kind = "AAAA" if v6 else "A"
    rrs += [RR(names[-1], 60, kind, f"2001:db8::{n:x}" if v6 else f"192.0.2.{n}") for n in range(addresses)]
    message = Message(response=True, questions=(Question(names[0], kind),), answers=tuple(rrs))
    return write_message(message, edns_size=1232)


def rate(read: Callable[[bytes], object], data: bytes, seconds: float) -> float:
    """Calls a second, the best of three runs."""
    best = 0.0
    for _ in range(3):
        calls = 0
        started = time.perf_counter()
        while (spent := time.perf_counter() - started) < seconds / 3:
            for _ in range(200 if read is not dns.message.from_wire else 20):
                read(data)
            calls += 200 if read is not dns.message.from_wire else 20
        best = max(best, calls / spent)
    return best


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    cases = [
        ("1 A", response(1, 0), 1),
        ("8 A", response(8, 0), 8),
        ("3 CNAME + 8 A", response(8, 3), 11),
        ("2 CNAME + 4 AAAA", response(4, 2, v6=True), 6),
        ("30 A", response(30, 0), 30),
    ]
    print(
        f"{'response':<18} {'octets':>6} {'answers/s':>12} {'messages/s':>12} {'dnspython':>12} {'ratio':>7}"
    )
    for name, data, answers in cases:
        ours = rate(read_answer, data, seconds)
        theirs = rate(dns.message.from_wire, data, seconds)
        print(
            f"{name:<18} {len(data):>6} {ours * answers:>12,.0f} {ours:>12,.0f} {theirs:>12,.0f} {ours / theirs:>6.0f}x"
        )
    query = build_query(7, "login.example.com.", 1, edns_size=1232)
    for label, read in (
        ("read_question", read_question),
        ("build_error", lambda data: build_error(data, 5)),
        ("read_message", read_message),
    ):
        print(f"{label:<18} {len(query):>6} {'':>12} {rate(read, query, seconds):>12,.0f}")


if __name__ == "__main__":
    main()
