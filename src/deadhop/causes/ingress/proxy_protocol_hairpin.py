"""In-cluster clients that call the load balancer's address are taken straight to the ingress pods.

What happens
------------
kube-proxy and others short-circuit traffic to a load balancer's address inside the cluster. The PROXY header is added
by the load balancer alone, so the ingress reads the plain request or the TLS hello where it expects the header and
closes.

How to tell it from its neighbours
----------------------------------
The log shows a broken header that contains the plain request, from a pod or node address, while clients from outside
work. An empty header is a health check. If outside clients fail too, the load balancer does not send the header at
all.

Fix
---
Publish the load balancer by hostname, or let in-cluster clients use the internal name.

References
----------
Kubernetes KEP-1860 (ipMode: Proxy); nginx ngx_proxy_protocol.c; DigitalOcean do-loadbalancer-hostname.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.kube import Service
from deadhop.model.observed.message import Message
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.record import Record
from deadhop.snapshot.said import private, public, said

SLUG = "proxy-protocol-hairpin-bypasses-lb"

HOSTNAME = re.compile(r"(?:loadbalancer-hostname|load-?balancer/hostname|proxy-protocol-hostname|/hostname)$")
ENABLE = re.compile(r"proxy-protocol|proxyprotocol", re.I)


def check(view: View) -> Iterator[Hypothesis]:
    broken = [m for m in said(view.of(Message), "broken-proxy-header") if m.field("header").strip()]
    inside = [m for m in broken if private(m.field("client"))]
    outside = [m for m in broken if public(m.field("client"))]
    enabled = [
        k
        for k in view.of(Service)
        if any(ENABLE.search(a) and str(v).lower() not in ("false", "") for a, v in k.annotations.items())
    ]
    cured = [k for k in enabled if any(HOSTNAME.search(a) for a in k.annotations)]
    dumb = [k for k in enabled if any("aws-load-balancer" in a for a in k.annotations)]
    options = [o for o in view.of(CiliumOption) if "use-proxy-protocol" in o.key and o.value == "true"]
    checks_failed = said(view.of(Message), "self-check-failed")
    failed: list[Record] = [e for e in view.of(HttpExchange) if e.error in ("reset", "empty", "tls")]
    failed += [d for d in view.of(DialFailure) if d.error in ("reset", "tls")]
    bare = [k for k in enabled if k not in cured and k not in dumb]
    if not (inside or outside or bare or (enabled and (checks_failed or failed))):
        return
    yield Hypothesis(
        subject=enabled[0].ref if enabled and enabled[0].name else "in-cluster calls to the load balancer's address",
        title="Calls from inside the cluster reach the ingress without passing the load balancer, so the PROXY header is missing.",
        checks=(
            shown("a plain request or hello from a pod or node stands where the PROXY header should", inside or [*bare, *(enabled if checks_failed or failed else [])], weight=2.0 if inside else 1.5, required=True, decide="kubectl -n ingress-nginx logs deploy/ingress-nginx-controller | grep 'broken header'"),
            shown("PROXY protocol is on at the load balancer", [k for k in enabled if inside] + ([*options] if inside or bare else []), weight=0.8, decide="kubectl get svc -A -o yaml | grep -i proxy-protocol"),
            shown("a self-check from inside fails", [*checks_failed, *(failed if checks_failed or bare else [])], weight=0.9),
            judged("clients from outside are served", False if outside else None, outside, weight=1.5, required=bool(outside)),
            judged("the load balancer is published by address", False if cured and not inside else None, cured if not inside else [], weight=1.0, required=bool(cured) and not inside),
        ),
        explains=("certificate self-checks and calls to the own outside name fail from inside only",),
        fixes=(
            Fix(title="Publish the load balancer by hostname", artifact="metadata:\n  annotations:\n    service.beta.kubernetes.io/do-loadbalancer-hostname: \"edge.example.org\"   # the provider's annotation of this kind\n"),
            Fix(title="Let in-cluster clients use the internal name", artifact="# CoreDNS: a listener of the ingress without PROXY protocol is needed for it\nrewrite name edge.example.org INTERNAL-SERVICE.ingress-nginx.svc.cluster.local\n"),
        ),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="ingress",
    title="In-cluster clients of the load-balancer address reach the ingress without the PROXY header that only the load balancer adds.",
    inputs=(
        Message,
        Service,
        CiliumOption,
        HttpExchange,
        DialFailure,
    ),
    needs=(
        Message,
        Service,
    ),
    rivals=(
        "lb-annotation-not-honoured-proxy-protocol-off",
        "benign-tcp-healthcheck-noise",
        "host-header-routing-loop",
    ),
    check=check,
)
