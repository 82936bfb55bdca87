"""A gRPC call matches no route and falls to the pass-through cluster.

What happens
------------
The pass-through cluster of older releases speaks HTTP/1.1 upstream. A gRPC call that finds no virtual host, as its
Host or address is missing from the route's domains, reaches the server downgraded; trailers with the gRPC status are
lost.

How to tell it from its neighbours
----------------------------------
The caller's Host is not among the route's domains and the cluster is PassthroughCluster; the gRPC status is missing
although the call reached the server. A misnamed port shows the Service's own cluster.

Fix
---
Use the service name as Host, or a release whose pass-through keeps HTTP/2.

References
----------
Envoy use_downstream_protocol_config; Istio PassthroughCluster; gRPC over HTTP/2 (trailers).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.snapshot.istio import cluster_parts
from deadhop.snapshot.said import said

SLUG = "passthrough-downgrades-grpc-to-http1"

METHOD = re.compile(r"^/(?:[\w-]+\.)*[\w-]+\.?\w*/[A-Z]\w*$")


def check(view: View) -> Iterator[Hypothesis]:
    passed = [
        a
        for a in view.of(EnvoyAccess)
        if a.cluster == "PassthroughCluster"
        and (METHOD.match(a.path) or "grpc" in a.user_agent.lower())
        and a.method in ("POST", "PRI", "")
    ]
    known = [a for a in view.of(EnvoyAccess) if cluster_parts(a.cluster) and METHOD.match(a.path)]
    lost = said(view.of(Message), "grpc-no-status", "grpc-bad-content-type")
    if not passed and not (known and lost):
        return
    yield Hypothesis(
        subject=f"authority {passed[0].authority}" if passed else "the gRPC call",
        title="A gRPC call finds no route and falls to the pass-through cluster, which speaks HTTP/1.1.",
        checks=(
            judged("the gRPC call went to PassthroughCluster", bool(passed), passed or known, weight=2.0, required=True, decide="kubectl logs CALLER-POD -c istio-proxy --tail=50   # cluster of the gRPC path"),
            shown("the gRPC status or content type is missing", lost, weight=1.2, decide="grpcurl -v HOST:PORT list"),
        ),
        explains=("the call reaches the server and its status never comes back",),
        fixes=(Fix(title="Use the service name as authority", artifact="# dial SERVICE.NAMESPACE.svc.cluster.local:PORT, or set the authority\ngrpc.WithAuthority(\"SERVICE.NAMESPACE.svc.cluster.local\")\n"),),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="A gRPC call falls to the pass-through cluster, which speaks HTTP/1.1, so trailers are lost.",
    inputs=(
        EnvoyAccess,
        Message,
    ),
    rivals=(
        "port-name-protocol-misdeclared",
        "host-header-forwarded-breaks-mesh-routing",
        "grpc-proxy-to-http1-backend",
    ),
    check=check,
)
