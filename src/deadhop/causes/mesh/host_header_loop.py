"""Requests return to the load balancer because the mesh routes them by a Host that names the entry point.

What happens
------------
An injected ingress, or a proxy behind it, sends a request with the outside name as Host. The sidecar or the resolver
takes that name to the load balancer's own address, which leads to the same ingress, and so on until a limit is
reached.

How to tell it from its neighbours
----------------------------------
The outbound destination is the cluster's own load balancer; the same addresses repeat in X-Forwarded-For; the request
rate explodes without more clients. Without a loop an unknown Host ends in the pass-through or a 404.

Fix
---
Set an explicit upstream host for such requests, or exempt the ingress from outbound interception.

References
----------
Envoy x-forwarded-for; linkerd2-proxy LoopPrevention; Istio traffic.sidecar.istio.io/includeOutboundIPRanges.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.evidence.fields import host_port
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.kube import Service
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "host-header-routing-loop"

REPEATS = 3


def check(view: View) -> Iterator[Hypothesis]:
    entries = {e: s for s in view.of(Service) for e in s.external}
    back = [
        a
        for a in view.of(EnvoyAccess)
        if not a.inbound
        and (host_port(a.upstream_host)[0] in entries or host_port(a.downstream_local)[0] in entries)
    ]
    repeated = [a for a in view.of(EnvoyAccess) if _repeats(a.forwarded_for)]
    loops: list[Record] = [*said(view.of(Message), "loop"), *repeated]
    loops += [m for m in said(view.of(Message), "access") if host_port(m.field("upstream"))[0] in entries]
    tapped = [
        m
        for m in said(view.of(Message), "tap-req")
        if m.field("proxy") == "out" and host_port(m.field("dst"))[0] in entries
    ]
    loops += tapped
    if not (back or loops):
        return
    burst = [m for m in view.of(Message) if m.kind == "access"]
    yield Hypothesis(
        subject="the load balancer's own address",
        title="Requests leave for the load balancer's own address and come in again: they loop.",
        checks=(
            shown("the outbound destination is the cluster's own entry point, or the request passed the same proxy several times", [*back, *loops], weight=2.3, required=True, decide="kubectl get svc -A | grep LoadBalancer   # compare with the upstream address in the proxy's log"),
            shown("a Service owns that entry point", [entries[h] for a in back for h in (host_port(a.upstream_host)[0], host_port(a.downstream_local)[0]) if h in entries][:1] or [entries[host_port(m.field("dst"))[0]] for m in tapped][:1], weight=0.6),
            shown("the same client address repeats in X-Forwarded-For", repeated if back else [], weight=0.8),
            judged("the log shows many requests at once", True if len(burst) > 8 else None, burst[:8] if len(burst) > 8 else [], weight=0.3),
        ),
        explains=("the request rate explodes without more clients", "mostly requests without a matching ingress rule"),
        fixes=(
            Fix(title="Send an explicit upstream host", artifact="# ingress-nginx\nmetadata:\n  annotations:\n    nginx.ingress.kubernetes.io/upstream-vhost: SERVICE.NAMESPACE.svc.cluster.local\n    nginx.ingress.kubernetes.io/service-upstream: \"true\"\n"),
            Fix(title="Exempt the ingress from outbound interception", artifact="metadata:\n  annotations:\n    traffic.sidecar.istio.io/includeOutboundIPRanges: \"\"\n"),
        ),
        prior=-1.3,
    )  # fmt: skip


def _repeats(forwarded: str) -> bool:
    hops = [h.strip() for h in forwarded.split(",") if h.strip()]
    return any(hops.count(h) >= REPEATS for h in set(hops))


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="The mesh routes by a Host that names the entry point itself, so requests return to the load balancer and loop.",
    inputs=(
        EnvoyAccess,
        Service,
        Message,
    ),
    needs=(
        EnvoyAccess,
        Message,
    ),
    rivals=(
        "host-header-forwarded-breaks-mesh-routing",
        "proxy-protocol-hairpin-bypasses-lb",
    ),
    check=check,
)
