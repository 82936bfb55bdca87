"""Reading DNS messages on the hot path (RFC 1035 section 4, RFC 6891).

``read_question`` and ``read_answer`` look at what a policy agent needs (name, type, addresses, chain, smallest
TTL, EDNS) and make no object per record. ``read_message`` gives every record in presentation form. All of them
are total: any octets give a result or :class:`~deadhop.wire.names.WireError`. Octets behind the message are left
to the caller: ``end`` says where the message ended.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from struct import Struct
from typing import NamedTuple

from deadhop.model.dns import RR, Message, Question, type_name
from deadhop.wire.names import WireError, read_name, skip_name
from deadhop.wire.rdata import rdata_text

__all__ = [
    "NO_TTL",
    "Answer",
    "Edns",
    "Query",
    "WireError",
    "address_text",
    "answer_types",
    "read_answer",
    "read_message",
    "read_question",
]

QR = 0x8000
AA = 0x0400
TC = 0x0200
RD = 0x0100
RA = 0x0080
CD = 0x0010
NO_TTL = 0xFFFFFFFF

TYPE_A = 1
TYPE_CNAME = 5
TYPE_AAAA = 28
TYPE_OPT = 41
ADDRESSES = (TYPE_A, TYPE_AAAA)
QNAME_POINTER = 0xC00C
"""A pointer to the first question's name, behind the header of twelve octets."""

_HEADER = Struct("!6H")
_QUESTION_TAIL = Struct("!HH")
_FIXED = Struct("!HHIH")
_A_RECORD = Struct("!HHHIH4s")
_A_RECORDS = _A_RECORD.iter_unpack
_AAAA_RECORDS = Struct("!HHHIH16s").iter_unpack
_MAPPED = bytes(10) + b"\xff\xff"


class Edns(NamedTuple):
    """The OPT pseudo-record. ``size`` is the UDP payload its sender can take, in octets."""

    size: int
    extended_rcode: int
    version: int
    dnssec_ok: bool
    options: bytes


class Query(NamedTuple):
    """The question of a message. ``end`` is the offset behind the question section."""

    id: int
    flags: int
    name: str
    type: int
    klass: int
    end: int

    @property
    def response(self) -> bool:
        return bool(self.flags & QR)

    @property
    def opcode(self) -> int:
        return self.flags >> 11 & 15


class Answer(NamedTuple):
    """What a response says about its question.

    ``addresses`` are packed (4 or 16 octets) in the order of the answer section, ``cnames`` the targets in order,
    ``ttl`` the smallest of A, AAAA and CNAME (``NO_TTL`` where there is none), ``records`` the number of records of
    the answer section. ``in_order``: each record's owner is
    the name asked for or the CNAME target just before it, letter case aside.
    """

    query: Query
    rcode: int
    truncated: bool
    addresses: list[bytes]
    cnames: list[str]
    ttl: int
    records: int
    in_order: bool
    edns: Edns | None
    end: int

    @property
    def ips(self) -> list[str]:
        return [address_text(packed) for packed in self.addresses]


def address_text(packed: bytes) -> str:
    """An address in canonical text, IPv4-mapped IPv6 as IPv4."""
    if packed.startswith(_MAPPED):
        packed = packed[12:]
    if len(packed) == 4:
        a, b, c, d = packed
        return f"{a}.{b}.{c}.{d}"
    return str(IPv6Address(packed))


def read_question(data: bytes) -> Query:
    """The first question of a message. Raises :class:`WireError`, also where there is none."""
    if len(data) < 12:
        raise WireError(f"message of {len(data)} octets has no header")
    ident, flags, questions, _, _, _ = _HEADER.unpack_from(data)
    if not questions:
        raise WireError("message without a question")
    name, at = read_name(data, 12)
    if at + 4 > len(data):
        raise WireError(f"question ends early at octet {at}")
    rtype, klass = _QUESTION_TAIL.unpack_from(data, at)
    at += 4
    for _ in range(questions - 1):
        at = skip_name(data, at) + 4
    if at > len(data):
        raise WireError(f"question ends early at octet {len(data)}")
    return Query(ident, flags, name, rtype, klass, at)


