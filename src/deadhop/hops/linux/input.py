"""Receipt: from ip_rcv over PRE_ROUTING and the routing decision to local input or forwarding.

IPv4 after ip_rcv_finish_core and ip_route_input_slow (net/ipv4/ip_input.c, route.c); IPv6 is in :mod:`input6`.
"""

from __future__ import annotations

from typing import NoReturn

from deadhop.hops.linux import forward, icmp, input6
from deadhop.hops.linux.context import Walk
from deadhop.hops.linux.devices import Device
from deadhop.hops.linux.errors import EACCES, EHOSTUNREACH, ENETUNREACH
from deadhop.hops.linux.fib import Alias, Found
from deadhop.hops.linux.netfilter import traverse
from deadhop.hops.linux.packet import Packet
from deadhop.hops.linux.route4 import (
    LBCAST,
    Dst,
    is_local_multicast,
    is_loopback,
    is_multicast,
    pick_leg,
    route_sources,
)
from deadhop.hops.linux.rules import FlowKey
from deadhop.hops.linux.source_validation import Verdict, validate_source
from deadhop.model.protocols import TCP, UDP

IGMP = 2
IGMP_ALL_HOSTS = 0xE0000001
#: What ip_error says to the sender, and the reason and counter it books, by the route's errno.
ERROR_ICMP = {EHOSTUNREACH: 1, ENETUNREACH: 0, EACCES: 13}


def receive(walk: Walk, packet: Packet) -> NoReturn:
    """The packet arrives on ``packet.iif``, addressed to this host's MAC (PACKET_HOST)."""
    assert packet.iif is not None
    packet.oif = None
    device = walk.world.device(packet.iif)
    if not device.up:
        walk.step(
            f"device {device.name}",
            "is down: it receives nothing",
            "__netif_receive_skb",
            (device.source,),
            ok=False,
        )
        walk.drop("", "__netif_receive_skb")
    master = walk.world.devices.get(device.link.master or "")
    if master is not None and master.kind == "bridge":
        walk.assume(f"the frame is addressed to the bridge {master.name} itself")
        packet.iif = master.name
        device = master
    if packet.version == 6:
        input6.receive(walk, packet, device)
    traverse(walk, packet, "prerouting")
    if device.vrf is not None:
        packet.iif = device.vrf
    if packet.route is not None:
        local_deliver(walk, packet, device)
    early_demux(walk, packet, device)
    route_input(walk, packet, device)


def early_demux(walk: Walk, packet: Packet, device: Device) -> None:
    """ip_rcv_finish_core, ip6_rcv_finish_core: a packet for a connected socket takes the route that the socket keeps,
    so that neither routing nor reverse-path filtering looks at it."""
    if not packet.demuxed or packet.proto not in (TCP, UDP):
        return
    own = "net.ipv4.tcp_early_demux" if packet.proto == TCP else "net.ipv4.udp_early_demux"
    if not walk.world.sysctl("net.ipv4.ip_early_demux", 1) or not walk.world.sysctl(own, 1):
        return
    walk.step(
        "early demux",
        "a connected socket waits for it: no route look-up, no reverse-path check",
        "ip_rcv_finish_core",
    )
    packet.route = Dst("local", walk.world.loopback())
    local_deliver(walk, packet, device)


def local_deliver(walk: Walk, packet: Packet, device: Device) -> NoReturn:
    """ip_local_deliver: the INPUT hook, then the packet belongs to a local protocol."""
    packet.oif = None
    if packet.frag:
        walk.deliver("ip_defrag")  # its datagram goes on with the first fragment
    packet.defragment()
    traverse(walk, packet, "input")
    walk.step(
        "local input",
        f"{packet.dst_text} is handed to the local protocol",
        "ip_local_deliver_finish",
        (device.source,),
    )
    walk.deliver("ip_local_deliver_finish")


def route_input(walk: Walk, packet: Packet, device: Device) -> NoReturn:
    """ip_route_input_rcu and _slow: martians first, then the FIB, then the source."""
    src, dst = packet.src, packet.dst
    if is_multicast(dst):
        _multicast(walk, packet, device)
    if is_multicast(src) or src == LBCAST:
        martian(walk, device, "IP_INVALID_SOURCE", f"{packet.src_text} cannot be a source")
    if dst == LBCAST or (src == 0 and dst == 0):
        _broadcast(walk, packet, device, None)
    if src == 0:
        martian(walk, device, "IP_INVALID_SOURCE", "0.0.0.0 is a source for limited broadcast alone")
    if dst == 0:
        martian(walk, device, "IP_INVALID_DEST", "0.0.0.0 is no destination")
    if (is_loopback(dst) or is_loopback(src)) and not device.loopback and not device.route_localnet.need():
        text = f"{packet.dst_text if is_loopback(dst) else packet.src_text} on {device.name} without route_localnet"
        martian(walk, device, "IP_LOCALNET", text)
    flow = FlowKey(
        dst,
        src,
        iif=packet.iif or device.name,
        mark=packet.mark,
        tos=packet.tos,
        vrf=device.vrf,
    )
    if walk.world.fib4.wants_ports:
        flow.proto, flow.sport, flow.dport = packet.proto, packet.sport, packet.dport
    found = walk.world.fib4.lookup(flow)
    if found.error:
        error = found.error if device.forwarding.need() else EHOSTUNREACH
        _unreachable(walk, packet, device, error, found)
    alias, leg = found.alias, found.leg
    assert alias is not None
    assert leg is not None
    walk.step(
        f"route {alias.text}",
        f"{packet.dst_text} is {_kind(alias)}",
        "fib_table_lookup",
        route_sources(alias, found.by),
        table=alias.table,
        rule=getattr(found.by, "text", None),
    )
    if alias.type == "broadcast" and not device.bc_forwarding.value:
        _broadcast(walk, packet, device, alias)
    if alias.type == "local":
        _validate(walk, packet, device, dst, None)
        packet.route = Dst("local", walk.world.loopback(), alias, leg)
        local_deliver(walk, packet, device)
    if not device.forwarding.need():
        _unreachable(walk, packet, device, EHOSTUNREACH, found)
    if alias.type not in ("unicast", "broadcast"):
        martian(walk, device, "IP_INVALID_DEST", f"{alias.text} cannot be forwarded to")
    leg = pick_leg(walk, alias, leg)
    _validate(walk, packet, device, dst, leg.dev)
    forward.forward4(walk, packet, Dst("unicast", walk.world.device(leg.dev), alias, leg))


