"""Capture files without I/O: pcap (both byte orders, micro- and nanoseconds) and pcapng.

``frames`` walks a file's bytes and gives ``(number, seconds, link type, frame, length on the wire)``; a file that is
cut off or damaged ends with a :class:`Damage` that says where. Specifications: draft-ietf-opsawg-pcap and -pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

PCAP_MAGIC = (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d")
PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
_SECTION, _INTERFACE, _SIMPLE, _ENHANCED, _STATISTICS = 0x0A0D0D0A, 1, 3, 6, 5
#: No frame of any link type that we read is longer.
MOST = 1 << 18


class Frame(NamedTuple):
    """One captured frame. ``data`` may be shorter than ``length`` (snap length). ``device`` is the interface's name."""

    number: int
    time: float
    link: int
    data: memoryview
    length: int
    device: str = ""


class Damage(NamedTuple):
    """Where and why reading ended before the end of the file. ``offset`` in bytes."""

    offset: int
    text: str


class Lost(NamedTuple):
    """Packets that the capture itself says it dropped."""

    packets: int


def frames(data: bytes) -> Iterator[Frame | Damage | Lost]:
    """Every frame of a capture file."""
    if data[:4] == PCAPNG_MAGIC:
        yield from _pcapng(memoryview(data))
    elif data[:4] in PCAP_MAGIC:
        yield from _pcap(memoryview(data))
    else:
        yield Damage(0, "neither pcap nor pcapng")


def _pcap(data: memoryview) -> Iterator[Frame | Damage | Lost]:
    magic = bytes(data[:4])
    order = "<" if magic in (PCAP_MAGIC[0], PCAP_MAGIC[2]) else ">"
    unit = 1e-9 if magic in PCAP_MAGIC[2:] else 1e-6
    if len(data) < 24:
        yield Damage(len(data), "the file header is cut off")
        return
    link = struct.unpack_from(order + "I", data, 20)[0] & 0xFFFF
    header = struct.Struct(order + "IIII")
    at, number, size = 24, 0, len(data)
    while at < size:
        if at + 16 > size:
            yield Damage(at, "a packet header is cut off")
            return
        seconds, fraction, captured, length = header.unpack_from(data, at)
        at += 16
        if captured > MOST:
            yield Damage(at - 16, f"a packet claims {captured} bytes")
            return
        if at + captured > size:
            yield Damage(at, f"packet {number + 1} is cut off")
            return
        number += 1
        yield Frame(number, seconds + fraction * unit, link, data[at : at + captured], length)
        at += captured


def _pcapng(data: memoryview) -> Iterator[Frame | Damage | Lost]:
    order = "<"
    links: list[tuple[int, float, str]] = []
    at, number, size = 0, 0, len(data)
    while at < size:
        if at + 12 > size:
            yield Damage(at, "a block header is cut off")
            return
        if struct.unpack_from("<I", data, at)[0] == _SECTION:
            order = "<" if bytes(data[at + 8 : at + 12]) == b"\x4d\x3c\x2b\x1a" else ">"
            links = []
        kind, length = struct.unpack_from(order + "II", data, at)
        if length < 12 or length % 4 or at + length > size:
            yield Damage(at, f"a block of {length} bytes is cut off or damaged")
            return
        body = data[at + 8 : at + length - 4]
        if kind == _INTERFACE and len(body) >= 8:
            links.append(_interface(body, order))
        elif kind == _ENHANCED and len(body) >= 20:
            interface, high, low, captured, wire = struct.unpack_from(order + "IIIII", body)
            if interface >= len(links) or 20 + captured > len(body):
                yield Damage(at, "a packet block is damaged")
                return
            link, unit, name = links[interface]
            number += 1
            yield Frame(number, ((high << 32) | low) * unit, link, body[20 : 20 + captured], wire, name)
        elif kind == _SIMPLE and len(body) >= 4 and links:
            wire = struct.unpack_from(order + "I", body)[0]
            number += 1
            yield Frame(number, 0.0, links[0][0], body[4 : 4 + wire], wire, links[0][2])
        elif kind == _STATISTICS and len(body) >= 12:
            dropped = _options(body, 12, order).get(5, b"")
            if len(dropped) == 8 and (count := struct.unpack(order + "Q", dropped)[0]):
                yield Lost(count)
        at += length


def _interface(body: memoryview, order: str) -> tuple[int, float, str]:
    link = struct.unpack_from(order + "H", body)[0]
    options = _options(body, 8, order)
    unit = 1e-6
    if resolution := options.get(9):
        power = resolution[0] & 0x7F
        unit = 2.0**-power if resolution[0] & 0x80 else 10.0**-power
    return link, unit, options.get(2, b"").split(b"\0")[0].decode("utf-8", "replace")


def _options(body: memoryview, at: int, order: str) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while at + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, at)
        if code == 0:
            break
        found.setdefault(code, bytes(body[at + 4 : at + 4 + length]))
        at += 4 + (length + 3) // 4 * 4
    return found
