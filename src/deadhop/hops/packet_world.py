"""One packet in one namespace as a world to prove fixes in: the state, the packet, and its trace."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from deadhop.model.netns import NetNamespace
from deadhop.model.packet import PacketFlow
from deadhop.model.trace import Disposition, Hop, Step, Trace


class PacketWorld(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace and the packet that a hypothesis is about. ``where`` names the place in the report."""

    ns: NetNamespace
    flow: PacketFlow
    where: str

    def with_ns(self, change: Callable[[NetNamespace], NetNamespace]) -> PacketWorld:
        return msgspec.structs.replace(self, ns=change(self.ns))

    def with_flow(self, **fields: object) -> PacketWorld:
        return msgspec.structs.replace(self, flow=msgspec.structs.replace(self.flow, **fields))


def walk(world: PacketWorld) -> Trace:
    """The trace of the packet through the namespace."""
    from deadhop.hops.linux.walk import walk_packet

    flow = world.flow
    answer = walk_packet(world.ns, flow)
    steps = answer.steps
    ended = answer.disposition
    broken = not ended.arrives and ended is not Disposition.UNKNOWN
    if broken and not any(s.ok is False for s in steps):
        steps = (
            *steps,
            Step(
                decided_by=answer.function or "kernel",
                text=answer.reason or str(ended),
                ok=False,
                function=answer.function,
            ),
        )
    ports = f" port {flow.sport} -> {flow.dport}" if flow.sport or flow.dport else ""
    out = ", ".join(f"{dev} via {hop}" if hop else dev for dev, hop in answer.out)
    says = answer.unknown or (f"out of {out}" if out else "")
    if answer.icmp:
        mtu = f" mtu {answer.icmp.mtu}" if answer.icmp.mtu else ""
        says = f"ICMP {answer.icmp.type}/{answer.icmp.code}{mtu} to {flow.src}"
    return Trace(
        flow=f"{flow.proto} {flow.src} -> {flow.dst}{ports}, {flow.length} bytes{', DF' if flow.df else ''}, in {flow.in_dev or 'local'}",
        disposition=ended,
        hops=(Hop(kind="linux", name=world.where, steps=steps),),
        reason=answer.reason,
        says=says,
    )
