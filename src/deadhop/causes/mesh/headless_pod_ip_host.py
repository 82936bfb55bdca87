"""A client addresses the member of a headless Service by its pod address.

What happens
------------
A headless Service's HTTP port shares the wildcard listener of that port; its routes know the Service's names and not
the pods' addresses. A request with Host ADDRESS:PORT finds no virtual host and is answered 404 (NR) by the proxy.

How to tell it from its neighbours
----------------------------------
The Host is a pod address and the 404 is the proxy's. With a catch-all route the same call goes out as plain text (503
under strict mutual TLS). With the service name as Host it works.

Fix
---
Use the Service's or the pod's DNS name, or send a matching Host.

References
----------
Istio RDS domains of headless services; Envoy NR route_not_found.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.http import HttpExchange
from deadhop.model.observed.kube import Service
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.names import service_name
from deadhop.snapshot.said import host_of, private, said

SLUG = "headless-pod-ip-host-no-route"


def check(view: View) -> Iterator[Hypothesis]:
    lost: list[Record] = [
        a
        for a in view.of(EnvoyAccess)
        if private(a.authority) and a.status == 404 and ("NR" in a.flags or "route_not_found" in a.details)
    ]
    lost += [
        e
        for e in view.of(HttpExchange)
        if private(e.host)
        and e.status == 404
        and "envoy" in e.header("server").lower()
        and not e.header("x-envoy-upstream-service-time")
    ]
    told = [
        m
        for m in said(view.of(Message), "app-http-status")
        if m.field("status") == "404" and private(host_of(m.field("url")))
    ]
    named = [e for e in view.of(HttpExchange) if service_name(e.host) and (e.status or 500) < 400]
    headless = [s for s in view.of(Service) if s.headless]
    if not lost and not told:
        return
    yield Hypothesis(
        subject="the call to a pod's address",
        title="The Host is a pod's address, for which the proxy has no route: it answers 404 itself.",
        checks=(
            shown("a request with a pod's address as Host is answered 404", lost or told, weight=2.2 if lost else 1.4, required=True, decide="kubectl logs CALLER-POD -c istio-proxy --tail=50   # 404 NR route_not_found"),
            shown("the Service is headless", headless, weight=0.8, decide="kubectl get svc -A | grep None"),
            shown("the service name is served", named, weight=0.6),
            shown("the application reports the 404", told if lost else [], weight=0.3),
        ),
        explains=("clients with their own discovery fail inside the mesh only",),
        fixes=(Fix(title="Use the service name", artifact="http://SERVICE.NAMESPACE.svc.cluster.local:PORT/\n# or the pod's own: POD.SERVICE.NAMESPACE.svc.cluster.local\n"),),
        prior=-1.3,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="A client addresses a member of a headless Service by pod address, and the proxy has no route for it.",
    inputs=(
        EnvoyAccess,
        HttpExchange,
        Message,
        Service,
    ),
    needs=(
        EnvoyAccess,
        HttpExchange,
        Message,
    ),
    rivals=(
        "host-header-forwarded-breaks-mesh-routing",
        "pod-ip-call-bypasses-mtls-under-strict",
        "http-sent-to-opaque-port",
    ),
    check=check,
)
