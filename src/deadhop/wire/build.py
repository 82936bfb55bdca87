"""Writing DNS messages: queries, whole responses with name compression, refusals and truncations."""

from __future__ import annotations

from struct import Struct

from deadhop.model.dns import RR, Message, type_number
from deadhop.wire.dns import AA, CD, QR, RA, RD, TC, TYPE_OPT, Query, read_question
from deadhop.wire.names import WireError, labels_of, skip_name, write_name
from deadhop.wire.rdata import rdata_octets

_HEADER = Struct("!6H")
_TAIL = Struct("!HH")
_FIXED = Struct("!HHIH")
_OPCODE = 0x7800
IN = 1
UNCOMPRESSED = frozenset({33, 39})
"""SRV (RFC 2782) and DNAME (RFC 6672) hold names that may not be compressed."""


def opt_record(size: int, *, extended_rcode: int = 0, dnssec_ok: bool = False) -> bytes:
    """An OPT pseudo-record without options (RFC 6891)."""
    return b"\0" + _FIXED.pack(TYPE_OPT, size, extended_rcode << 24 | (0x8000 if dnssec_ok else 0), 0)


def build_query(
    ident: int, name: str, rtype: int, *, edns_size: int | None = None, recursion_desired: bool = True
) -> bytes:
    """A query for one name. Raises ``ValueError`` where the name does not fit the wire."""
    header = _HEADER.pack(ident, RD if recursion_desired else 0, 1, 0, 0, 0 if edns_size is None else 1)
    opt = b"" if edns_size is None else opt_record(edns_size)
    return header + write_name(name) + _TAIL.pack(rtype, IN) + opt


def build_error(query: bytes, rcode: int, asked: Query | None = None) -> bytes:
    """The reply to ``query`` with an rcode and no records: id, opcode, RD and CD copied, question echoed.

    Raises :class:`WireError` where the query has no question.
    """
    asked = asked or read_question(query)
    flags = QR | asked.flags & (_OPCODE | RD | CD) | rcode & 15
    question = write_name(asked.name) + _TAIL.pack(asked.type, asked.klass)
    return _HEADER.pack(asked.id, flags, 1, 0, 0, 0) + question


class _Writer:
    """Octets so far and where each name suffix stands (RFC 1035 section 4.1.4: offsets of 14 bits)."""

    def __init__(self, start: int, compress: bool) -> None:
        self.out = bytearray()
        self.start = start
        self.compress = compress
        self.places: dict[tuple[bytes, ...], int] = {}

    def name(self, name: str, ahead: int = 0) -> bytes:
        labels = [label.lower() if self.compress else label for label in labels_of(name)]
        written = labels_of(name)
        octets = bytearray()
        for index in range(len(labels)):
            suffix = tuple(labels[index:])
            place = self.places.get(suffix)
            if self.compress and place is not None:
                return bytes(octets) + (0xC000 | place).to_bytes(2, "big")
            here = self.start + len(self.out) + ahead + len(octets)
            if here < 0x4000:
                self.places.setdefault(suffix, here)
            octets += bytes([len(written[index])]) + written[index]
        return bytes(octets) + b"\0"

    def record(self, rr: RR) -> None:
        rtype = type_number(rr.type)
        self.out += self.name(rr.name)
        used = 10

        def name_writer(text: str) -> bytes:
            nonlocal used
            octets = write_name(text) if rtype in UNCOMPRESSED else self.name(text, used)
            used += len(octets)
            return octets

        if rtype in (15, 33):
            used += 2 if rtype == 15 else 6
        data = rdata_octets(rtype, rr.data, name_writer)
        self.out += _FIXED.pack(rtype, IN, rr.ttl & 0xFFFFFFFF, len(data)) + data


def write_message(message: Message, *, edns_size: int | None = None, compress: bool = True) -> bytes:
    """A whole message. OPT records of ``additional`` are replaced by one for ``edns_size``. Raises ``ValueError``."""
    writer = _Writer(12, compress)
    for question in message.questions:
        writer.out += writer.name(question.name) + _TAIL.pack(type_number(question.type), IN)
    additional = [rr for rr in message.additional if rr.type != "OPT"]
    for rr in (*message.answers, *message.authority, *additional):
        writer.record(rr)
    flags = message.opcode << 11 | message.rcode & 15
    for present, bit in (
        (message.response, QR),
        (message.authoritative, AA),
        (message.truncated, TC),
        (message.recursion_desired, RD),
        (message.recursion_available, RA),
    ):
        flags |= bit if present else 0
    opt = b"" if edns_size is None else opt_record(edns_size, extended_rcode=message.rcode >> 4)
    counts = (
        len(message.questions),
        len(message.answers),
        len(message.authority),
        len(additional) + bool(opt),
    )
    return _HEADER.pack(message.id, flags, *counts) + bytes(writer.out) + opt


def message_size(message: Message, *, edns_size: int | None = None, compress: bool = True) -> int:
    """The octets of a message on the wire."""
    return len(write_message(message, edns_size=edns_size, compress=compress))


def truncate(response: bytes, limit: int) -> bytes:
    """The response within ``limit`` octets: whole records from the front, TC set where one was cut, OPT kept.

    Nothing below header, question and OPT is cut off further. Raises :class:`WireError`.
    """
    if len(response) <= limit:
        return response
    at = question_end = read_question(response).end
    ident, flags, questions, *counts = _HEADER.unpack_from(response)
    ends: list[int] = []
    opt = b""
    for _ in range(sum(counts)):
        start = at
        at = skip_name(response, at)
        if at + 10 > len(response):
            raise WireError(f"record ends early at octet {start}")
        rtype, _, _, length = _FIXED.unpack_from(response, at)
        at += 10 + length
        if at > len(response):
            raise WireError(f"record ends early at octet {start}")
        if rtype == TYPE_OPT:
            opt = response[start:at]
        else:
            ends.append(at)
    kept = [end for end in ends if end + len(opt) <= limit]
    body_end = kept[-1] if kept else question_end
    left = len(kept)
    sections = []
    for count in counts:
        taken = min(left, count)
        sections.append(taken)
        left -= taken
    if opt:
        sections[2] += 1
    header = _HEADER.pack(ident, flags | TC, questions, *sections)
    return header + response[12:body_end] + opt
