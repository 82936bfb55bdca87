"""The smallest topology that still disagrees: leave out one line after the other (greedy delta debugging)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from deadhop.lab.verify.topology import Topology

Fails = Callable[[Topology], bool]

PARTS = ("nft", "iptables", "ip", "sysctls", "loopback")


def shrink(topology: Topology, fails: Fails, budget: int = 150) -> Topology:
    """A topology of fewer lines for which ``fails`` still holds; at most ``budget`` tries."""
    best = topology
    tries = 0
    for part in PARTS:
        size = max(len(getattr(best, part)) // 2, 1)
        while size:
            place = 0
            while place < len(getattr(best, part)) and tries < budget:
                lines = getattr(best, part)
                candidate = msgspec.structs.replace(best, **{part: lines[:place] + lines[place + size :]})
                tries += 1
                if fails(candidate):
                    best = candidate
                else:
                    place += size
            size //= 2
    for index in reversed(range(len(best.ports))):
        port = best.ports[index]
        if tries >= budget:
            break
        for candidate_port in (
            msgspec.structs.replace(port, addresses=[]),
            msgspec.structs.replace(port, mtu=1500),
        ):
            ports = [*best.ports[:index], candidate_port, *best.ports[index + 1 :]]
            candidate = msgspec.structs.replace(best, ports=ports)
            tries += 1
            if fails(candidate):
                best = candidate
    return best
