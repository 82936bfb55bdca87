"""The packet on its way: what an skb carries that routing and netfilter look at.

Mutable on purpose: TTL, mark, addresses and ports change between hooks. Addresses are packed integers.
"""

from __future__ import annotations

from copy import copy
from functools import lru_cache

from deadhop.hops.linux.errors import Unknown
from deadhop.model import ip
from deadhop.model.packet import PacketFlow
from deadhop.model.protocols import ICMP, ICMPV6, PROTOCOLS, TCP, TCP_FLAGS, UDP

ECHO_REQUEST = {4: 8, 6: 128}
#: IP_MTU_DISCOVER in the order of its values (ip(7), include/uapi/linux/in.h IP_PMTUDISC_*).
PMTUDISC = ("dont", "want", "do", "probe", "interface", "omit")


class Packet:
    """One packet. ``iif`` is the device it came in on (None: sent by a local socket), ``oif`` the one it leaves by.

    ``ct`` is the conntrack state word or None before tracking, ``conn`` the connection, ``reply`` tells the
    direction. ``route`` is the route once one is attached (skb_dst); ``error`` marks an ICMP error or a reset that
    the namespace itself makes.
    """

    __slots__ = (
        "conn", "ct", "ct_mark", "demuxed", "df", "dport", "dst", "error", "frag", "gso", "icmp_code", "icmp_type", "iif", "length",
        "mark", "more", "oif", "pmtu", "pmtudisc", "proto", "reply", "route", "sport", "src", "tcp_flags", "tos", "ttl", "version",
        "whole",
    )  # fmt: skip

    def __init__(
        self,
        version: int,
        src: int,
        dst: int,
        proto: int,
        *,
        sport: int = 0,
        dport: int = 0,
        length: int = 84,
        df: bool = False,
        ttl: int = 64,
        tos: int = 0,
        mark: int = 0,
        iif: str | None = None,
        tcp_flags: int = TCP_FLAGS["syn"],
        icmp_type: int = 0,
        icmp_code: int = 0,
    ) -> None:
        self.version = version
        self.src = src
        self.dst = dst
        self.proto = proto
        self.sport = sport
        self.dport = dport
        self.length = length
        self.df = df
        self.ttl = ttl
        self.tos = tos
        self.mark = mark
        self.iif = iif
        self.oif: str | None = None
        self.tcp_flags = tcp_flags
        self.icmp_type = icmp_type
        self.icmp_code = icmp_code
        self.ct: str | None = None
        self.ct_mark = 0
        self.conn: object | None = None
        self.reply = False
        self.route: object | None = None
        #: A later fragment; ``more`` is the first one of several, ``whole`` the length of the datagram in bytes.
        self.frag = False
        self.more = False
        self.whole = 0
        self.gso = 0
        self.demuxed = False
        #: A local sender's IP_MTU_DISCOVER mode, and the path MTU that it has learned.
        self.pmtudisc: str | None = None
        self.pmtu = 0
        self.error = False

    def fragment(self, mtu: int) -> Packet:
        """This becomes the first fragment of its datagram (ip_do_fragment); gives a later one, which has no ports."""
        later = copy(self)
        self.whole, self.length, self.more = self.whole or self.length, min(self.length, mtu), True
        later.frag, later.more, later.sport, later.dport = True, False, 0, 0
        later.length = min(later.length, mtu)
        return later

    def defragment(self) -> None:
        """ip_defrag: the datagram is whole again."""
        if self.more:
            self.length, self.more = self.whole, False

    @property
    def wire_length(self) -> int:
        """What an MTU is compared with: a GSO packet's segments (skb_gso_validate_network_len), else the packet."""
        return self.gso or self.length

    @property
    def has_ports(self) -> bool:
        return self.proto in (TCP, UDP, 33, 132, 136)

    @property
    def tracked(self) -> bool:
        """Whether the packet has a connection (nf_ct_get is not NULL)."""
        return self.ct in ("new", "established", "related")

    @property
    def src_text(self) -> str:
        return ip.show(self.version, self.src)

    @property
    def dst_text(self) -> str:
        return ip.show(self.version, self.dst)

    def __str__(self) -> str:
        return f"{self.src_text} > {self.dst_text}"


@lru_cache(maxsize=256)
def _flags(flags: int | str | tuple[str, ...] | None) -> int:
    if flags is None:
        return TCP_FLAGS["syn"]
    if isinstance(flags, int):
        return flags
    names = flags.replace("|", ",").split(",") if isinstance(flags, str) else flags
    try:
        return sum({TCP_FLAGS[name.strip().lower()] for name in names if name.strip()})
    except KeyError as error:
        raise Unknown(f"TCP flag {error} of the flow") from None


def protocol(proto: str | int, version: int) -> int:
    """The protocol number of a flow; ``icmp`` means ICMPv6 in IPv6. Raises :class:`Unknown`."""
    if isinstance(proto, int):
        return proto
    name = proto.lower()
    if name == "icmp" and version == 6:
        return ICMPV6
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    if name.isdigit():
        return int(name)
    raise Unknown(f"protocol {proto!r} of the flow")


def from_flow(flow: PacketFlow) -> Packet:
    """The packet that a flow describes. Raises :class:`Unknown` where the flow is not one packet."""
    try:
        version, src = ip.parse(flow.src)
        other, dst = ip.parse(flow.dst)
    except ValueError as error:
        raise Unknown(f"the flow's address: {error}") from None
    if version != other:
        raise Unknown("the flow's addresses are of two IP versions")
    proto = flow.proto if isinstance(flow.proto, int) else protocol(flow.proto, version)
    packet = Packet(
        version,
        src,
        dst,
        proto,
        sport=flow.sport,
        dport=flow.dport,
        length=flow.length,
        df=flow.df,
        ttl=flow.ttl,
        tos=flow.tos,
        mark=flow.mark,
        iif=flow.in_dev,
    )
    packet.gso, packet.demuxed = flow.gso, flow.demuxed
    if flow.pmtudisc is not None and flow.pmtudisc not in PMTUDISC:
        raise Unknown(f"IP_MTU_DISCOVER mode {flow.pmtudisc!r} of the flow")
    packet.pmtudisc, packet.pmtu = flow.pmtudisc, flow.pmtu
    if proto == TCP:
        packet.tcp_flags = _flags(
            tuple(flow.tcp_flags) if isinstance(flow.tcp_flags, list) else flow.tcp_flags
        )
    elif proto in (ICMP, ICMPV6):
        packet.sport = packet.dport = 0
        packet.icmp_type = ECHO_REQUEST[version] if flow.icmp_type is None else flow.icmp_type
        packet.icmp_code = flow.icmp_code or 0
    return packet
