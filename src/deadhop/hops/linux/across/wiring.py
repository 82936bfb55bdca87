"""Which device leads where: veth pairs across namespaces, ports of bridges, macvlan, VLAN, and shared segments.

``ip -d link`` names a veth's peer by its ifindex and by an id of the peer's namespace that means something only in the
namespace that printed it (rtnl_fill_link_netnsid). Two devices are a pair where each names the other's ifindex. Where
several fit, as with nodes built alike, what the namespaces know of each other decides: ids that pairs without a doubt
have settled, neighbours' MACs, next hops. What stays ambiguous stays unpaired.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from deadhop.hops.linux.devices import Device
from deadhop.hops.linux.world import World, world_of
from deadhop.model import ip
from deadhop.model.netns import NetNamespace


class Port(NamedTuple):
    """A device of a namespace."""

    netns: str
    dev: str

    def __str__(self) -> str:
        return f"{self.dev} in {self.netns}"


class Crossing(NamedTuple):
    """One device that a frame enters on its way, with the size of IP packet that it lets pass (None: any)."""

    port: Port
    limit: int | None
    function: str
    bridge: Port | None = None


class Station(NamedTuple):
    """A device that can receive the frame, and what the frame crosses to get there."""

    port: Port
    path: tuple[Crossing, ...] = ()
    assumed: str = ""


#: What is_skb_forwardable allows above the MTU: a VLAN tag.
VLAN_HLEN = 4
#: Kinds of devices whose other side is a wire or a switch outside; no kind at all is a card.
CARDS = frozenset({None, "", "tun_tap"})


class Wiring:
    """Namespaces and the wires between them. Nothing changes after construction."""

    def __init__(self, namespaces: Mapping[str, NetNamespace]) -> None:
        self.worlds: dict[str, World] = {name: world_of(ns) for name, ns in namespaces.items()}
        self.peers = dict(self._pairs())
        self.parents: dict[Port, Port] = {}
        self.parents = dict(self._below())
        self.macs: dict[str, list[Port]] = defaultdict(list)
        for port, device in self._devices():
            if device.link.address and not device.loopback:
                self.macs[device.link.address.lower()].append(port)

    def device(self, port: Port) -> Device | None:
        world = self.worlds.get(port.netns)
        return world.devices.get(port.dev) if world is not None else None

    def _devices(self) -> Iterator[tuple[Port, Device]]:
        for name, world in self.worlds.items():
            for device in world.devices.values():
                yield Port(name, device.name), device

    # -- veth --------------------------------------------------------------------------------------------------

    def _pairs(self) -> Iterator[tuple[Port, Port]]:
        ends = {
            port: device for port, device in self._devices() if device.kind == "veth" and device.link.link
        }
        by_index = defaultdict(list)
        for port, device in ends.items():
            by_index[device.link.ifindex].append(port)
        fits: dict[Port, list[Port]] = {}
        for port, device in ends.items():
            named = Port(port.netns, str(device.link.link))
            if named in ends:
                fits[port] = [named]
                continue
            index = _index(device.link.link)
            fits[port] = [
                other
                for other in by_index.get(index, ())
                if other.netns != port.netns and _index(ends[other].link.link) == device.link.ifindex
            ]
        ids: dict[tuple[str, int | None], str] = {}
        while True:
            settled = {p: o[0] for p, o in fits.items() if len(o) == 1 and fits[o[0]] == [p]}
            ids |= {(p.netns, ends[p].link.link_netnsid): o.netns for p, o in settled.items()}
            narrower = {
                p: self._narrow(p, o, settled, ids.get((p.netns, ends[p].link.link_netnsid)))
                for p, o in fits.items()
            }
            if narrower == fits:
                break
            fits = narrower
        yield from settled.items()

    def _narrow(
        self, port: Port, others: list[Port], settled: dict[Port, Port], netns: str | None
    ) -> list[Port]:
        """The candidates that are not taken, in the namespace that the id names, and that speak with ``port`` most."""
        if len(others) < 2:
            return others
        free = [o for o in others if settled.get(o, port) == port and (netns is None or o.netns == netns)]
        votes = {o: self._speaks(port, o) + self._speaks(o, port) for o in free}
        best = max(votes.values(), default=0)
        return [o for o in free if votes[o] == best] or others

    def _speaks(self, port: Port, other: Port) -> int:
        """How much of ``port``'s namespace names ``other``: its MAC as a neighbour's, its addresses as next hops."""
        world, far = self.worlds[port.netns], self.worlds[other.netns]
        mac = (far.devices[other.dev].link.address or "?").lower()
        points = 4 * any(
            n.dev == port.dev and (n.lladdr or "").lower() == mac for n in world.ns.neighbours or ()
        )
        for route in (*(world.ns.routes4 or ()), *(world.ns.routes6 or ())):
            for leg in route.legs if route.type == "unicast" else ():
                if leg.dev != port.dev or (route.dst == "default" and not leg.gateway):
                    continue
                target = leg.gateway or (route.dst if "/" not in route.dst else "")
                if target:
                    version, address = ip.parse(target)
                    points += 2 * (
                        address in (far.local4 if version == 4 else far.local6) and address >> 118 != 0x3FA
                    )
        theirs = far.devices[other.dev].inet4
        return points + any(
            a.prefixlen < 32 and a.covers(b.local) for a in world.devices[port.dev].inet4 for b in theirs
        )

    # -- macvlan -----------------------------------------------------------------------------------------------

    def _below(self) -> Iterator[tuple[Port, Port]]:
        """Each macvlan with the device under it: in its own namespace, or the one with that ifindex from which the
        macvlan's next hops can be reached."""
        for port, device in self._devices():
            if device.kind != "macvlan":
                continue
            named = Port(port.netns, str(device.link.link))
            index = _index(device.link.link)
            fits = [named] if self.device(named) is not None else [
                p for p, d in self._devices()
                if d.link.ifindex == index and p.netns != port.netns and d.kind != "macvlan" and not d.loopback
            ]  # fmt: skip
            votes = {p: self._reaches(p, port) for p in fits} if len(fits) > 1 else dict.fromkeys(fits, 0)
            best = [p for p in fits if votes[p] == max(votes.values())]
            if len(best) == 1:
                yield port, best[0]

    def _reaches(self, below: Port, port: Port) -> int:
        """How many next hops of ``port`` are addresses of devices that hear what leaves by ``below``."""
        ns = self.worlds[port.netns].ns
        hops = {
            leg.gateway for r in ns.routes4 or () for leg in r.legs if leg.dev == port.dev and leg.gateway
        }
        hops |= {n.dst for n in ns.neighbours or () if n.dev == port.dev and n.lladdr and ":" not in n.dst}
        near = [self.worlds[s.port.netns].devices[s.port.dev].inet4 for s in self.stations(below)]
        wanted = [ip.parse(hop)[1] for hop in hops]
        return sum(any(a.local == hop for own in near for a in own) for hop in wanted)

    # -- who can hear --------------------------------------------------------------------------------------------

    def stations(self, port: Port) -> list[Station]:
        """Every device that a frame leaving ``port`` can reach, each once, nearest first."""
        seen: set[Port] = {port}
        return list(self._leaves(port, (), None, seen))

    def _leaves(
        self, port: Port, path: tuple[Crossing, ...], tag: int | None, seen: set[Port]
    ) -> Iterator[Station]:
        device = self.device(port)
        if device is None or not device.up:
            return
        if device.kind == "bridge":
            yield from self._bridged(port, None, path, tag, seen)
        elif device.kind == "vlan" and device.link.link:
            number = (device.link.info or {}).get("id")
            below = Port(port.netns, str(device.link.link))
            yield from self._leaves(below, path, number if isinstance(number, int) else None, seen)
        elif device.kind == "macvlan" and device.link.link:
            yield from self._macvlan(port, device, path, tag, seen)
        elif port in self.peers:
            peer = self.peers[port]
            other = self.device(peer)
            limit = other.mtu + VLAN_HLEN if other is not None and other.mtu else None
            yield from self._arrives(peer, (*path, Crossing(peer, limit, "__dev_forward_skb2")), tag, seen)
        elif device.kind in CARDS and not device.loopback:
            for other_port in self._segment(port, device):
                for station in self._arrives(other_port, path, tag, seen):
                    yield station._replace(assumed=f"{port} and {other_port} share a network")

    def _arrives(
        self, port: Port, path: tuple[Crossing, ...], tag: int | None, seen: set[Port]
    ) -> Iterator[Station]:
        device = self.device(port)
        if device is None or port in seen:
            return
        seen.add(port)
        if not device.up:
            return
        if tag is not None:
            for name, other in self.worlds[port.netns].devices.items():
                if (
                    other.kind == "vlan"
                    and other.link.link == port.dev
                    and (other.link.info or {}).get("id") == tag
                ):
                    yield from self._arrives(Port(port.netns, name), path, None, seen)
            if not device.link.master:
                return
        master = self.device(Port(port.netns, device.link.master)) if device.link.master else None
        if master is not None and master.kind == "bridge":
            yield from self._bridged(Port(port.netns, master.name), port, path, tag, seen)
            return
        for child, other in self._devices():
            if other.kind == "macvlan" and self.parents.get(child) == port:
                yield from self._arrives(child, path, None, seen)
        yield Station(port, path)

    def _bridged(
        self, bridge: Port, came: Port | None, path: tuple[Crossing, ...], tag: int | None, seen: set[Port]
    ) -> Iterator[Station]:
        """The bridge itself where the frame came in by a port, then every other port (br_handle_frame_finish)."""
        if came is not None and bridge not in seen:
            seen.add(bridge)
            if tag is None:
                yield Station(bridge, path)
        for name, device in self.worlds[bridge.netns].devices.items():
            port = Port(bridge.netns, name)
            if device.link.master != bridge.dev or port == came or not device.up:
                continue
            limit = device.mtu + VLAN_HLEN if device.mtu else None
            crossing = Crossing(port, limit, "br_dev_queue_push_xmit", bridge if came is not None else None)
            seen.add(port)
            yield from self._leaves(port, (*path, crossing), tag, seen)

    def _macvlan(
        self, port: Port, device: Device, path: tuple[Crossing, ...], tag: int | None, seen: set[Port]
    ) -> Iterator[Station]:
        """Siblings of mode bridge, then the wire below. The parent's own host does not hear its children."""
        parent = self.parents.get(port)
        if parent is None:
            return
        mode = (device.link.info or {}).get("mode", "bridge")
        for child, other in self._devices():
            if (
                child != port
                and other.kind == "macvlan"
                and mode == "bridge"
                and self.parents.get(child) == parent
            ):
                yield from self._arrives(child, path, None, seen)
        seen.add(parent)
        yield from self._leaves(parent, path, tag, seen)

    def _segment(self, port: Port, device: Device) -> Iterator[Port]:
        """Cards of other namespaces whose addresses lie in a subnet of this card."""
        for other, card in self._devices():
            if other.netns == port.netns or card.kind not in CARDS or card.loopback:
                continue
            ours, theirs = (*device.inet4,), (*card.inet4,)
            if any(a.prefixlen < 32 and a.covers(b.local) for a in ours for b in theirs) or any(
                a.prefixlen == b.prefixlen < 128
                and a.local >> 128 - a.prefixlen == b.local >> 128 - b.prefixlen
                for a in device.inet6
                for b in card.inet6
                if a.local >> 118 != 0x3FA
            ):
                yield other


def _index(text: str | None) -> int | None:
    """The ifindex in ``7`` or ``if7``."""
    digits = (text or "").removeprefix("if")
    return int(digits) if digits.isdigit() else None
