"""What a hook's rules see besides the packet (struct nf_hook_state and the connection)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deadhop.hops.linux.netfilter.conntrack import Connection
from deadhop.hops.linux.packet import Packet
from deadhop.model.net import Link

if TYPE_CHECKING:
    from deadhop.hops.linux.context import Walk
    from deadhop.hops.linux.world import World


class HookState:
    """One packet at one hook."""

    __slots__ = ("hook", "walk", "world")

    def __init__(self, walk: Walk, hook: str) -> None:
        self.walk = walk
        self.world: World = walk.world
        self.hook = hook

    def device_fact(self, name: str | None, field: str) -> Any:
        """A link's field, or None (break) without a device."""
        if name is None:
            return None
        link: Link = self.world.device(name).link
        value = getattr(link, field)
        if field == "group":
            return int(value) if str(value).isdigit() else 0 if value in (None, "default") else str(value)
        return value or ""

    def ct_tuple(self, packet: Packet, direction: int) -> tuple[int, int, int, int]:
        """The connection's ``(src, dst, sport, dport)`` in a direction."""
        connection = packet.conn
        assert isinstance(connection, Connection)
        return connection.reply if direction else connection.original

    def ct_status(self, packet: Packet) -> int:
        connection = packet.conn
        return connection.status if isinstance(connection, Connection) else 0
