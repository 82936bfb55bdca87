"""API server traffic shows the host identity on one node and the API server's on others; both are delivered.

What happens
------------
On the control plane's own node its address is the local host; from other nodes it is known as kube-apiserver. The same
address therefore appears with two identities.

How to tell it from its neighbours
----------------------------------
Both flows are forwarded, and the identity differs by node only. A denied one is a fault of the policy's entities.

Fix
---
None needed.

References
----------
Cilium pkg/identity/reserved.go (host, kube-apiserver); pkg/ipcache metadata of the API server.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Hypothesis, View, judged, shown
from deadhop.model.observed.policy import Flow, FlowEnd
from deadhop.snapshot.entities import NODE, identities

SLUG = "benign-apiserver-identity-host-or-kube-apiserver"
HOST = identities("host", "remote-node")
APISERVER = identities("kube-apiserver")


def check(view: View) -> Iterator[Hypothesis]:
    seen: dict[int | None, list[tuple[FlowEnd, Flow]]] = {}
    for flow in view.of(Flow):
        for end in (flow.src, flow.dst):
            if end.identity in NODE:
                seen.setdefault(flow.dst.port if end is flow.dst else flow.src.port, []).append((end, flow))
    flows = [(end, flow) for found in seen.values() for end, flow in found]
    as_host = [flow for end, flow in flows if end.identity in HOST]
    as_server = [flow for end, flow in flows if end.identity in APISERVER]
    if not as_host or not as_server:
        return
    bad = [f for f in view.of(Flow) if f.denied or f.verdict == "ERROR"]
    yield Hypothesis(
        subject="the API server's identity",
        title="The control plane appears as a host and as the API server; both are delivered.",
        checks=(
            shown("it appears as a node", as_host[:2], weight=0.9, required=True),
            shown("it appears as kube-apiserver", as_server[:2], weight=0.9, required=True),
            judged("every flow is delivered", not bad, bad[:3], weight=1.0, required=True),
        ),
        explains=("the identity differs by node only",),
        prior=-1.2,
    )


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="The API server is a host on its own node and kube-apiserver elsewhere; both are delivered.",
    severity="benign",
    inputs=(Flow,),
    rivals=("kube-apiserver-entity-not-source-identity",),
    check=check,
)
