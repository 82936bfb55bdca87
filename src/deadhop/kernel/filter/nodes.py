"""The tree of a filter. Every leaf asks one thing of an event."""

from __future__ import annotations

import ipaddress

import msgspec

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class FilterError(ValueError):
    """The filter cannot be read; the message shows where."""


class Everything(msgspec.Struct, frozen=True):
    """Lets every event pass."""


class Not(msgspec.Struct, frozen=True):
    inner: Node


class And(msgspec.Struct, frozen=True):
    left: Node
    right: Node


class Or(msgspec.Struct, frozen=True):
    left: Node
    right: Node


class Version(msgspec.Struct, frozen=True):
    """``ip`` (4) and ``ip6`` (6)."""

    number: int


class EtherType(msgspec.Struct, frozen=True):
    """``arp`` and other protocols beside IP, by skb->protocol."""

    number: int


class Protocol(msgspec.Struct, frozen=True):
    """``tcp``, ``udp``, ``icmp``, ``proto 47``; ``version`` 0 means either."""

    number: int
    version: int = 0


class Address(msgspec.Struct, frozen=True):
    """``[src|dst] host`` and ``net``; ``side`` is ``src``, ``dst`` or empty for either."""

    side: str
    net: Network


class Port(msgspec.Struct, frozen=True):
    """``[src|dst] port`` and ``portrange``; holds only where the packet has ports."""

    side: str
    low: int
    high: int


class Device(msgspec.Struct, frozen=True):
    """``dev NAME``: the device that the skb is at, in whatever namespace."""

    name: str


class Namespace(msgspec.Struct, frozen=True):
    """``netns``: the inode of the network namespace."""

    inode: int


class Reason(msgspec.Struct, frozen=True):
    """``reason``: the number that this kernel gives the drop reason."""

    number: int


class Mark(msgspec.Struct, frozen=True):
    """``mark VALUE[/MASK]``."""

    value: int
    mask: int = 0xFFFFFFFF


class Length(msgspec.Struct, frozen=True):
    """``less`` and ``greater``, both inclusive as in pcap-filter(7)."""

    low: int
    high: int


Node = (
    Everything | Not | And | Or | Version | EtherType | Protocol | Address | Port | Device | Namespace | Reason
    | Mark | Length
)  # fmt: skip
EVERYTHING = Everything()
