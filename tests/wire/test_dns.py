"""The codec: agrees with dnspython on what is well formed, and is total on everything else."""

from __future__ import annotations

import random
from contextlib import suppress

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deadhop.model.dns import RR, Message, Question, type_number
from deadhop.wire.build import build_error, build_query, message_size, truncate, write_message
from deadhop.wire.dns import NO_TTL, WireError, address_text, read_answer, read_message, read_question
from deadhop.wire.framing import Framer, frame
from deadhop.wire.names import labels_of, read_name, skip_name, write_name

LABEL = st.binary(min_size=1, max_size=12)
NAME = st.lists(LABEL, max_size=5).map(lambda labels: dns.name.Name([*labels, b""]))
IPV4 = st.ip_addresses(v=4).map(str)
IPV6 = st.ip_addresses(v=6).map(lambda a: str(a))
TTL = st.integers(0, 0x7FFFFFFF)


@st.composite
def responses(draw: st.DrawFn) -> dns.message.Message:
    qname = draw(NAME)
    qtype = draw(st.sampled_from(["A", "AAAA", "CNAME", "SRV", "MX", "TXT", "HTTPS"]))
    query = dns.message.make_query(
        qname, qtype, use_edns=draw(st.booleans()), payload=draw(st.integers(512, 4096))
    )
    response = dns.message.make_response(query, our_payload=draw(st.integers(512, 4096)))
    response.set_rcode(draw(st.sampled_from([0, 2, 3, 5])))
    owner = qname
    for target in draw(st.lists(NAME, max_size=3)):
        response.answer.append(dns.rrset.from_text(owner, draw(TTL), "IN", "CNAME", target.to_text()))
        owner = target
    for kind, values in (
        ("A", draw(st.lists(IPV4, max_size=6, unique=True))),
        ("AAAA", draw(st.lists(IPV6, max_size=3, unique=True))),
    ):
        if values:
            response.answer.append(dns.rrset.from_text(owner, draw(TTL), "IN", kind, *values))
    for section in (response.authority, response.additional):
        if draw(st.booleans()):
            section.append(dns.rrset.from_text(qname, draw(TTL), "IN", "MX", f"10 {owner.to_text()}"))
            section.append(dns.rrset.from_text(qname, draw(TTL), "IN", "TXT", '"a b" "\\"\\255"'))
            section.append(dns.rrset.from_text(qname, draw(TTL), "IN", "SRV", f"0 5 88 {owner.to_text()}"))
    return response


@given(responses())
@settings(max_examples=120, deadline=None)
def test_agrees_with_dnspython(response: dns.message.Message) -> None:
    data = response.to_wire(want_shuffle=False)
    answer = read_answer(data)
    parsed = dns.message.from_wire(data, one_rr_per_rrset=True)
    assert answer.query.name == parsed.question[0].name.to_text()
    assert answer.query.type == parsed.question[0].rdtype
    assert (answer.query.id, answer.rcode) == (parsed.id, parsed.rcode())
    records = [(rrset, rrset[0]) for rrset in parsed.answer]
    addresses = [rd.address for rrset, rd in records if rrset.rdtype in (1, 28)]
    assert [address_text(packed) for packed in answer.addresses] == [
        a.removeprefix("::ffff:") if a.startswith("::ffff:") and "." in a else a for a in addresses
    ]
    assert answer.cnames == [rd.target.to_text() for rrset, rd in records if rrset.rdtype == 5]
    ttls = [rrset.ttl for rrset, _ in records if rrset.rdtype in (1, 5, 28)]
    assert answer.ttl == min(ttls, default=NO_TTL)
    assert answer.records == len(records)
    assert answer.end == len(data)
    assert (answer.edns.size if answer.edns else None) == (parsed.payload if parsed.edns >= 0 else None)
    expected, in_order = parsed.question[0].name, True
    for rrset, rd in records:
        in_order = in_order and rrset.name == expected
        expected = rd.target if rrset.rdtype == 5 else expected
    assert answer.in_order is in_order
    message = read_message(data)
    for ours, theirs in ((message.answers, parsed.answer), (message.authority, parsed.authority)):
        assert [(rr.name, rr.ttl, rr.type, rr.data) for rr in ours] == [
            (s.name.to_text(), s.ttl, dns.rdatatype.to_text(s.rdtype), s[0].to_text()) for s in theirs
        ]


