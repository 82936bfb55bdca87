"""Flow, step, hop, trace: how a connection walks the model, and how it ends.

The nouns are Batfish's. A trace checks its own shape when it is built: it has hops, only its last hop may end it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from deadhop.model.record import Source


class Disposition(StrEnum):
    """How a trace ends.

    ``delivered``: the packet or request reached the process it was meant for, and so did the answer where the
    trace covers it. ``forwarded``: it left the part of the world that the trace covers. ``dropped``: it ended
    without a word. ``rejected``: it ended and the sender was told (ICMP, RST). ``answered``: somebody on the way
    answered in the destination's place (503, REFUSED). ``looped``: it came back to a hop it had passed.
    ``unknown``: the snapshot cannot say; never read it as health.
    """

    DELIVERED = "delivered"
    FORWARDED = "forwarded"
    DROPPED = "dropped"
    REJECTED = "rejected"
    ANSWERED = "answered"
    LOOPED = "looped"
    UNKNOWN = "unknown"

    @property
    def arrives(self) -> bool:
        return self in (Disposition.DELIVERED, Disposition.FORWARDED)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One decision inside a hop: who decided (a route, a rule, a selector, a vhost), what, and on what evidence."""

    decided_by: str
    text: str
    ok: bool | None = True
    function: str = ""
    sources: tuple[Source, ...] = ()
    detail: dict[str, Any] = msgspec.field(default_factory=dict)


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """One place the flow passes: ``kind`` is the hop's folder (``linux``, ``mesh``, ``fqdn``…), ``name`` the place."""

    kind: str
    name: str
    steps: tuple[Step, ...] = ()

    @property
    def broken(self) -> bool:
        return any(s.ok is False for s in self.steps)


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """The way of one flow. ``reason`` is the field's own name of the end (a skb_drop_reason, a response flag, an rcode)."""

    flow: str
    disposition: Disposition
    hops: tuple[Hop, ...]
    reason: str = ""
    says: str = ""

    def __post_init__(self) -> None:
        if not self.hops:
            raise ValueError("a trace has at least one hop")
        if self.disposition.arrives and self.hops[-1].broken:
            raise ValueError(f"a trace that ends {self.disposition} cannot end in a broken hop")

    @property
    def last(self) -> Hop:
        return self.hops[-1]
