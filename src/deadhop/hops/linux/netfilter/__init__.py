"""Netfilter: what the rules do to a packet at each hook.

:func:`traverse` runs one hook. It returns where the packet goes on (perhaps marked, translated, rerouted) and ends
the walk where a rule drops or rejects it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deadhop.hops.linux.packet import Packet

if TYPE_CHECKING:
    from deadhop.hops.linux.context import Walk


def traverse(walk: Walk, packet: Packet, hook: str) -> None:
    """``hook`` is ``prerouting``, ``input``, ``forward``, ``output`` or ``postrouting``."""
    hooks = walk.world.hooks
    if hooks is None:
        from deadhop.hops.linux.netfilter.hooks import compile_hooks

        hooks = walk.world.hooks = compile_hooks(walk.world)
    for run in hooks[packet.version, hook]:
        run(walk, packet, hook)