@given(responses(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_we_write_dnspython_reads(response: dns.message.Message, compress: bool) -> None:
    message = read_message(response.to_wire())
    data = write_message(message, edns_size=1232, compress=compress)
    again = read_message(data)
    assert (again.answers, again.authority, again.questions) == (
        message.answers,
        message.authority,
        message.questions,
    )
    theirs = dns.message.from_wire(data, one_rr_per_rrset=True)
    assert len(theirs.answer) == len(message.answers)
    assert theirs.payload == 1232
    assert message_size(message) <= message_size(message, compress=False)


@given(st.binary(max_size=200))
@settings(max_examples=800, deadline=None)
@example(bytes(12))
@example(b"\0\0\x80\0\0\1\0\1\0\0\0\0" + b"\xc0\x0c\0\1\0\1")
@example(b"\0\0\x80\0\0\1\0\1\0\0\0\0" + b"\1a\0\0\1\0\1" + b"\xc0\x0c\0\5\0\1\0\0\0\0\0\2\xc0\x1c")
def test_any_octets_give_a_result_or_a_wire_error(data: bytes) -> None:
    for reader in (read_question, read_answer, read_message):
        with suppress(WireError):
            reader(data)


@given(responses(), st.integers(0, 1 << 30), st.integers(1, 6))
@settings(max_examples=120, deadline=None)
def test_damaged_messages(response: dns.message.Message, seed: int, flips: int) -> None:
    data = bytearray(response.to_wire())
    chance = random.Random(seed)
    for _ in range(flips):
        data[chance.randrange(len(data))] = chance.randrange(256)
    for reader in (read_question, read_answer, read_message):
        with suppress(WireError):
            reader(bytes(data))


@given(responses(), st.binary(max_size=20))
@settings(max_examples=25, deadline=None)
def test_cut_anywhere_and_with_octets_behind(response: dns.message.Message, behind: bytes) -> None:
    data = response.to_wire()
    whole = read_answer(data)
    assert read_answer(data + behind) == whole
    for size in range(len(data)):
        with pytest.raises(WireError):
            read_answer(data[:size])


@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(1, 40))
def test_framing_fed_whole_by_pieces_and_with_a_rest(messages: list[bytes], piece: int) -> None:
    stream = b"".join(map(frame, messages))
    assert Framer().feed(stream) == messages
    framer, got = Framer(), []
    for at in range(0, len(stream), piece):
        got += framer.feed(stream[at : at + piece])
    assert got == messages
    assert framer.pending == 0
    assert framer.feed(b"\0\5ab") == []
    assert framer.pending == 4
    with pytest.raises(ValueError):
        frame(bytes(65536))


@given(NAME)
def test_names_both_ways(name: dns.name.Name) -> None:
    octets = name.to_wire()
    text, end = read_name(octets, 0)
    assert (text, end) == (name.to_text(), len(octets))
    assert skip_name(octets, 0) == end
    assert write_name(text) == octets


@pytest.mark.parametrize(
    "name", ["a..b", ".a", "a" * 64, ".".join(["a" * 60] * 5), "a\\", "a\\999b", "a\\1b\\"]
)
def test_names_that_do_not_fit(name: str) -> None:
    with pytest.raises(ValueError):
        labels_of(name)


@pytest.mark.parametrize(
    "octets",
    [
        b"\xc0\x00",
        b"\1a\xc0\x00",
        b"\x40a\0",
        b"\x80\0",
        b"\5ab",
        b"",
        b"\1",
        (b"\x3f" + b"a" * 63) * 4 + b"\0",
    ],
)
def test_bad_names(octets: bytes) -> None:
    with pytest.raises(WireError):
        read_name(octets, 0)


def test_long_chains_of_pointers_end() -> None:
    data = bytearray(b"\1a\0")
    for _ in range(8000):
        data += (0xC000 | max(len(data) - 2, 0) if len(data) > 3 else 0xC000).to_bytes(2, "big")
    assert read_name(bytes(data), len(data) - 2) == ("a.", len(data))


def test_refusal_copies_what_it_must() -> None:
    query = build_query(0xBEEF, "Evil.Example.com.", 28, edns_size=4096)
    refused = build_error(query, 5)
    assert dns.message.from_wire(refused).rcode() == dns.rcode.REFUSED
    asked = read_question(refused)
    assert (asked.id, asked.name, asked.type) == (0xBEEF, "Evil.Example.com.", 28)
    assert asked.response
    assert asked.flags & 0x0100
    assert len(refused) == 12 + 18 + 4
    with pytest.raises(WireError):
        build_error(bytes(12), 5)


def test_truncation_keeps_whole_records_and_opt() -> None:
    records = tuple(RR("big.example.com.", 30, "A", f"192.0.2.{n}") for n in range(60))
    message = Message(response=True, questions=(Question("big.example.com.", "A"),), answers=records)
    data = write_message(message, edns_size=1232)
    assert truncate(data, len(data)) is data
    cut = truncate(data, 512)
    answer = read_answer(cut)
    assert len(cut) <= 512
    assert answer.truncated
    assert answer.edns is not None
    assert answer.edns.size == 1232
    assert answer.records == len(answer.addresses) == (512 - 12 - 21 - 11) // 16
    assert dns.message.from_wire(cut).flags & dns.flags.TC
    assert read_answer(truncate(data, 20)).records == 0


def test_query_opcode_and_extended_rcode() -> None:
    query = build_query(1, "a.", 1, edns_size=1232)
    assert read_question(query).opcode == 0
    response = Message(response=True, rcode=16, questions=(Question("a.", "A"),))
    assert read_answer(write_message(response, edns_size=512)).rcode == 16
    assert read_message(write_message(response, edns_size=512)).rcode == 16


@pytest.mark.parametrize(
    "text",
    ["", "TYPE70000", "NOPE"],
)
def test_unknown_types(text: str) -> None:
    with pytest.raises(ValueError):
        type_number(text)


def test_srv_and_generic_data() -> None:
    rrs = (
        RR("_kerberos._udp.example.com.", 60, "SRV", "0 100 88 kdc1.example.com."),
        RR("example.com.", 60, "SOA", "ns.example.com. root.example.com. 1 2 3 4 5"),
        RR("example.com.", 60, "TYPE731", "\\# 3 0a0b0c"),
        RR("example.com.", 60, "TXT", '"a b" "c\\"d"'),
    )
    message = Message(response=True, questions=(Question("example.com.", "ANY"),), answers=rrs)
    assert read_message(write_message(message)).answers == rrs
    for bad in ("10.0.0", "x"):
        with pytest.raises(ValueError):
            write_message(Message(questions=message.questions, answers=(RR("a.", 1, "A", bad),)))
