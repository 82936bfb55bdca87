"""Connection tracking as a single packet meets it (nf_conntrack_in).

The state comes from the flow, else from the namespace's conntrack listing, else the packet opens a connection if its
protocol lets it: a TCP segment that neither opens nor plausibly continues one is invalid, as is an ICMP reply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deadhop.hops.linux.packet import Packet
from deadhop.model import ip
from deadhop.model.netfilter import ConntrackEntry
from deadhop.model.protocols import ICMP, ICMPV6, TCP

if TYPE_CHECKING:
    from deadhop.hops.linux.context import Walk

Tuple = tuple[int, int, int, int]

FIN, SYN, RST, ACK = 1, 2, 4, 16
#: icmp_new, icmpv6_new: the types that may open a connection.
ICMP_NEW = {ICMP: {8, 13, 15, 17}, ICMPV6: {128, 139}}
#: noct_valid_new: neighbour discovery and multicast listener messages are never tracked.
UNTRACKED6 = {130, 131, 132, 133, 134, 135, 136, 143}
SEEN_REPLY, ASSURED, CONFIRMED, SRC_NAT, DST_NAT = 2, 4, 8, 16, 32


class Connection:
    """A connection: its tuples, and which translations are settled (nf_nat_initialized)."""

    __slots__ = ("original", "reply", "settled", "status")

    def __init__(
        self, original: Tuple, reply: Tuple, status: int = 0, settled: set[str] | None = None
    ) -> None:
        self.original = original
        self.reply = reply
        self.status = status
        self.settled: set[str] = settled or set()


class Known:
    """The connections of a listing, by ``(version, protocol, tuple)`` of either direction."""

    def __init__(self, entries: tuple[ConntrackEntry, ...]) -> None:
        self.by_tuple: dict[tuple[int, int, Tuple], tuple[ConntrackEntry, int, Tuple, Tuple]] = {}
        for entry in entries:
            try:
                original, reply = (_packed(end) for end in (entry.original, entry.reply))
            except ValueError:
                continue
            for direction, end in enumerate((original, reply)):
                self.by_tuple.setdefault(
                    (entry.family, entry.proto, end), (entry, direction, original, reply)
                )


def _packed(end: tuple[str, str, int, int]) -> Tuple:
    return ip.parse(end[0])[1], ip.parse(end[1])[1], end[2], end[3]


def tuple_of(packet: Packet) -> Tuple:
    return packet.src, packet.dst, packet.sport, packet.dport


def track(walk: Walk, packet: Packet, known: Known) -> None:
    """Gives the packet its state and connection, unless it has one (loopback, notrack, an attached error)."""
    if packet.ct is not None:
        return
    if packet.error:
        packet.ct = "invalid"  # about a packet that no connection knows
        return
    own = tuple_of(packet)
    if packet.version == 6 and packet.proto == ICMPV6 and packet.icmp_type in UNTRACKED6:
        packet.ct = "untracked"
        return
    if walk.given_ct is not None:
        packet.ct = walk.given_ct
        settled = set() if packet.ct == "new" else {"dst", "src"}
        packet.conn = Connection(own, _inverse(own), settled=settled)
        return
    hit = known.by_tuple.get((packet.version, packet.proto, own))
    if hit is not None:
        _join(packet, *hit)
        return
    packet.ct = "new" if _opens(packet) else "invalid"
    if packet.ct == "new":
        _room(walk)
        packet.conn = Connection(own, _inverse(own))


def _room(walk: Walk) -> None:
    """__nf_conntrack_alloc: a full table drops what opens a connection, unless early_drop finds one to give up."""
    limit = walk.world.sysctl("net.netfilter.nf_conntrack_max", 0)
    count = walk.world.sysctl("net.netfilter.nf_conntrack_count", 0)
    if not limit or count < limit:
        return
    found = walk.world.ns.sysctls["net.netfilter.nf_conntrack_count"]
    text = f"{count} of {limit} connections: full"
    walk.step("conntrack table", text, "__nf_conntrack_alloc", (found.source,), ok=None)
    if not walk.uncertain("whether early_drop finds a connection to give up in a full conntrack table"):
        walk.drop("NETFILTER_DROP", "nf_hook_slow", ("nf_conntrack drop", "nf_conntrack early_drop"))


def _inverse(end: Tuple) -> Tuple:
    return end[1], end[0], end[3], end[2]


def _opens(packet: Packet) -> bool:
    if packet.proto in (ICMP, ICMPV6):
        return packet.icmp_type in ICMP_NEW.get(packet.proto, ())
    if packet.proto == TCP:
        # tcp_conntracks[ORIGINAL][…][sNO]: SYN opens, a bare ACK is picked up (tcp_loose), the rest is invalid.
        kind = packet.tcp_flags & (FIN | SYN | RST | ACK)
        return kind in (SYN, ACK)
    return True


def _join(packet: Packet, entry: ConntrackEntry, direction: int, original: Tuple, reply: Tuple) -> None:
    """The packet belongs to a listed connection: its state, mark and translations."""
    replied = "UNREPLIED" not in entry.status
    packet.ct = "established" if replied or direction else "new"
    packet.reply = bool(direction)
    packet.ct_mark = entry.mark
    status = (
        CONFIRMED
        | (SEEN_REPLY if replied or direction else 0)
        | (ASSURED if "ASSURED" in entry.status else 0)
    )
    if reply[0] != original[1] or reply[2] != original[3]:
        status |= DST_NAT
    if reply[1] != original[0] or reply[3] != original[2]:
        status |= SRC_NAT
    packet.conn = Connection(original, reply, status, {"dst", "src"})
