"""Address translation (nf_nat_core.c): what a new connection's rules set up, and what it does to the packet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deadhop.hops.linux.netfilter.conntrack import DST_NAT, SRC_NAT, Connection
from deadhop.hops.linux.packet import Packet
from deadhop.hops.linux.route4 import Dst
from deadhop.hops.linux.saddr import GLOBAL, scope6, select4, select6
from deadhop.model import ip

if TYPE_CHECKING:
    from deadhop.hops.linux.netfilter.state import HookState

#: HOOK2MANIP: which end of the packet a hook translates.
MANIP = {"prerouting": "dst", "output": "dst", "input": "src", "postrouting": "src"}


def settle(packet: Packet, manip: str, address: int | None, port: int | None) -> None:
    """nf_nat_setup_info: the connection's reply tuple takes the translation, then the packet does."""
    connection = packet.conn
    assert isinstance(connection, Connection)
    src, dst, sport, dport = connection.reply
    if manip == "dst":
        src = src if address is None else address
        sport = sport if port is None else port
        connection.status |= DST_NAT
    else:
        dst = dst if address is None else address
        dport = dport if port is None else port
        connection.status |= SRC_NAT
    connection.reply = (src, dst, sport, dport)
    connection.settled.add(manip)


def _bit(hook: str, reply: bool) -> int:
    """The status bit that says whether ``hook`` translates packets of a direction."""
    return SRC_NAT if (MANIP[hook] == "src") != reply else DST_NAT


def translate(packet: Packet, hook: str) -> bool:
    """nf_nat_packet: rewrites the end that ``hook`` translates. True where the destination address changed."""
    connection = packet.conn
    if not isinstance(connection, Connection):
        return False
    if packet.error and not connection.status & _bit(hook, packet.reply):
        return False  # nf_nat_icmp_reply_translation
    mine, other = (
        (connection.reply, connection.original) if packet.reply else (connection.original, connection.reply)
    )
    del mine
    before = packet.dst
    if MANIP[hook] == "dst":
        packet.dst = other[0]
        if packet.has_ports:
            packet.dport = other[2]
    else:
        packet.src = other[1]
        if packet.has_ports:
            packet.sport = other[3]
    return packet.dst != before


def masquerade_source(packet: Packet, state: HookState) -> int:
    """nf_nat_masquerade_ipv4/6: the address of the output device that suits the next hop; 0 where it has none."""
    device = state.world.device(packet.oif or "lo")
    route = packet.route
    if packet.version == 6:
        return select6(state.world, device, packet.dst)
    hop = packet.dst
    if isinstance(route, Dst):
        version, gateway = route.next_hop(4, packet.dst)
        hop = gateway if version == 4 else 0
    return select4(state.world, device, hop)


def redirect_target(packet: Packet, state: HookState) -> int:
    """nf_nat_redirect_ipv4/6: loopback for local output, else the input device's first address; 0 where it has none."""
    if state.hook == "output":
        return 1 if packet.version == 6 else 0x7F000001
    device = state.world.device(packet.iif or "lo")
    if packet.version == 4:
        return device.inet4[0].local if device.inet4 else 0
    wanted = scope6(
        packet.dst
    )  # nf_nat_redirect_ipv6_usable: a narrow destination asks for a target as narrow
    for address in device.inet6:
        if address.usable and wanted in (GLOBAL, scope6(address.local)):
            return address.local
    return 0


def target(value: Any, old: int, version: int) -> tuple[int | None, int | None, str]:
    """``(packed address, port, note)`` of a NAT statement's address: a text, a range, or a concatenation with a port."""
    if value is None:
        return None, None, ""
    if isinstance(value, dict) and "range" in value:
        low, high = value["range"]
        note = "" if low == high else f"one of {low}-{high}, taken as {low}"
        return _packed(low), None, note
    if isinstance(value, dict) and "prefix" in value:
        net = ip.mask(version, int(value["prefix"]["len"]))  # netmap: the host's bits stay
        return _packed(value["prefix"]["addr"]) & net | old & ~net, None, ""
    if isinstance(value, dict) and "concat" in value:
        address, port = value["concat"][:2]
        return _packed(address), int(port), ""
    return _packed(value), None, ""


def _packed(value: Any) -> int:
    return value if isinstance(value, int) else ip.parse(str(value))[1]


def port_of(value: Any) -> tuple[int | None, str]:
    """``(port, note)`` of a NAT statement's port: a number or a range."""
    if value is None:
        return None, ""
    if isinstance(value, dict) and "range" in value:
        low, high = value["range"]
        return int(low), "" if low == high else f"a port of {low}-{high}, taken as {low}"
    return int(value), ""
