"""What a load balancer says of its targets."""

from __future__ import annotations

from deadhop.model.record import Record


class TargetHealth(Record, frozen=True, kw_only=True):
    """One target (a node, an instance, an address) and whether the load balancer finds it healthy."""

    target: str
    healthy: bool
    port: int | None = None
    reason: str = ""
