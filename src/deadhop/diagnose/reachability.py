"""Who may reach what: from policy, cache and flows, per epoch."""

from __future__ import annotations

from collections.abc import Iterable

from deadhop.model.finding import Reachability
from deadhop.model.record import Record


def reachability(records: Iterable[Record]) -> tuple[Reachability, ...]:
    return ()
