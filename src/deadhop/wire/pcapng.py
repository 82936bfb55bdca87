"""Writing pcapng: one section, an interface block per device, enhanced packet blocks, and what the capture lost.

Specification: draft-ietf-opsawg-pcapng §4. Little-endian, times in nanoseconds.
"""

from __future__ import annotations

import struct

ETHERNET, RAW = 1, 101
_NANOSECONDS = struct.pack("<HHB3x", 9, 1, 9)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + b"\0" * (-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def section() -> bytes:
    """The section header block that a file begins with."""
    return _block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(name: str, link: int) -> bytes:
    """An interface description; interfaces are numbered from 0 in the order in which they are written."""
    options = _option(2, name.encode()) + _NANOSECONDS + struct.pack("<HH", 0, 0)
    return _block(1, struct.pack("<HHI", link, 0, 0) + options)


def packet(interface_number: int, nanoseconds: int, data: bytes, length: int) -> bytes:
    """One packet; ``length`` is its length on the wire, of which ``data`` may be the beginning."""
    head = struct.pack(
        "<IIIII", interface_number, nanoseconds >> 32, nanoseconds & 0xFFFFFFFF, len(data), length
    )
    return _block(6, head + data + b"\0" * (-len(data) % 4))


def statistics(interface_number: int, nanoseconds: int, dropped: int) -> bytes:
    """How many packets the capture itself dropped (isb_ifdrop)."""
    head = struct.pack("<III", interface_number, nanoseconds >> 32, nanoseconds & 0xFFFFFFFF)
    return _block(5, head + _option(5, struct.pack("<Q", dropped)) + struct.pack("<HH", 0, 0))
