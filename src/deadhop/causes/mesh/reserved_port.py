"""A Service uses a port that the sidecar reserves for itself.

What happens
------------
The sidecar listens on its own ports (15000, 15001, 15006, 15020, 15021, 15090 and others). A Service on one of them
makes istiod generate a listener with the same address; Envoy rejects the update as a duplicate, and with it every
later change.

How to tell it from its neighbours
----------------------------------
The rejection names a duplicate address on a reserved port; new pods stay unready while old ones keep their earlier
configuration. Any other rejected update is about its contents.

Fix
---
Move the Service to a port that is not reserved.

References
----------
Istio, Ports used by Istio; Envoy listener manager (duplicate address).
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.evidence.fields import host_port
from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.kube import Service
from deadhop.model.observed.message import Message
from deadhop.snapshot.said import said

SLUG = "service-uses-mesh-reserved-port"

RESERVED = frozenset({15000, 15001, 15002, 15004, 15006, 15008, 15009, 15020, 15021, 15053, 15090})


def check(view: View) -> Iterator[Hypothesis]:
    taken = [
        s
        for s in view.of(Service)
        if any(
            p.port in RESERVED and p.name not in ("status-port", "tls-hbone", "http-status") for p in s.ports
        )
        and "gateway" not in s.name
        and not s.name.startswith("istio")
    ]
    clashes = [
        m
        for m in said(view.of(Message), "listener-duplicate-address", "listener-bind-failed")
        if host_port(m.field("address").replace("_", ":"))[1] in RESERVED
    ]
    elsewhere = [m for m in said(view.of(Message), "listener-duplicate-address") if m not in clashes]
    rejected = [m for m in said(view.of(Message), "xds-rejected", "proxy-not-ready") if m not in clashes]
    if not (taken or clashes):
        return
    yield Hypothesis(
        subject=taken[0].ref if taken else f"port {host_port(clashes[0].field('address'))[1]}",
        title="A Service uses a port that the sidecar reserves: the generated listener collides and the proxy rejects the update.",
        checks=(
            shown("a Service declares a reserved port, or the listener update is a duplicate on one", [*taken, *clashes], weight=2.0, required=True, decide="kubectl get svc -A -o wide | grep -E '15(000|001|006|020|021|090)'"),
            shown("the proxy rejects listener updates", [*elsewhere, *rejected, *(clashes if taken else [])][:4] if taken or rejected else [], weight=0.9),
        ),
        explains=("new pods stay unready, old pods keep an earlier configuration", "the control plane logs a negative acknowledgement"),
        fixes=(Fix(title="Move the Service to another port", artifact="kubectl -n NAMESPACE edit service NAME   # spec.ports[].port outside 15000-15090\n"),),
        prior=-1.3,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="A Service uses a port that the sidecar reserves, so the generated listener collides.",
    inputs=(
        Service,
        Message,
    ),
    rivals=(
        "proxy-config-push-stale-or-rejected",
        "wildcard-listener-captures-traffic",
    ),
    check=check,
)
