"""Which counters count a fault, and which what every node loses now and then."""

from __future__ import annotations

from collections.abc import Iterable

from deadhop.model.observed.kernel import Counter

#: One dropped packet in so many forwarded ones is no fault that anybody feels.
SHARE = 100_000
#: A counter of node_exporter counts since the node started.
SINCE_BOOT = 100


def considerable(counters: Iterable[Counter], among: Iterable[Counter]) -> list[Counter]:
    """The counters above zero that are more than noise, judged by the forwards that ``among`` counts, if it does."""
    forwarded = sum(c.value for c in among if c.name == "cilium_forward")
    return [
        c
        for c in counters
        if c.value > 0
        and c.value * SHARE >= forwarded
        and not (c.name.startswith("node_") and c.value < SINCE_BOOT)
    ]
