"""pcap and pcapng: what a diagnosis asks of a capture, not one object per packet.

Kept as records: DNS messages, ICMP errors and echoes, TCP SYN, RST and FIN, fragments, ARP, and the largest segment of
each direction of a TCP flow. Everything else is counted and reported as one line, so that nothing is skipped in silence.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv6Address

import msgspec

from deadhop.evidence import limits
from deadhop.evidence.fields import fqdn
from deadhop.evidence.format import BinaryFormat
from deadhop.model.dns import DNS_PORTS, rcode_name, type_name
from deadhop.model.observed.packets import ArpPacket, CapturedPacket, DnsSummary, Icmp, QuotedPacket
from deadhop.model.record import Problem, Record, Source
from deadhop.wire.dns import read_question
from deadhop.wire.names import WireError
from deadhop.wire.pcap import PCAP_MAGIC, PCAPNG_MAGIC, Damage, Frame, Lost, frames

_ETHERNET, _RAW, _LINUX_SLL, _LINUX_SLL2, _NULL, _IPV4, _IPV6 = 1, 101, 113, 276, 0, 228, 229
_FLAGS = ((2, "S"), (1, "F"), (4, "R"), (8, "P"), (16, "."))


def _read(data: bytes, name: str) -> Iterator[Record]:
    passed: Counter[str] = Counter()
    largest: dict[tuple[str, str, int | None, int | None], CapturedPacket] = {}
    kept = 0
    for item in frames(data):
        if isinstance(item, Damage):
            yield Problem(source=Source(name, path=f"byte {item.offset}"), kind="truncated", text=item.text)
            continue
        if isinstance(item, Lost):
            yield Problem(
                source=Source(name), kind="lost", text=f"the capture dropped {item.packets} packets"
            )
            continue
        record = _record(item, Source(name, path=f"packet {item.number}"))
        if record is None:
            passed["packets of a link or network type that is not read"] += 1
        elif isinstance(record, CapturedPacket) and not _telling(record):
            passed[f"ordinary {record.proto or 'IP'} packets"] += 1
            key = (record.src, record.dst, record.sport, record.dport)
            if (
                record.proto == "tcp"
                and (key not in largest or (record.length or 0) > (largest[key].length or 0))
                and len(largest) < 10_000
            ):
                largest[key] = record
        elif kept < limits.RECORDS:
            kept += 1
            yield record
        else:
            passed["packets above the limit of records"] += 1
    yield from largest.values()
    if passed:
        text = ", ".join(f"{count} {what}" for what, count in passed.items())
        yield Problem(source=Source(name), kind="unread", text=f"counted and not kept one by one: {text}")


def _telling(packet: CapturedPacket) -> bool:
    if packet.dns or packet.icmp or packet.more_fragments or packet.fragment_offset or packet.proto == "udp":
        return True
    return bool(set(packet.tcp_flags) & set("SFR"))


def _record(frame: Frame, source: Source) -> Record | None:
    data = frame.data
    try:
        kind, at, macs, direction = _link(frame.link, data)
        if kind == 0x0806:
            return _arp(data, at, source, frame)
        if kind not in (0x0800, 0x86DD):
            return None
        packet = _ip(data[at:], kind == 0x86DD)
    except (struct.error, IndexError, ValueError):
        return None
    return msgspec.structs.replace(
        packet,
        source=source,
        time=frame.time or None,
        dev=frame.device,
        direction=direction,
        eth_src=macs[0],
        eth_dst=macs[1],
    )


def _mac(data: memoryview) -> str:
    return bytes(data).hex(":")


def _link(link: int, data: memoryview) -> tuple[int, int, tuple[str, str], str]:
    """``(ethertype, offset of the network header, (source, destination), direction)``."""
    if link == _ETHERNET:
        kind, at = struct.unpack_from(">H", data, 12)[0], 14
        while kind in (0x8100, 0x88A8):
            kind, at = struct.unpack_from(">H", data, at + 2)[0], at + 4
        return kind, at, (_mac(data[6:12]), _mac(data[:6])), ""
    if link == _LINUX_SLL:
        way = struct.unpack_from(">H", data)[0]
        return struct.unpack_from(">H", data, 14)[0], 16, (_mac(data[6:12]), ""), "out" if way == 4 else "in"
    if link == _LINUX_SLL2:
        return (
            struct.unpack_from(">H", data)[0],
            20,
            (_mac(data[12:18]), ""),
            "out" if data[10] == 4 else "in",
        )
    at = 4 if link == _NULL else 0
    version = data[at] >> 4
    return {4: 0x0800, 6: 0x86DD}.get(version, 0), at, ("", ""), ""


def _arp(data: memoryview, at: int, source: Source, frame: Frame) -> ArpPacket:
    operation = struct.unpack_from(">H", data, at + 6)[0]
    sender, target = (".".join(map(str, data[at + k : at + k + 4])) for k in (14, 24))
    return ArpPacket(
        source=source, time=frame.time or None, dev=frame.device, operation="request" if operation == 1 else "reply",
        target=target if operation == 1 else sender, sender=sender, mac=_mac(data[at + 8 : at + 14]),
    )  # fmt: skip


def _ip(data: memoryview, v6: bool) -> CapturedPacket:
    if v6:
        payload, proto, ttl = struct.unpack_from(">HBB", data, 4)
        src, dst = (str(IPv6Address(bytes(data[k : k + 16]))) for k in (8, 24))
        at, length, df, more, offset, ident = 40, payload + 40, None, False, 0, None
        while proto in (0, 43, 60, 44) and at + 8 <= len(data):
            if proto == 44:
                field = struct.unpack_from(">H", data, at + 2)[0]
                offset, more = field & 0xFFF8, bool(field & 1)
                ident = struct.unpack_from(">I", data, at + 4)[0]
                proto, at = data[at], at + 8
            else:
                proto, at = data[at], at + (data[at + 1] + 1) * 8
    else:
        header = (data[0] & 15) * 4
        length, ident, field = struct.unpack_from(">HHH", data, 2)
        ttl, proto = data[8], data[9]
        src, dst = (".".join(map(str, data[k : k + 4])) for k in (12, 16))
        at, df, more, offset = header, bool(field & 0x4000), bool(field & 0x2000), (field & 0x1FFF) * 8
    base = CapturedPacket(
        src=src, dst=dst, length=length, ttl=ttl, df=df, id=ident, more_fragments=more, fragment_offset=offset
    )
    body = data[at:]
    if offset:
        return msgspec.structs.replace(base, proto=_PROTO.get(proto, str(proto)), payload=length - at)
    if proto == 6:
        return _tcp(base, body, length - at)
    if proto == 17:
        return _udp(base, body, length - at)
    if proto in (1, 58):
        return msgspec.structs.replace(base, proto="icmp", payload=length - at, icmp=_icmp(body, proto == 58))
    return msgspec.structs.replace(base, proto=_PROTO.get(proto, str(proto)), payload=length - at)


_PROTO = {
    1: "icmp",
    6: "tcp",
    17: "udp",
    58: "icmp",
    4: "ipip",
    41: "ipv6",
    47: "gre",
    50: "esp",
    132: "sctp",
    112: "vrrp",
    2: "igmp",
}


def _tcp(base: CapturedPacket, body: memoryview, size: int) -> CapturedPacket:
    sport, dport = struct.unpack_from(">HH", body)
    header = (body[12] >> 4) * 4
    bits = body[13]
    mss = None
    at = 20
    while bits & 2 and at + 4 <= min(header, len(body)):
        kind = body[at]
        if kind == 0:
            break
        if kind == 1:
            at += 1
            continue
        if kind == 2 and body[at + 1] == 4:
            mss = struct.unpack_from(">H", body, at + 2)[0]
        at += max(2, body[at + 1])
    flags = "".join(letter for bit, letter in _FLAGS if bits & bit)
    return msgspec.structs.replace(
        base, proto="tcp", sport=sport, dport=dport, tcp_flags=flags, mss=mss, payload=max(0, size - header)
    )


def _udp(base: CapturedPacket, body: memoryview, size: int) -> CapturedPacket:
    sport, dport = struct.unpack_from(">HH", body)
    dns = _dns(bytes(body[8:]), size - 8) if {sport, dport} & DNS_PORTS else None
    return msgspec.structs.replace(
        base, proto="udp", sport=sport, dport=dport, payload=max(0, size - 8), dns=dns
    )


def _dns(data: bytes, size: int) -> DnsSummary | None:
    try:
        query = read_question(data)
    except WireError:
        return None
    answers = struct.unpack_from(">H", data, 6)[0]
    return DnsSummary(
        id=query.id, response=bool(query.flags & 0x8000), qname=fqdn(query.name), qtype=type_name(query.type),
        rcode=rcode_name(query.flags & 15) if query.flags & 0x8000 else "", answers=answers if query.flags & 0x8000 else None,
        truncated=bool(query.flags & 0x0200), size=size,
    )  # fmt: skip


def _icmp(body: memoryview, v6: bool) -> Icmp:
    kind, code = body[0], body[1]
    mtu = None
    if v6 and kind == 2:
        mtu = struct.unpack_from(">I", body, 4)[0]
    elif not v6 and (kind, code) == (3, 4):
        mtu = struct.unpack_from(">H", body, 6)[0] or None
    quoted = None
    if (kind in (1, 2, 3, 4) if v6 else kind in (3, 5, 11, 12)) and len(body) > 28:
        try:
            inner = _ip(body[8:], v6)
            quoted = QuotedPacket(
                src=inner.src,
                dst=inner.dst,
                proto=inner.proto,
                sport=inner.sport,
                dport=inner.dport,
                length=inner.length,
                df=inner.df,
            )
        except (struct.error, IndexError, ValueError):
            quoted = None
    return Icmp(type=kind, code=code, mtu=mtu, v6=v6, quoted=quoted)


FORMAT = BinaryFormat("pcap", (*PCAP_MAGIC, PCAPNG_MAGIC), _read)
