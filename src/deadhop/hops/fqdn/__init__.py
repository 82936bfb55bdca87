"""Is a connection allowed by a name, by which one, until when, and what would have allowed it.

``decide`` judges one connection from what a cache listing shows. ``replay`` runs recorded queries, answers and
connections through the toFQDNs core on each node. Both are three-valued: ``allowed`` is None where the evidence does
not say. ``remedies`` changes the replayed world in one respect at a time and keeps the changes under which the
connection is allowed.
"""

from __future__ import annotations

from deadhop.hops.fqdn.decide import Known, decide
from deadhop.hops.fqdn.remedies import Remedy, remedies
from deadhop.hops.fqdn.replay import Connect, ConntrackPass, Decision, Query, World, replay
from deadhop.hops.fqdn.trace import trace_of

__all__ = [
    "Connect",
    "ConntrackPass",
    "Decision",
    "Known",
    "Query",
    "Remedy",
    "World",
    "decide",
    "remedies",
    "replay",
    "trace_of",
]
