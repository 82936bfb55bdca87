"""Requests beyond the proxy's limits fail at once by circuit breaking.

What happens
------------
The cluster's circuit breaker (connections, pending requests, requests, retries) is full, and the proxy answers 503
with UO without asking the backend.

How to tell it from its neighbours
----------------------------------
The reset reason is overflow, at almost no latency, while backends are idle or healthy. Any other reset reason or flag
means that a connection was tried. Limits set tight on purpose, in a test, are no fault.

Fix
---
Raise the limits to fit the concurrency, or queue by limiting connections.

References
----------
Envoy, circuit breaking; Istio DestinationRule connectionPool.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import HttpExchange, LocalReply
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.kube import DestinationRule
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.snapshot.replies import replies, with_flag, without_flag
from deadhop.snapshot.said import said

SLUG = "circuit-breaker-overflow"

#: Fewer refusals since a proxy's start, and nobody who saw one, are no fault.
FEW = 10


def check(view: View) -> Iterator[Hypothesis]:
    answers = replies(view.of(LocalReply), view.of(EnvoyAccess), view.of(HttpExchange))
    over = with_flag(answers, "UO")
    other = without_flag(answers, "UO")
    # Envoy sets this header where a circuit breaker, or a maintenance switch, refused the request (router.cc).
    over += [e for e in view.of(HttpExchange) if e.header("x-envoy-overloaded") == "true" and e not in over]
    over += [m for m in said(view.of(Message), "envoy-body") if m.field("reason") == "overflow"]
    counted = [c for c in view.of(Counter) if c.value >= (1 if over else FEW) and _overflow(c)]
    if not over and not other and not counted:
        return
    limits = [
        r
        for r in view.of(DestinationRule)
        if isinstance(r.spec.get("trafficPolicy"), dict) and "connectionPool" in r.spec["trafficPolicy"]
    ]
    idle = [a for a in view.of(EnvoyAccess) if "UO" in a.flags and (a.duration_ms or 0) <= 5]
    yield Hypothesis(
        subject=limits[0].ref if limits else "the upstream cluster's circuit breaker",
        title="Requests beyond the proxy's limits are failed at once by circuit breaking.",
        checks=(
            judged("the proxy's reset reason is overflow (UO)", bool(over or counted), [*over, *counted] if over or counted else other, weight=3.0, required=True),
            shown("the answer comes at once", idle, weight=0.4),
            shown("a destination rule sets limits", limits, weight=0.5, decide="kubectl get destinationrule -A -o yaml | grep -A12 connectionPool"),
        ),
        explains=("failures grow with concurrency while backends are idle",),
        fixes=(
            Fix(
                title="Raise the limits to fit the concurrency",
                artifact="spec:\n  trafficPolicy:\n    connectionPool:\n      http: {http1MaxPendingRequests: 1024, http2MaxRequests: 1024}\n      tcp: {maxConnections: 1024}\n",
            ),
        ),
        prior=-1.0,
    )  # fmt: skip


def _overflow(counter: Counter) -> bool:
    """Whether a counter counts requests or connections that a circuit breaker refused."""
    flags = dict(counter.labels).get("response_flags", "").split(",")
    refused = (
        counter.name.endswith("overflow")
        and ".downstream_" not in counter.name
        and "listener" not in counter.name
    )
    return "UO" in flags or refused


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="Requests beyond the proxy's connection, pending or request limits fail at once.",
    inputs=(LocalReply, EnvoyAccess, HttpExchange, Counter, Message, DestinationRule),
    needs=(LocalReply, EnvoyAccess, HttpExchange, Counter, Message),
    rivals=("benign-intended-circuit-breaking", "service-selector-matches-no-pods"),
    check=check,
)
