"""Packets as capture tools show them, and the functions an skb passed."""

from __future__ import annotations

import msgspec

from deadhop.model.record import Record


class DnsSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a capture tool prints of a DNS message. ``rcode`` is the mnemonic (``NXDOMAIN``); ``edns`` whether a
    query carries an additional record, None where not said."""

    id: int | None = None
    response: bool = False
    qtype: str = ""
    qname: str = ""
    rcode: str = ""
    answers: int | None = None
    truncated: bool = False
    size: int | None = None
    edns: bool | None = None


class QuotedPacket(msgspec.Struct, frozen=True, kw_only=True):
    """The packet that an ICMP error quotes."""

    src: str = ""
    dst: str = ""
    proto: str = ""
    sport: int | None = None
    dport: int | None = None
    length: int | None = None
    df: bool | None = None


class Icmp(msgspec.Struct, frozen=True, kw_only=True):
    """An ICMP or ICMPv6 message: numbers as on the wire, ``mtu`` in bytes for frag-needed and packet-too-big."""

    type: int
    code: int = 0
    mtu: int | None = None
    v6: bool = False
    quoted: QuotedPacket | None = None

    @property
    def too_big(self) -> bool:
        """Fragmentation needed (RFC 792 type 3 code 4) or packet too big (RFC 4443 type 2)."""
        return self.type == 2 if self.v6 else (self.type == 3 and self.code == 4)


class CapturedPacket(Record, frozen=True, kw_only=True):
    """One packet of a capture. ``length`` is the IP total length in bytes, ``payload`` that of the transport; ``id`` is the
    datagram's identification, which its fragments share."""

    dev: str = ""
    direction: str = ""
    eth_src: str = ""
    eth_dst: str = ""
    src: str = ""
    dst: str = ""
    proto: str = ""
    sport: int | None = None
    dport: int | None = None
    length: int | None = None
    payload: int | None = None
    ttl: int | None = None
    df: bool | None = None
    id: int | None = None
    more_fragments: bool = False
    fragment_offset: int = 0
    tcp_flags: str = ""
    mss: int | None = None
    bad_checksum: bool = False
    icmp: Icmp | None = None
    dns: DnsSummary | None = None


class ArpPacket(Record, frozen=True, kw_only=True):
    """ARP who-has / is-at."""

    dev: str = ""
    operation: str
    target: str
    sender: str = ""
    mac: str = ""


class SwitchFrame(Record, frozen=True, kw_only=True):
    """A frame that a switch sends for itself. ``kind`` is stp, lldp, cdp, lacp, loop or llc; addresses are empty where the
    capture does not show the link layer."""

    dev: str = ""
    src: str = ""
    dst: str = ""
    kind: str


class SkbStep(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel function that an skb passed, with its metadata. ``line`` is its line in the evidence."""

    func: str
    line: int = 0
    netns: int | None = None
    ifindex: int | None = None
    dev: str = ""
    proto: int | None = None
    mtu: int | None = None
    len: int | None = None
    mark: int | None = None
    tuple: str = ""
    reason: str = ""


class SkbTrace(Record, frozen=True, kw_only=True):
    """The functions one skb passed, in order (pwru, retis). ``edited`` marks a listing with gaps (``...``)."""

    skb: str = ""
    steps: tuple[SkbStep, ...]
    edited: bool = False
