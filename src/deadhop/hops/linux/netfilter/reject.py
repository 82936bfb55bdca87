"""``reject``: ICMP unreachable or a TCP reset towards the sender (nf_reject_ipv4.c, nf_reject_ipv6.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deadhop.hops.linux import icmp
from deadhop.hops.linux.errors import Ended
from deadhop.hops.linux.packet import Packet
from deadhop.hops.linux.route4 import Dst, route_output
from deadhop.hops.linux.route6 import is_multicast6, route_output6, route_output6_once
from deadhop.model.packet import IcmpError
from deadhop.model.protocols import TCP, TCP_FLAGS
from deadhop.model.trace import Disposition

if TYPE_CHECKING:
    from deadhop.hops.linux.context import Walk


def unreachable(walk: Walk, packet: Packet, code: int) -> IcmpError | None:
    """nf_send_unreach: the error if it gets away."""
    route = _route(walk, packet)
    if route is None:
        return None
    if packet.version == 6:
        device = walk.world.device(packet.iif or packet.oif or "lo")
        return icmp.send6(walk, packet, device, 1, code)
    return icmp.send4(
        walk, packet, 3, code, local=route.local, broadcast=route.type in ("broadcast", "multicast")
    )


def _route(walk: Walk, packet: Packet) -> Dst | None:
    """The packet's route; in PRE_ROUTING, where it has none yet, one to its source (nf_reject_fill_skb_dst)."""
    if isinstance(packet.route, Dst):
        return packet.route
    if packet.version == 6:
        dst = route_output6_once(walk, packet.src)
    else:
        dst = route_output(walk, src=0, dst=packet.src)
    if dst.error:
        walk.step(
            "reject", f"not sent: no route back to {packet.src_text}", "nf_reject_fill_skb_dst", ok=None
        )
        return None
    return dst


def reset(walk: Walk, packet: Packet) -> bool:
    """nf_send_reset: True if the reset gets away."""
    if packet.proto != TCP or packet.tcp_flags & TCP_FLAGS["rst"]:
        return False
    route = _route(walk, packet)
    if route is None or (packet.version == 4 and route.type in ("broadcast", "multicast")):
        return False
    if packet.version == 6:
        if any(a in (0,) or is_multicast6(a) for a in (packet.src, packet.dst)):
            return False
        mark = packet.mark if walk.world.sysctl("net.ipv6.fwmark_reflect", 0) else 0
        dst = route_output6(
            walk,
            src=packet.dst,
            dst=packet.src,
            mark=mark,
            proto=TCP,
            sport=packet.dport,
            dport=packet.sport,
        )
    else:
        mark = packet.mark if walk.world.sysctl("net.ipv4.fwmark_reflect", 0) else 0
        dst = route_output(walk, src=packet.dst, dst=packet.src, mark=mark, any_src=True)
    if dst.error:
        walk.step("TCP reset", f"not sent: no route back to {packet.src_text}", "nf_send_reset", ok=None)
        return False
    answer = Packet(
        packet.version, packet.dst, packet.src, TCP, sport=packet.dport, dport=packet.sport,
        length=40 if packet.version == 4 else 60, df=packet.version == 4, mark=mark, tcp_flags=TCP_FLAGS["rst"] | TCP_FLAGS["ack"],
    )  # fmt: skip
    answer.route = dst
    answer.error = True
    if packet.tracked:
        answer.ct, answer.ct_mark, answer.conn = "related", packet.ct_mark, packet.conn
        answer.reply = not packet.reply
    side = walk.side()
    try:
        walk.run(side, answer)
    except Ended as ended:
        return ended.answer.disposition in (Disposition.FORWARDED, Disposition.DELIVERED)
