"""Routing again after LOCAL_OUT changed what routing depends on (ip_route_me_harder, ip6_route_me_harder)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deadhop.hops.linux.packet import Packet
from deadhop.hops.linux.route4 import route_output
from deadhop.hops.linux.route6 import LINK_LOCAL, is_multicast6, route_output6

if TYPE_CHECKING:
    from deadhop.hops.linux.context import Walk


def reroute(walk: Walk, packet: Packet) -> None:
    """Gives the packet a new route by its new addresses, mark and TOS; a failure drops it."""
    fib = walk.world.fib4 if packet.version == 4 else walk.world.fib6
    proto, sport, dport = (packet.proto, packet.sport, packet.dport) if fib.wants_ports else (0, 0, 0)
    if packet.version == 4:
        dst = route_output(
            walk, src=packet.src, dst=packet.dst, mark=packet.mark, tos=packet.tos,
            proto=proto, sport=sport, dport=dport, any_src=True,
        )  # fmt: skip
    else:  # the traffic class does not take part: ip6_route_me_harder leaves it out of the flow
        scoped = is_multicast6(packet.dst) or packet.dst >> 118 == LINK_LOCAL
        dst = route_output6(
            walk, src=packet.src, dst=packet.dst, mark=packet.mark,
            proto=proto, sport=sport, dport=dport, oif=packet.oif if scoped else None,
        )  # fmt: skip
    if dst.error or dst.device is None:
        function = "ip_route_me_harder" if packet.version == 4 else "ip6_route_me_harder"
        walk.step("rerouting", f"no way to {packet.dst_text} after the output hook", function, ok=False)
        walk.drop("NETFILTER_DROP", function, errno=dst.error)
    packet.route = dst
    packet.oif = dst.device.name
    by = f"route {dst.alias.text}" if dst.alias is not None else f"device {dst.device.name}"
    walk.step(by, f"{packet.dst_text} now goes out of {dst.device.name}", "ip_route_me_harder")
