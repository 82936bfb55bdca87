"""What is read out of packed DNS messages."""

from __future__ import annotations

import struct

from deadhop.fqdn import answers
from deadhop.fqdn.options import V1_20, Version
from deadhop.wire.dns import read_message

from ..real_cilium import Oracle, call
from .cases import Area, Case, Outcomes, Random
from .selectors import error_of

# DNS messages.


def any_wire_name(rng: Random) -> list[bytes]:
    labels = [
        rng.choice((b"a", b"b", b"Foo", b"foo", b"cilium", b"IO", b"io")) for _ in range(rng.randrange(1, 4))
    ]
    if rng.random() < 0.08:
        labels.insert(
            0, rng.choice((b"*", b"a.b", b"a b", b"\\", b"\x00", b'"', b"\xc3\xbc", b"(;@$)", b"_x", b"\x7f"))
        )
    return labels if rng.random() < 0.98 else []


def packed_name(labels: list[bytes]) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def any_data(rng: Random, kind: int, names: list[list[bytes]]) -> bytes:
    match kind:
        case 1:
            return bytes([10, 0, 0, rng.randrange(9)])
        case 28:
            mapped = bytes(10) + b"\xff\xff" + bytes([10, 0, 0, rng.randrange(9)])
            return rng.choice(
                (mapped, b"\x20\x01" + bytes(13) + bytes([rng.randrange(9)]), bytes(16), bytes(15) + b"\1")
            )
        case 5 | 2 | 12:
            return packed_name(rng.choice(names))
        case 15:
            return b"\0\1" + packed_name(rng.choice(names))
        case 33:
            return bytes(6) + packed_name(rng.choice(names))
        case 16:
            return b"\1x"
    return b"x"


def any_message(rng: Random) -> list[int]:
    names = [any_wire_name(rng) for _ in range(3)]
    response = rng.random() < 0.9
    questions = rng.choice((0, 1, 1, 1, 1, 1, 1, 1, 2))
    body = b""
    for number in range(questions):
        body += packed_name(names[number]) + struct.pack(">HH", rng.choice((1, 28, 255, 33, 64, 65, 1234)), 1)
    answers = rng.randrange(5) if response else 0
    owner = names[0]
    for _ in range(answers):
        kind = rng.choice((1, 1, 28, 28, 5, 5, 2, 15, 33, 16, 65280))
        data = any_data(rng, kind, names)
        body += packed_name(owner if rng.random() < 0.8 else rng.choice(names))
        body += struct.pack(">HHIH", kind, 1, rng.choice((0, 30, 60, 3600, 0xFFFFFFFF)), len(data)) + data
        if kind == 5 and rng.random() < 0.8:
            owner = next(name for name in names if packed_name(name) == data)
    flags = response << 15 | rng.choice((0, 0x0400, 0x0200)) | rng.choice((0, 0, 0, 2, 3, 5, 11))
    return list(struct.pack(">6H", 7, flags, questions, answers, 0, 0) + body)


def make_messages(rng: Random) -> Case:
    return [any_message(rng) for _ in range(10)]


def real_messages(oracle: Oracle, _: Version, case: Case) -> Outcomes:
    outcomes: Outcomes = []
    for answer in oracle.ask([call("dnsproxy.Extract", message) for message in case]):
        if error_of(answer):
            outcomes.append("error")
            continue
        keys = ("QName", "IPs", "TTL", "CNAMEs", "RCode", "AnswerTypes", "QTypes")
        outcomes.append([answer[key] for key in keys])
    return outcomes


def our_messages(version: Version, case: Case) -> Outcomes:
    outcomes: Outcomes = []
    for packed in case:
        try:
            message = read_message(bytes(packed))
            if message.response:
                found = answers.extract_response(message, version)
            else:
                found = answers.extract_request(message, version)
        except ValueError:
            outcomes.append("error")
            continue
        ttl = 0 if version >= V1_20 and not message.response else found.ttl
        rcode = 0 if version >= V1_20 and not message.response else message.rcode
        lists = (found.cnames, rcode, found.answer_types, found.qtypes)
        outcomes.append(
            [found.qname, list(found.ips), ttl, *(list(i) if isinstance(i, tuple) else i for i in lists)]
        )
    return outcomes


AREAS = (Area("messages", make_messages, real_messages, our_messages),)
