"""What a program reports of one skb: the record that :mod:`~deadhop.kernel.capture` fills and this module reads.

Addresses, ports and the EtherType stand in the packet's byte order, the rest in the machine's. ``packet`` holds the
first bytes from the network header, so that an ICMP error's inner packet can be read as well.
"""

from __future__ import annotations

import ipaddress
import struct

#: Bytes of the packet that an event holds.
SNAP = 128

#: (field, format) in order; no padding arises.
FIELDS = (
    ("time", "Q"),  # CLOCK_MONOTONIC, nanoseconds
    ("location", "Q"),  # where it was dropped, or the function that was entered
    ("skb", "Q"),
    ("reason", "I"),
    ("netns", "I"),  # inode of the namespace, 0 where neither device nor socket nor route tells
    ("ifindex", "I"),
    ("iif", "I"),  # skb->skb_iif: the device it was received on, in the namespace where that was
    ("mark", "I"),
    ("len", "I"),  # skb->len: from the header that the kernel is at
    ("ethertype", "2s"),
    ("l4_offset", "H"),
    ("version", "B"),  # 4 or 6; 0 where the skb is at no IP header
    ("proto", "B"),
    ("has_ports", "B"),
    ("kind", "B"),
    ("mtu", "I"),  # of the skb's device
    ("cpu", "I"),
    ("dev", "16s"),
    ("src", "16s"),  # IPv4 in the first four bytes
    ("dst", "16s"),
    ("sport", "2s"),
    ("dport", "2s"),
    ("pid", "I"),
    ("comm", "16s"),
    ("packet", f"{SNAP}s"),
)
LAYOUT = struct.Struct("<" + "".join(form for _name, form in FIELDS))
OFFSETS: dict[str, int] = {}
_place = 0
for _name, _form in FIELDS:
    OFFSETS[_name] = _place
    _place += struct.calcsize("<" + _form)
SIZE = LAYOUT.size

FUNCTION, DROPPED, CONSUMED = range(3)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Event:
    """One record, its fields as attributes; see :data:`FIELDS`."""

    __slots__ = tuple(name for name, _form in FIELDS)

    time: int
    location: int
    skb: int
    reason: int
    netns: int
    ifindex: int
    iif: int
    mark: int
    len: int
    ethertype: int
    l4_offset: int
    version: int
    proto: int
    has_ports: int
    kind: int
    mtu: int
    cpu: int
    dev: str
    src: Address | None
    dst: Address | None
    sport: int
    dport: int
    pid: int
    comm: str
    packet: bytes

    def __init__(self, record: bytes) -> None:
        for name, value in zip(self.__slots__, LAYOUT.unpack(record), strict=True):
            setattr(self, name, value)
        for name in ("ethertype", "sport", "dport"):
            setattr(self, name, int.from_bytes(getattr(self, name), "big"))
        for name in ("dev", "comm"):
            setattr(self, name, text(getattr(self, name)))
        for name in ("src", "dst"):
            setattr(self, name, address(self.version, getattr(self, name)))


def text(field: bytes) -> str:
    """A C string in a fixed field."""
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")


def address(version: int, field: bytes) -> Address | None:
    if version == 4:
        return ipaddress.IPv4Address(field[:4])
    return ipaddress.IPv6Address(field) if version == 6 else None
