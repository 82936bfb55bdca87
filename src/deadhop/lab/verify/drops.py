"""The kernel's word on the lab's dropped packets: the drop watch, with what a comparison needs of each event."""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.kernel import drops
from deadhop.kernel.drops import NoProbe

__all__ = ["Drop", "DropProbe", "NoProbe"]


class Drop:
    """One dropped packet: the reason's name, the namespace's inode number and the packet's first bytes."""

    __slots__ = ("location", "netns", "packet", "reason")

    def __init__(self, location: int, netns: int, reason: str, packet: bytes) -> None:
        self.location = location
        self.netns = netns
        self.reason = reason
        self.packet = packet


class DropProbe:
    """Attached while it lives. Events of the whole host pass by: filter by ``netns``."""

    def __init__(self) -> None:
        self._probe = drops.DropProbe()

    def drain(self) -> Iterator[Drop]:
        """The drops since the last call."""
        for event in self._probe.drain():
            yield Drop(event.location, event.netns, self._probe.reasons.name(event.reason), event.packet)

    def close(self) -> None:
        self._probe.close()
