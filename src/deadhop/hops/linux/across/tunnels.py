"""Tunnels: the outer packet that an inner one leaves in, and the device that unwraps it.

VXLAN and GENEVE after vxlan_xmit_one and geneve_xmit_skb, IPIP, SIT and GRE after ip_tunnel_xmit. What they add stands in
:mod:`deadhop.model.encapsulation`; here it is summed from the headers.
"""

from __future__ import annotations

from typing import Any, NoReturn

from deadhop.hops.linux import icmp
from deadhop.hops.linux.across.wiring import Port, Wiring
from deadhop.hops.linux.context import Walk
from deadhop.hops.linux.devices import Device
from deadhop.hops.linux.errors import Unknown
from deadhop.hops.linux.neighbour import VALID
from deadhop.hops.linux.packet import Packet
from deadhop.hops.linux.route4 import route_output
from deadhop.model import ip
from deadhop.model.protocols import UDP

ETHERNET, UDP_HEADER, VXLAN_HEADER = 14, 8, 8
IP_HEADER = {4: 20, 6: 40}
#: The outer protocol and the bytes between the outer IP header and the inner packet, by kind of device.
IP_TUNNELS = {
    "ipip": (4, 0),
    "sit": (41, 0),
    "gre": (47, 4),
    "gretap": (47, 4 + ETHERNET),
    "ip6tnl": (41, 0),
    "ip6gre": (47, 4),
}
IN_UDP = {"vxlan": 4789, "geneve": 6081}
#: Devices behind which a program or another kernel module decides: what they do with a packet no listing shows.
OPAQUE = {"tun": "a program reads", "wireguard": "WireGuard's peers (wg show) tell where packets go behind", "xfrm": "IPsec policies (ip xfrm) decide behind"}  # fmt: skip


def is_tunnel(device: Device) -> bool:
    return device.kind in IN_UDP or device.kind in IP_TUNNELS


def wrap(wiring: Wiring, walk: Walk, port: Port, hop: str, packet: Packet) -> Packet:
    """The outer packet, as a local sender's of the namespace. Ends the walk where the inner packet does not fit."""
    device = walk.world.devices[port.dev]
    info = device.link.info or {}
    remote = _remote(wiring, walk, port, device, info, hop)
    version, dst = ip.parse(remote)
    local = str(info.get("local") or "")
    src = ip.parse(local)[1] if local and ip.parse(local)[0] == version else 0
    if device.kind in IN_UDP:
        proto, inside = UDP, UDP_HEADER + VXLAN_HEADER + ETHERNET
    else:
        proto, inside = IP_TUNNELS[device.kind or ""]
    if version == 4 and not src:
        src = route_output(walk, src=0, dst=dst, mark=packet.mark, proto=proto).src
    length = packet.length + inside + IP_HEADER[version]
    told = info.get("df")
    if device.kind in IN_UDP:
        df = told == "set" or (told == "inherit" and packet.df)
    else:
        df = bool(info.get("pmtudisc", True)) or packet.df
        _fits(walk, packet, device, dst, proto, length, version)
    outer = Packet(
        version, src, dst, proto, sport=49152 if proto == UDP else 0, dport=_port(device, info) if proto == UDP else 0,
        length=length, df=df and version == 4, ttl=int(info.get("ttl") or 64) if str(info.get("ttl") or "").isdigit() else 64,
        mark=packet.mark,
    )  # fmt: skip
    text = f"leaves inside {device.kind} to {remote}, {length} bytes" + (" with DF" if outer.df else "")
    walk.step(f"device {port.dev}", text, f"{device.kind}_xmit", (device.source,))
    return outer


def _port(device: Device, info: dict[str, Any]) -> int:
    told = info.get("port")
    return told if isinstance(told, int) and told else IN_UDP.get(device.kind or "", 0)


def _fits(
    walk: Walk, packet: Packet, device: Device, dst: int, proto: int, length: int, version: int
) -> None:
    """tnl_update_pmtu: an inner packet with DF that is too large for the outer route is refused at the tunnel."""
    if version != 4 or packet.version != 4 or not packet.df:
        return
    route = route_output(walk, src=0, dst=dst, mark=packet.mark, proto=proto)
    mtu = route.device.mtu if route.device is not None else None
    if mtu is None or length <= mtu:
        return
    _refuse(walk, packet, device, mtu - (length - packet.length), mtu)


def _refuse(walk: Walk, packet: Packet, device: Device, room: int, mtu: int) -> NoReturn:
    text = f"{packet.length} bytes with DF do not fit the tunnel's way of {mtu} bytes: {room} are left"
    walk.step(f"device {device.name}", text, "tnl_update_pmtu", (device.source,), ok=False)
    walk.drop("NOT_SPECIFIED", "ip_tunnel_xmit", (), icmp.send4(walk, packet, 3, 4, room, local=False))


def _remote(wiring: Wiring, walk: Walk, port: Port, device: Device, info: dict[str, Any], hop: str) -> str:
    told = str(info.get("remote") or info.get("remote6") or "")
    if told and told not in ("any", "0.0.0.0", "::"):
        return told
    entry = walk.world.neighbours.get((port.dev, ip.parse(hop)))
    mac = entry.lladdr.lower() if entry is not None and entry.lladdr and set(entry.state) & VALID else None
    peers = [
        (other, far)
        for other, far in ((p, wiring.device(p)) for ports in ([wiring.macs.get(mac, [])] if mac else wiring.macs.values()) for p in ports)
        if far is not None and far.kind == device.kind and other.netns != port.netns
        and (far.link.info or {}).get("id") == info.get("id")
        and (mac or _holds(far, hop))
    ]  # fmt: skip
    locals_ = {str((far.link.info or {}).get("local") or "") for _other, far in peers} - {""}
    if len(locals_) != 1:
        raise Unknown(f"which node has {hop} behind {port.dev} (bridge fdb show dev {port.dev})")
    walk.assume(f"the forwarding table of {port.dev} agrees with the address of its peer")
    return locals_.pop()


def _holds(device: Device, hop: str) -> bool:
    version, address = ip.parse(hop)
    return any(a.local == address for a in (device.inet4 if version == 4 else device.inet6))


def unwrap(wiring: Wiring, netns: str, outer: Packet, sender: Device) -> str | None:
    """The tunnel device of ``netns`` that takes ``outer``; None where none does (vxlan_rcv, ip_tunnel_lookup)."""
    info = sender.link.info or {}
    for name, device in wiring.worlds[netns].devices.items():
        own = device.link.info or {}
        if device.kind != sender.kind or not device.up:
            continue
        if device.kind in IN_UDP:
            if own.get("id") == info.get("id") and _port(device, own) == outer.dport:
                return name
        elif own.get("local") in (None, "any", outer.dst_text) and own.get("remote") in (
            None,
            "any",
            outer.src_text,
        ):
            return name
    return None