def read_answer(data: bytes) -> Answer:
    """Question, addresses, chain, TTL and EDNS of a response. Raises :class:`WireError`."""
    query = read_question(data)
    size = len(data)
    answers, authority, additional = _HEADER.unpack_from(data)[3:]
    at = query.end
    ttl = NO_TTL
    addresses: list[bytes] = []
    cnames: list[str] = []
    in_order = True
    expected, expected_pointer = query.name, QNAME_POINTER
    seen = -1
    left = answers
    while left:
        room = size - at
        if room >= 16 and data[at] >= 0xC0:
            # A run of address records with compressed owners has a fixed size: sixteen octets each, or 28.
            kind = data[at + 3]
            width, wanted, records = (28, 16, _AAAA_RECORDS) if kind == TYPE_AAAA else (16, 4, _A_RECORDS)
            run = min(left, room // width)
            for owner, rtype, _, rttl, length, packed in records(data[at : at + width * run]):
                if length != wanted or rtype != kind or rtype not in ADDRESSES or owner < 0xC000:
                    break
                if owner != seen:
                    if owner != expected_pointer:
                        name = read_name(data, at)[0]
                        in_order = in_order and (name == expected or name.lower() == expected.lower())
                    seen = owner
                if rttl < ttl:
                    ttl = rttl
                addresses.append(packed)
                at += width
                left -= 1
            if not left:
                break
        owner_at = at
        if at + 1 < size and data[at] << 8 | data[at + 1] == expected_pointer:
            name = expected
            at += 2
        else:
            name, at = read_name(data, at)
        if at + 10 > size:
            raise WireError(f"record ends early at octet {owner_at}")
        rtype, _, rttl, length = _FIXED.unpack_from(data, at)
        start = at + 10
        at = start + length
        if at > size:
            raise WireError(f"record ends early at octet {owner_at}")
        if name is not expected and name.lower() != expected.lower():
            in_order = False
        if rtype in ADDRESSES:
            if length != (4 if rtype == TYPE_A else 16):
                raise WireError(f"address of {length} octets at octet {start}")
            addresses.append(data[start:at])
            ttl = min(ttl, rttl)
        elif rtype == TYPE_CNAME:
            expected, end = read_name(data, start)
            if end != at:
                raise WireError(f"CNAME does not fill its record at octet {start}")
            cnames.append(expected)
            expected_pointer = 0xC000 | start if start < 0x4000 else -1
            ttl = min(ttl, rttl)
            seen = -1
        left -= 1
    edns = None
    for _ in range(authority + additional):
        owner_at = at
        at = at + 1 if data[at : at + 1] == b"\0" else skip_name(data, at)
        if at + 10 > size:
            raise WireError(f"record ends early at octet {owner_at}")
        rtype, klass, rttl, length = _FIXED.unpack_from(data, at)
        at += 10 + length
        if at > size:
            raise WireError(f"record ends early at octet {owner_at}")
        if rtype == TYPE_OPT and edns is None:
            edns = Edns(klass, rttl >> 24, rttl >> 16 & 0xFF, bool(rttl & 0x8000), data[at - length : at])
    rcode = query.flags & 15
    if edns is not None:
        rcode |= edns.extended_rcode << 4
    truncated = bool(query.flags & TC)
    return Answer(query, rcode, truncated, addresses, cnames, ttl, answers, in_order, edns, at)


def answer_types(data: bytes, query: Query | None = None) -> tuple[int, ...]:
    """The types of the records of the answer section, in order; ``query`` is its question where that was read.

    Raises :class:`WireError`.
    """
    at = (query or read_question(data)).end
    types: list[int] = []
    for _ in range(_HEADER.unpack_from(data)[3]):
        owner_at = at
        at = skip_name(data, at)
        if at + 10 > len(data):
            raise WireError(f"record ends early at octet {owner_at}")
        rtype, _, _, length = _FIXED.unpack_from(data, at)
        types.append(rtype)
        at += 10 + length
    return tuple(types)


def _read_records(data: bytes, at: int, count: int) -> tuple[list[RR], int]:
    records: list[RR] = []
    for _ in range(count):
        owner_at = at
        name, at = read_name(data, at)
        if at + 10 > len(data):
            raise WireError(f"record ends early at octet {owner_at}")
        rtype, _, ttl, length = _FIXED.unpack_from(data, at)
        start = at + 10
        at = start + length
        if at > len(data):
            raise WireError(f"record ends early at octet {owner_at}")
        records.append(RR(name, ttl, type_name(rtype), rdata_text(data, start, at, rtype)))
    return records, at


def read_message(data: bytes) -> Message:
    """Every record in presentation form. Raises :class:`WireError`.

    The OPT record stays in ``additional`` with its UDP size unread; ``read_answer`` has it.
    """
    if len(data) < 12:
        raise WireError(f"message of {len(data)} octets has no header")
    ident, flags, questions, answers, authority, additional = _HEADER.unpack_from(data)
    at = 12
    asked: list[Question] = []
    for _ in range(questions):
        name, at = read_name(data, at)
        if at + 4 > len(data):
            raise WireError(f"question ends early at octet {at}")
        asked.append(Question(name, type_name(_QUESTION_TAIL.unpack_from(data, at)[0])))
        at += 4
    sections = []
    for count in (answers, authority, additional):
        records, at = _read_records(data, at, count)
        sections.append(tuple(records))
    extended = next((rr.ttl >> 24 for rr in sections[2] if rr.type == "OPT"), 0)
    return Message(
        id=ident,
        response=bool(flags & QR),
        opcode=flags >> 11 & 15,
        authoritative=bool(flags & AA),
        truncated=bool(flags & TC),
        recursion_desired=bool(flags & RD),
        recursion_available=bool(flags & RA),
        rcode=flags & 15 | extended << 4,
        questions=tuple(asked),
        answers=sections[0],
        authority=sections[1],
        additional=sections[2],
    )
