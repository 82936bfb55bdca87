"""Packets as bytes: building what a flow describes, and recognising it, its errors and its resets when captured.

Every packet carries a marker with its flow's number, so that it is known again after NAT, in a quote, or in a drop; and
with the number of its run, so that a late event of another run, or of another process, is nobody's.
"""

from __future__ import annotations

import ipaddress
import struct

from deadhop.model.packet import PacketFlow
from deadhop.model.protocols import ICMP, ICMPV6, TCP, UDP

MARK = b"DH"
NUMBERS = {"udp": UDP, "tcp": TCP, "icmp": ICMP}
FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16}


def checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def marker(run: int, number: int) -> bytes:
    """Eight bytes. ``run`` is of 32 bits and chosen at random, ``number`` of 16."""
    return MARK + struct.pack(">IH", run, number)


def find_marker(data: bytes, run: int) -> int | None:
    """The number of the flow of this run that ``data`` belongs to."""
    place = data.find(MARK + struct.pack(">I", run))
    if place < 0 or place + 8 > len(data):
        return None
    return int(struct.unpack_from(">H", data, place + 6)[0])


def transport(
    flow: PacketFlow, run: int, number: int, proto: int, src: bytes, dst: bytes, length: int
) -> bytes:
    """The transport header and payload, ``length`` bytes in all, with a right checksum."""
    head = {UDP: 8, TCP: 20}.get(proto, 8)
    payload = (marker(run, number) + bytes(length))[: length - head]
    if proto == UDP:
        packet = struct.pack(">HHHH", flow.sport, flow.dport, length, 0) + payload
        place = 6
    elif proto == TCP:
        names = flow.tcp_flags if isinstance(flow.tcp_flags, tuple) else ("syn",)
        flags = sum(FLAGS[name] for name in names)
        packet = struct.pack(">HHIIBBHHH", flow.sport, flow.dport, 1, 0, 5 << 4, flags, 64000, 0, 0) + payload
        place = 16
    else:
        default = 8 if proto == ICMP else 128
        kind = default if flow.icmp_type is None else flow.icmp_type
        packet = struct.pack(">BBHHH", kind, flow.icmp_code or 0, 0, number + 1, 1) + payload
        place = 2
    covered = packet if proto == ICMP else src + dst + struct.pack(">II", len(packet), proto) + packet
    value = checksum(covered)
    if proto == UDP and value == 0:
        value = 0xFFFF
    return packet[:place] + struct.pack(">H", value) + packet[place + 2 :]


def network(flow: PacketFlow, run: int, number: int) -> bytes:
    """The whole IP packet of a flow."""
    src, dst = ipaddress.ip_address(flow.src), ipaddress.ip_address(flow.dst)
    proto = NUMBERS[str(flow.proto)]
    if src.version == 6:
        proto = ICMPV6 if proto == ICMP else proto
        body = transport(flow, run, number, proto, src.packed, dst.packed, flow.length - 40)
        first = 6 << 28 | flow.tos << 20
        return struct.pack(">IHBB", first, len(body), proto, flow.ttl) + src.packed + dst.packed + body
    body = transport(flow, run, number, proto, src.packed, dst.packed, flow.length - 20)
    fragment = 0x4000 if flow.df else 0
    head = struct.pack(
        ">BBHHHBBH", 0x45, flow.tos, flow.length, number & 0xFFFF, fragment, flow.ttl, proto, 0
    )
    head += src.packed + dst.packed
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + body


def own_length(packet: bytes) -> int:
    """The length in bytes that an IP packet's header gives."""
    if len(packet) >= 6 and packet[0] >> 4 == 6:
        return 40 + int(struct.unpack_from(">H", packet, 4)[0])
    return int(struct.unpack_from(">H", packet, 2)[0]) if len(packet) >= 4 else 0


class Seen:
    """What a captured IP packet is: ``kind`` is ``packet``, ``icmp`` (an error) or ``reset``."""

    __slots__ = ("code", "kind", "mtu", "number", "type")

    def __init__(self, kind: str, number: int, type_: int = 0, code: int = 0, mtu: int | None = None) -> None:
        self.kind = kind
        self.number = number
        self.type = type_
        self.code = code
        self.mtu = mtu


def recognise(packet: bytes, run: int, ports: dict[int, int]) -> Seen | None:
    """Reads an IP packet of ``run``; ``ports`` gives the flow's number by its source port, for resets."""
    if len(packet) < 28:
        return None
    if packet[0] >> 4 == 4:
        proto, body = packet[9], packet[(packet[0] & 15) * 4 :]
    elif packet[0] >> 4 == 6:
        proto, body = packet[6], packet[40:]
        if proto == 44 and len(body) > 8:  # a fragment
            proto, body = body[0], body[8:]
    else:
        return None
    number = find_marker(body, run)
    if proto in (ICMP, ICMPV6) and len(body) >= 8:
        errors = (3, 5, 11, 12) if proto == ICMP else (1, 2, 3, 4, 137)
        if body[0] in errors:
            if number is None or body[0] in (5, 137):
                return None
            return _error(proto, body, number)
    if proto == TCP and len(body) >= 20 and body[13] & 4 and number is None:
        flow = ports.get(struct.unpack_from(">H", body, 2)[0])
        return None if flow is None else Seen("reset", flow)
    return None if number is None else Seen("packet", number)


def _error(proto: int, body: bytes, number: int) -> Seen:
    kind, code = body[0], body[1]
    mtu: int | None = None
    if proto == ICMP and (kind, code) == (3, 4):
        mtu = struct.unpack_from(">H", body, 6)[0]
    elif proto == ICMPV6 and kind == 2:
        mtu = struct.unpack_from(">I", body, 4)[0]
    return Seen("icmp", number, kind, code, mtu)
