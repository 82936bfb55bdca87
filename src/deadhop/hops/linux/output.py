"""Local senders: the route of a send, LOCAL_OUT, POST_ROUTING (udp_sendmsg, __ip_local_out, ip_output and IPv6's own)."""

from __future__ import annotations

from deadhop.hops.linux.context import Walk
from deadhop.hops.linux.devices import Device
from deadhop.hops.linux.errors import EADDRNOTAVAIL, EMSGSIZE, ENETUNREACH
from deadhop.hops.linux.mtu import route_mtu4, route_mtu6
from deadhop.hops.linux.neighbour import transmit
from deadhop.hops.linux.netfilter import traverse
from deadhop.hops.linux.packet import Packet
from deadhop.hops.linux.route4 import Dst, output_ports, route_output, route_sources
from deadhop.hops.linux.route6 import route_output6


def send(walk: Walk, packet: Packet) -> None:
    """Routes a local socket's packet, or fails the send with an errno. Sets ``packet.route``."""
    if packet.version == 6 and packet.src not in walk.world.local6:
        walk.step(
            "source address", f"{packet.src_text} is not an address of this namespace", "inet6_bind", ok=False
        )
        walk.refuse(EADDRNOTAVAIL, "inet6_bind")
    dst = _route(walk, packet)
    if dst.error:
        by = f"route {dst.alias.text}" if dst.alias is not None else "routing"
        function = "ip_route_output_flow" if packet.version == 4 else "ip6_dst_lookup_flow"
        walk.step(
            by,
            f"no way from {packet.src_text} to {packet.dst_text}",
            function,
            route_sources(dst.alias),
            ok=False,
        )
        counters = (
            (("Ip:OutNoRoutes",) if packet.version == 4 else ("Ip6OutNoRoutes",))
            if dst.error == ENETUNREACH
            else ()
        )
        walk.refuse(dst.error, function, counters)
    assert dst.device is not None
    by = f"route {dst.alias.text}" if dst.alias is not None else f"device {dst.device.name}"
    walk.step(
        by,
        f"{packet.dst_text} goes out of {dst.device.name}",
        "ip_route_output_flow",
        route_sources(dst.alias),
    )
    mtu, limit = _mtu(dst, packet, dst.device)
    if packet.pmtudisc is not None:
        _discover(walk, packet, dst, mtu, limit)
    if packet.df and packet.wire_length > mtu:
        walk.step(
            limit,
            f"{packet.length} bytes with DF do not fit {mtu}",
            "ip_append_data",
            route_sources(dst.alias),
            ok=False,
        )
        walk.refuse(EMSGSIZE, "__ip_append_data" if packet.version == 4 else "__ip6_append_data")
    packet.route = dst


def _route(walk: Walk, packet: Packet) -> Dst:
    if packet.version == 6:
        return route_output6(
            walk,
            src=packet.src,
            dst=packet.dst,
            mark=packet.mark,
            tos=packet.tos,
            proto=packet.proto,
            sport=packet.sport,
            dport=packet.dport,
        )
    sport, dport = output_ports(packet)
    dst = route_output(
        walk,
        src=packet.src,
        dst=packet.dst,
        mark=packet.mark,
        tos=packet.tos,
        proto=packet.proto,
        sport=sport,
        dport=dport,
    )
    if dst.type == "broadcast":
        walk.assume("the sender may broadcast (SO_BROADCAST)")
    return dst


def _mtu(dst: Dst, packet: Packet, device: Device) -> tuple[int, str]:
    """ip_sk_use_pmtu: modes from PROBE on look at the device alone, the others at what was learned as well."""
    if packet.pmtudisc in ("probe", "interface", "omit"):
        return device.need_mtu(), f"device {device.name} mtu {device.mtu}"
    if packet.version == 4:
        mtu, limit = route_mtu4(dst.alias, dst.leg, device)
    else:
        mtu, limit = route_mtu6(dst.alias, device, forwarding=False)
    locked = dst.alias is not None and dst.alias.mtu_locked
    if packet.pmtu and packet.pmtu < mtu and not locked:
        return packet.pmtu, f"path MTU {packet.pmtu} learned for {packet.dst_text}"
    return mtu, limit


def _discover(walk: Walk, packet: Packet, dst: Dst, mtu: int, limit: str) -> None:
    """ip_dont_fragment and ip_sk_ignore_df: who sets DF, and who may fragment its own packets."""
    mode = packet.pmtudisc
    locked = dst.alias is not None and dst.alias.mtu_locked
    if packet.wire_length > mtu and mode in ("do", "probe", "interface"):
        text = f"{packet.length} bytes do not fit {mtu}, and the socket does not fragment (IP_MTU_DISCOVER {mode})"
        walk.step(limit, text, "ip_append_data", route_sources(dst.alias), ok=False)
        walk.refuse(EMSGSIZE, "__ip_append_data" if packet.version == 4 else "__ip6_append_data")
    packet.df = mode in ("do", "probe") or (mode == "want" and packet.wire_length <= mtu and not locked)


def emit(walk: Walk, packet: Packet) -> None:
    """LOCAL_OUT to the device. Returns, with ``oif`` set, where the packet comes back in through loopback."""
    dst = packet.route
    assert isinstance(dst, Dst)
    assert dst.device is not None
    packet.oif = dst.device.name
    traverse(walk, packet, "output")
    dst = packet.route
    assert isinstance(dst, Dst)
    device = dst.device
    assert device is not None
    packet.oif = device.name
    if packet.version == 6 and device.disable_ipv6.value:
        walk.step(
            f"sysctl {device.disable_ipv6.name} = 1",
            "IPv6 is off here",
            "ip6_output",
            device.disable_ipv6.sources,
            ok=False,
        )
        walk.drop("IPV6DISABLED", "ip6_output")
    traverse(walk, packet, "postrouting")
    if device.loopback:
        return
    mtu, limit = _mtu(dst, packet, device)
    if packet.wire_length > mtu:
        if packet.df:
            walk.step(
                limit,
                f"{packet.length} bytes with DF do not fit {mtu}",
                "ip_fragment",
                route_sources(dst.alias),
                ok=False,
            )
            walk.drop("NOT_SPECIFIED", "ip_fragment", ("Ip:FragFails",), errno=EMSGSIZE)
        walk.step(
            limit,
            f"{packet.length} bytes leave as fragments of at most {mtu}",
            "ip_do_fragment",
            route_sources(dst.alias),
            fragments=True,
        )
    transmit(walk, packet, dst)
