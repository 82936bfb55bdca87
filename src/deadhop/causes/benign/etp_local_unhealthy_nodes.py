"""Nodes without a backend fail the load balancer's health check on purpose.

What happens
------------
With externalTrafficPolicy: Local kube-proxy answers the health check port with 503 on nodes that run no backend, so
that the load balancer sends traffic to the others only.

How to tell it from its neighbours
----------------------------------
Unhealthy nodes are exactly those without a backend pod, and clients see no errors. If clients do, the health check
does not decide.

Fix
---
None needed.

References
----------
Kubernetes service healthCheckNodePort; pkg/proxy/healthcheck (localEndpoints).
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Hypothesis, View, judged, shown
from deadhop.model.observed.balancer import TargetHealth
from deadhop.model.observed.http import HttpExchange
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.kube import Pod, Service
from deadhop.model.observed.message import Message
from deadhop.model.observed.shell import Attempt
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "benign-etp-local-unhealthy-nodes"


def check(view: View) -> Iterator[Hypothesis]:
    local: list[Record] = [s for s in view.of(Service) if s.spec.get("externalTrafficPolicy") == "Local"]
    cluster = [s for s in view.of(Service) if s.spec.get("externalTrafficPolicy") == "Cluster"]
    ports = {s.spec.get("healthCheckNodePort") for s in view.of(Service)} - {None}
    health: list[Record] = [
        m for m in said(view.of(Message), "health-check-nodes") if m.field("count") == "0"
    ]
    health += list(said(view.of(Message), "lb-unhealthy"))
    health += [
        e
        for e in view.of(HttpExchange)
        if e.status == 503 and (e.port in ports or e.url.rstrip("/").endswith("/healthz"))
    ]
    targets = view.of(TargetHealth)
    health += [t for t in targets if not t.healthy]
    served: list[Record] = [e for e in view.of(HttpExchange) if (e.status or 500) < 400]
    served += [m for m in said(view.of(Message), "health-check-nodes") if m.field("count") not in ("0", "")]
    served += said(view.of(Message), "lb-healthy")
    served += [t for t in targets if t.healthy]
    served += [c for c in view.of(Counter) if c.name == "probe_success" and c.value == 1]
    failing: list[Record] = [
        e
        for e in view.of(HttpExchange)
        if e.error in ("timeout", "refused", "reset") or ((e.status or 0) >= 500 and e not in health)
    ]
    failing += [c for c in view.of(Counter) if c.name == "probe_success" and c.value == 0]
    failing += [a for a in view.of(Attempt) if not a.ok]
    with_backend = {p.node: p for p in view.of(Pod) if p.node and p.ready and p.ready[0] == p.ready[1]}
    wrong = [t for t in targets if not t.healthy and t.target in with_backend and local]
    right = [t for t in targets if t.target in with_backend and t.healthy] if not wrong else []
    if not health and not (local and failing):
        return
    yield Hypothesis(
        subject="nodes without a backend",
        title="Nodes without a backend are unhealthy for the load balancer on purpose: the local traffic policy asks for it.",
        checks=(
            shown("nodes fail the Service's health check", health, weight=1.2, required=True, decide="curl -s http://NODE:HEALTH-CHECK-NODE-PORT/healthz"),
            judged("the Service has the local policy", True if local else (False if cluster else None), local or cluster, weight=1.0, required=bool(cluster) and not local, decide="kubectl get svc NAME -o jsonpath='{.spec.externalTrafficPolicy}'"),
            shown("nodes with a backend are healthy and clients are served", served, weight=0.7),
            judged("the healthy nodes are those that run a backend", False if wrong else (True if right else None), [*wrong, *(with_backend[t.target] for t in wrong)] if wrong else [*right, *(with_backend[t.target] for t in right)], weight=0.8 if right else 1.5, required=bool(wrong), decide="kubectl get pods -o wide   # of the Service's selector"),
            judged("clients see no errors", False if failing else None, failing, weight=1.6, required=bool(failing)),
        ),
        explains=("the unhealthy nodes are exactly those without a backend pod",),
        prior=-1.0,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="With the local traffic policy nodes without a backend fail the health check on purpose.",
    severity="benign",
    inputs=(
        Service,
        Message,
        HttpExchange,
        Attempt,
        TargetHealth,
        Counter,
        Pod,
    ),
    needs=(
        Service,
        Message,
        TargetHealth,
    ),
    rivals=("external-traffic-policy-local-no-endpoint",),
    check=check,
)
