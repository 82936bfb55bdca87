"""ICMP errors and their own way back (__icmp_send, icmp6_send).

An error is a locally made packet: it needs a route to the sender of the packet that caused it and passes LOCAL_OUT
and POST_ROUTING. Where it cannot leave, the sender is not told, and the answer says so: ``dropped``.
Rate limits are not modelled: one packet stays below them.
"""

from __future__ import annotations

from deadhop.hops.linux.context import Walk
from deadhop.hops.linux.devices import Device
from deadhop.hops.linux.errors import Ended
from deadhop.hops.linux.fib import SCOPE_LINK
from deadhop.hops.linux.packet import Packet
from deadhop.hops.linux.route4 import Dst, route_output
from deadhop.hops.linux.route6 import has_prefsrc, is_multicast6, need_strict, route_output6
from deadhop.hops.linux.saddr import select4, select6
from deadhop.model.packet import IcmpError
from deadhop.model.protocols import ICMP, ICMP_ERRORS, ICMPV6
from deadhop.model.trace import Disposition

NR_ICMP_TYPES = 18
#: RT_TOS() and IPTOS_PREC_INTERNETCONTROL: the TOS of an ICMP error.
TOS_MASK, PREC_INTERNETCONTROL = 0x1E, 0xC0
QUOTE4, QUOTE6 = 576, 1280


def send4(
    walk: Walk,
    packet: Packet,
    icmp_type: int,
    code: int,
    mtu: int | None = None,
    *,
    local: bool,
    broadcast: bool = False,
) -> IcmpError | None:
    """The ICMP error about ``packet`` if it gets away, else None. ``local``: the packet's route is local input (the
    error's source is then the address that the packet was sent to); ``broadcast``: its route is a broadcast's."""
    if broadcast:
        _silent(walk, "the packet was not addressed to one host")
        return None
    if packet.proto == ICMP and (packet.icmp_type in ICMP_ERRORS or packet.icmp_type > NR_ICMP_TYPES):
        _silent(walk, "no error is sent about an ICMP error")
        return None
    world = walk.world
    src = packet.dst if local else 0
    if not local and packet.iif is not None and world.sysctl("net.ipv4.icmp_errors_use_inbound_ifaddr", 0):
        src = select4(world, world.device(packet.iif), packet.src, SCOPE_LINK)
    tos = packet.tos & TOS_MASK | PREC_INTERNETCONTROL
    mark = packet.mark if world.sysctl("net.ipv4.fwmark_reflect", 0) else 0
    dst = route_output(
        walk,
        src=src,
        dst=packet.src,
        mark=mark,
        tos=tos,
        proto=ICMP,
        dport=icmp_type << 8 | code,
    )
    if dst.error:
        _silent(walk, f"no route back to {packet.src_text}")
        return None
    error = Packet(
        4, dst.src, packet.src, ICMP,
        length=min(QUOTE4, 28 + packet.length), tos=tos, mark=mark, ttl=world.sysctl("net.ipv4.ip_default_ttl", 64),
        icmp_type=icmp_type, icmp_code=code,
    )  # fmt: skip
    return _emit(walk, packet, error, dst, IcmpError(icmp_type, code, mtu))


def send6(
    walk: Walk, packet: Packet, device: Device, icmp_type: int, code: int, mtu: int | None = None
) -> IcmpError | None:
    """The ICMPv6 error about ``packet`` if it gets away, else None. ``device`` is the skb's at that moment."""
    world = walk.world
    src = packet.dst if packet.dst in world.local6 or packet.dst in world.anycast6 else 0
    if is_multicast6(packet.dst):
        if icmp_type != 2:
            _silent(walk, "the packet was sent to a multicast group")
            return None
        src = 0
    if packet.src == 0 or is_multicast6(packet.src):
        _silent(walk, f"{packet.src_text} names no single sender")
        return None
    if packet.proto == ICMPV6 and packet.icmp_type < 128:
        _silent(walk, "no error is sent about an ICMPv6 error")
        return None
    scoped = need_strict(packet.src) and packet.src != 1
    oif = (packet.iif or device.name) if scoped else None
    mark = packet.mark if world.sysctl("net.ipv6.fwmark_reflect", 0) else 0
    if not src and packet.iif is not None and not has_prefsrc(walk, packet.src):
        src = select6(world, world.device(packet.iif), packet.src)
    dst = route_output6(
        walk,
        src=src,
        dst=packet.src,
        mark=mark,
        proto=ICMPV6,
        dport=icmp_type << 8 | code,
        oif=oif,
    )
    if dst.error:
        _silent(walk, f"no route back to {packet.src_text}")
        return None
    if _anycast(dst, packet.src):
        _silent(walk, f"{packet.src_text} is an anycast address")
        return None
    error = Packet(
        6, dst.src, packet.src, ICMPV6,
        length=min(QUOTE6, 48 + packet.length), mark=mark, icmp_type=icmp_type, icmp_code=code,
    )  # fmt: skip
    return _emit(walk, packet, error, dst, IcmpError(icmp_type, code, mtu))


def _anycast(dst: Dst, address: int) -> bool:
    """ipv6_anycast_destination: an anycast route, or the subnet-router address of an on-link prefix."""
    alias = dst.alias
    if alias is None:
        return False
    if alias.type == "anycast":
        return True
    on_link = dst.leg is not None and dst.leg.gateway is None
    return alias.length < 127 and on_link and alias.type == "unicast" and alias.network == address


def _silent(walk: Walk, why: str) -> None:
    walk.step("ICMP error", f"not sent: {why}", "icmp_send", ok=None)


def _emit(walk: Walk, packet: Packet, error: Packet, dst: Dst, what: IcmpError) -> IcmpError | None:
    """Sends ``error`` on its way; its connection state is RELATED to the packet's (nf_ct_attach)."""
    error.route = dst
    error.error = True
    if packet.tracked:
        error.ct, error.ct_mark, error.conn, error.reply = (
            "related",
            packet.ct_mark,
            packet.conn,
            not packet.reply,
        )
    side = walk.side()
    try:
        walk.run(side, error)
    except Ended as ended:
        answer = ended.answer
    if answer.disposition in (Disposition.FORWARDED, Disposition.DELIVERED):
        walk.errors.append((error, answer))
        return what
    last = side.steps[-1] if side.steps else None
    text = f"dies on its way back: {answer.reason}" + (f" by {last.decided_by}" if last else "")
    walk.step("ICMP error", text, answer.function, last.sources if last else (), ok=False)
    return None