def _kind(alias: Alias) -> str:
    return {
        "unicast": "elsewhere",
        "local": "an address of this namespace",
        "broadcast": "a broadcast address",
    }.get(alias.type, alias.type)


def _multicast(walk: Walk, packet: Packet, device: Device) -> NoReturn:
    """ip_check_mc_rcu and ip_mc_validate_source. Only the all-hosts group is joined without a program's doing."""
    if packet.dst != IGMP_ALL_HOSTS and packet.proto != IGMP:
        if device.mc_forwarding.value and not is_local_multicast(packet.dst):
            walk.assume("no multicast route")
        walk.assume(f"no program has joined {packet.dst_text} on {device.name}")
        text = f"{packet.dst_text} is not joined on {device.name}"
        walk.step(f"device {device.name}", text, "ip_route_input_rcu", (device.source,), ok=False)
        walk.drop("NOT_SPECIFIED", "ip_rcv_finish_core")
    if is_multicast(packet.src) or packet.src == LBCAST:
        martian(walk, device, "IP_INVALID_SOURCE", f"{packet.src_text} cannot be a source")
    if is_loopback(packet.src) and not device.loopback and not device.route_localnet.need():
        martian(walk, device, "IP_LOCALNET", f"{packet.src_text} on {device.name} without route_localnet")
    if packet.src == 0:
        if not is_local_multicast(packet.dst) and packet.proto != IGMP:
            martian(walk, device, "IP_INVALID_SOURCE", "0.0.0.0 is no source for this group")
    else:
        _validate(walk, packet, device, 0, None)
    packet.route = Dst("multicast", walk.world.loopback())
    local_deliver(walk, packet, device)


def _broadcast(walk: Walk, packet: Packet, device: Device, alias: Alias | None) -> NoReturn:
    if packet.src:
        _validate(walk, packet, device, 0, None)
    packet.route = Dst("broadcast", walk.world.loopback(), alias)
    local_deliver(walk, packet, device)


def _validate(walk: Walk, packet: Packet, device: Device, dst: int, oif: str | None) -> None:
    verdict: Verdict = validate_source(walk.world, packet, device, dst, oif)
    if not verdict.reason:
        if verdict.route is not None:
            _source_step(walk, device, verdict, ok=True)
        return
    _source_step(walk, device, verdict, ok=False)
    counters = ("TcpExt:IPReversePathFilter",) if verdict.reason == "IP_RPFILTER" else ()
    walk.drop(verdict.reason, "ip_rcv_finish_core", counters)


def _source_step(walk: Walk, device: Device, verdict: Verdict, *, ok: bool) -> None:
    route = verdict.route
    sources = device.rp_filter.sources + (route_sources(route.alias, route.by) if route is not None else ())
    by = (
        f"sysctl {device.rp_filter.name} = {device.rp_filter.value}"
        if verdict.reason in ("IP_RPFILTER", "")
        else "source check"
    )
    walk.step(by, verdict.text, "fib_validate_source", sources, ok=ok, martian=not ok)


def martian(walk: Walk, device: Device, reason: str, text: str) -> NoReturn:
    """A martian: logged where log_martians is on, else without a trace."""
    walk.step(
        "martian check", text, "ip_route_input_slow", device.route_localnet.sources, ok=False, martian=True
    )
    walk.drop(reason, "ip_rcv_finish_core")


def _unreachable(walk: Walk, packet: Packet, device: Device, error: int, found: Found) -> NoReturn:
    """ip_error: what happens to a packet whose route is an error."""
    alias = found.alias
    by = f"route {alias.text}" if alias is not None else getattr(found.by, "text", None) or "policy rules"
    if alias is None and found.by is not None:
        by = f"rule {by}"
    sources = route_sources(alias, found.by)
    if not device.forwarding.need():
        by, sources = f"sysctl {device.forwarding.name} = 0", device.forwarding.sources
        text = f"{packet.dst_text} is not an address of this namespace and {device.name} does not forward"
        walk.step(by, text, "ip_error", sources, ok=False)
        walk.drop("IP_INADDRERRORS", "ip_error", ("Ip:InAddrErrors",))
    text = (
        f"no route to {packet.dst_text}"
        if alias is None and found.by is None
        else f"{packet.dst_text} ends here"
    )
    walk.step(by, text, "ip_error", sources, ok=False)
    code = ERROR_ICMP.get(error)
    if code is None:
        walk.drop("NOT_SPECIFIED", "ip_error")
    told = icmp.send4(walk, packet, 3, code, local=False)
    if error == ENETUNREACH:
        walk.drop("IP_INNOROUTES", "ip_error", ("IpExt:InNoRoutes",), told)
    walk.drop("NOT_SPECIFIED", "ip_error", (), told)
