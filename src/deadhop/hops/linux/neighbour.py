"""The last step: the next hop's link-layer address, and the device's queue (neigh_output, __dev_queue_xmit)."""

from __future__ import annotations

from typing import NoReturn

from deadhop.hops.linux import icmp
from deadhop.hops.linux.context import Walk
from deadhop.hops.linux.packet import Packet
from deadhop.hops.linux.route4 import Dst
from deadhop.model import ip
from deadhop.model.packet import IcmpError
from deadhop.model.record import Source

VALID = {"PERMANENT", "NOARP", "REACHABLE", "PROBE", "STALE", "DELAY"}


def transmit(walk: Walk, packet: Packet, dst: Dst) -> NoReturn:
    """Out of ``dst``'s device. Without a carrier the queue is the noop qdisc, which drops everything; an unresolved
    neighbour fails first, because its own questions die there."""
    device = dst.device
    assert device is not None
    version, hop = dst.next_hop(packet.version, packet.dst)
    text = ip.show(version, hop)
    entry = walk.world.neighbours.get((device.name, (version, hop)))
    states = set(entry.state) if entry is not None else set()
    sources = (device.source,) if entry is None else (entry.source, device.source)
    noarp = "NOARP" in (device.link.flags or ())
    direct = dst.type in ("broadcast", "multicast") or device.link.link_type in ("none", "ppp") or noarp
    if not device.up:
        walk.step(f"device {device.name}", "is down", "__dev_queue_xmit", sources, ok=False)
        walk.drop("QDISC_DROP", "__dev_queue_xmit")
    resolved = direct or bool(states & VALID)
    own = walk.world.local4 if version == 4 else walk.world.local6
    if entry is None and hop in own and not direct and not device.loopback:
        # Only where the local table was not asked: nobody on the wire has this namespace's own address.
        _unresolved(walk, packet, device.name, text, sources)
    if "FAILED" in states and not resolved:
        _unresolved(walk, packet, device.name, text, sources)
    if not device.carrier and not device.loopback:
        if not resolved:
            _unresolved(walk, packet, device.name, text, sources)
        walk.step(
            f"device {device.name}",
            "has no carrier: its queue drops everything",
            "__dev_queue_xmit",
            sources,
            ok=False,
        )
        walk.drop("QDISC_DROP", "__dev_queue_xmit")
    walk.step(
        f"device {device.name}",
        f"leaves towards {text}",
        "ip_finish_output2" if packet.version == 4 else "ip6_finish_output2",
        sources,
    )
    walk.transmit(device.name, text, "dev_queue_xmit")


def _unresolved(walk: Walk, packet: Packet, dev: str, hop: str, sources: tuple[Source, ...]) -> NoReturn:
    """neigh_invalidate after three probes: host unreachable to a remote sender, EHOSTUNREACH to a local one."""
    walk.step(f"neighbour {hop} dev {dev}", "does not answer", "neigh_invalidate", sources, ok=False)
    told: IcmpError | None
    if packet.version == 4:
        told = icmp.send4(walk, packet, 3, 1, local=False)
    else:
        told = icmp.send6(walk, packet, walk.world.device(dev), 1, 3)
    walk.drop("NEIGH_FAILED", "neigh_invalidate", (), told)
