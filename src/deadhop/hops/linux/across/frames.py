"""A frame from the device it leaves to the one that receives it: who answers for the next hop, and what fits on the way."""

from __future__ import annotations

from deadhop.hops.linux.across.wiring import CARDS, Crossing, Port, Station, Wiring
from deadhop.hops.linux.context import Walk
from deadhop.hops.linux.errors import Ended, Unknown
from deadhop.hops.linux.neighbour import VALID
from deadhop.hops.linux.netfilter import traverse
from deadhop.hops.linux.packet import Packet
from deadhop.hops.linux.world import World
from deadhop.model import cni, ip


class Lost(Exception):
    """The frame dies on its way, in ``netns``."""

    def __init__(self, netns: str, ended: Ended) -> None:
        super().__init__(netns)
        self.netns = netns
        self.answer = ended.answer


class Outside(Exception):
    """The frame leaves what the evidence shows: nobody in it hears the frame."""


def receiver(wiring: Wiring, walk: Walk, port: Port, hop: str, packet: Packet) -> Station:
    """The device that takes the frame for ``hop``. Ends the walk where the frame dies, raises :class:`Outside` where
    it leaves the evidence, and :class:`Unknown` where several would take it."""
    stations = wiring.stations(port)
    version, address = ip.parse(hop)
    entry = walk.world.neighbours.get((port.dev, (version, address)))
    mac = entry.lladdr.lower() if entry is not None and entry.lladdr and set(entry.state) & VALID else None
    if mac is not None:
        fits = [s for s in stations if _mac(wiring, s.port) == mac]
        if not fits and stations and not _open(wiring, stations, port):
            place = stations[0].port
            text = f"the frame is addressed to {mac}, {place} has {_mac(wiring, place) or 'another address'}"
            walk.step(
                f"neighbour {hop} dev {port.dev}",
                text,
                "ip_rcv_core",
                (entry.source,) if entry else (),
                ok=False,
            )
            walk.drop("OTHERHOST", "ip_rcv_core")
    else:
        fits = [s for s in stations if answers(wiring.worlds[s.port.netns], s.port.dev, version, address)]
        if not fits and len(stations) == 1 and (row := cni.device(stations[0].port.dev)) is not None:
            walk.assume(f"the CNI's program on {stations[0].port} answers for {hop} ({row.cni})")
            fits = stations
        if not fits and stations and not _open(wiring, stations, port):
            walk.step(
                f"neighbour {hop} dev {port.dev}", "nobody on this wire answers", "neigh_invalidate", ok=False
            )
            walk.drop("NEIGH_FAILED", "neigh_invalidate")
    if not fits:
        raise Outside
    if len({s.port for s in fits}) > 1:
        raise Unknown(f"several devices answer for {hop}: {', '.join(str(s.port) for s in fits)}")
    station = fits[0]
    if station.assumed:
        walk.assume(station.assumed)
    for crossing in station.path:
        try:
            _cross(wiring, walk, crossing, packet)
        except Ended as ended:
            # The sender of a pair hands the frame to its peer itself: the drop is booked where it came from.
            raise Lost(wiring.peers.get(crossing.port, crossing.port).netns, ended) from None
    return station


def _cross(wiring: Wiring, walk: Walk, crossing: Crossing, packet: Packet) -> None:
    device = wiring.device(crossing.port)
    if crossing.bridge is not None:
        _bridge_netfilter(wiring, walk, crossing.bridge, packet)
    if (
        crossing.limit is not None
        and not packet.gso
        and packet.length > crossing.limit
        and device is not None
    ):
        text = f"{packet.length} bytes do not fit {device.mtu}: the frame is dropped without an ICMP error"
        walk.step(
            f"device {crossing.port} mtu {device.mtu}", text, crossing.function, (device.source,), ok=False
        )
        walk.drop("NOT_SPECIFIED", crossing.function)


def _bridge_netfilter(wiring: Wiring, walk: Walk, bridge: Port, packet: Packet) -> None:
    """br_netfilter: frames between ports pass the host's iptables hooks where bridge-nf-call-iptables is on."""
    world = wiring.worlds[bridge.netns]
    key = f"net.bridge.bridge-nf-call-{'iptables' if packet.version == 4 else 'ip6tables'}"
    found = world.ns.sysctls.get(key)
    if found is None or found.value != "1":
        return
    before = (packet.src, packet.dst)
    packet.iif, packet.oif, packet.ct, packet.conn = bridge.dev, None, None, None
    side = Walk(world, walk.choices, walk.run)
    side.steps = walk.steps
    side.step(
        f"sysctl {key} = 1",
        f"the bridge {bridge} hands the frame to netfilter",
        "br_nf_pre_routing",
        (found.source,),
    )
    traverse(side, packet, "prerouting")
    if (packet.src, packet.dst) != before:
        raise Unknown(f"NAT of a bridged frame in {bridge.netns}")
    packet.oif = bridge.dev
    traverse(side, packet, "forward")
    traverse(side, packet, "postrouting")
    packet.ct = packet.conn = None


def answers(world: World, dev: str, version: int, address: int) -> bool:
    """Whether ``dev`` answers an ARP request or a neighbour solicitation for ``address`` (arp_process, ndisc_recv_ns)."""
    device = world.devices.get(dev)
    if device is None:
        return False
    if version == 6:
        return any(a.local == address and a.usable for a in device.inet6) or _switch(
            world, "ipv6", dev, "proxy_ndp"
        )
    ignore = max(_value(world, "ipv4", "all", "arp_ignore"), _value(world, "ipv4", dev, "arp_ignore"))
    own = any(a.local == address for a in device.inet4)
    if own or (ignore == 0 and world.local4.get(address) not in (None, "lo")):
        return ignore < 8
    if ignore == 0 and address in world.local4:
        return True
    return _switch(world, "ipv4", dev, "proxy_arp")


def _switch(world: World, version: str, dev: str, key: str) -> bool:
    return bool(_value(world, version, "all", key) or _value(world, version, dev, key))


def _value(world: World, version: str, dev: str, key: str) -> int:
    text = world.ns.sysctl(f"net.{version}.conf.{dev.replace('.', '/')}.{key}")
    return int(text) if text and text.isdigit() else 0


def _mac(wiring: Wiring, port: Port) -> str | None:
    device = wiring.device(port)
    return device.link.address.lower() if device is not None and device.link.address else None


def _open(wiring: Wiring, stations: list[Station], port: Port) -> bool:
    """Whether the wire has ends that the evidence does not show: a card, a pair whose other end is missing, a tunnel."""
    ports = {port, *(s.port for s in stations), *(c.port for s in stations for c in s.path)}
    for each in ports:
        device = wiring.device(each)
        if device is None or (device.kind in CARDS and not device.loopback):
            return True
        bridge = each.dev if device.kind == "bridge" else device.link.master
        for name, other in wiring.worlds[each.netns].devices.items():
            if (
                bridge
                and other.link.master == bridge
                and (other.kind != "veth" or Port(each.netns, name) not in wiring.peers)
            ):
                return True
    return False
