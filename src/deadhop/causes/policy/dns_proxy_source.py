"""The ingress policy of the DNS pods denies the node's DNS proxy, which asks in the pods' place.

What happens
------------
A policy with DNS rules sends a pod's query through the node's proxy, which forwards it with the node's identity (where
it does not keep the pod's). An ingress policy on the DNS pods that lists pods only then denies every query that
arrives from another node.

How to tell it from its neighbours
----------------------------------
The denied source at the DNS pods is the remote node, not a pod. Resolution works when a replica runs on the client's
node. The client's own egress is forwarded.

Fix
---
Allow node identities in the DNS pods' ingress policy, or let the proxy keep the pod's identity.

References
----------
Cilium dnsproxy-enable-transparent-mode; pkg/fqdn/dnsproxy/proxy.go; pkg/identity/reserved.go.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.kube import CiliumNetworkPolicy, NetworkPolicy, mappings
from deadhop.model.observed.policy import CiliumEvent, CiliumOption, Flow
from deadhop.model.record import Record
from deadhop.snapshot.entities import identities, is_node, is_pod

SLUG = "dns-proxy-source-denied-by-dns-ingress-policy"
REMOTE = identities("remote-node")
ARTIFACT = """ingress:
- fromEntities: [cluster]      # holds host and remote-node
  toPorts:
  - ports:
    - {port: "53", protocol: ANY}
"""


def check(view: View) -> Iterator[Hypothesis]:
    flows = view.of(Flow)
    denied: list[Record] = [
        f
        for f in flows
        if f.denied and f.dst.port == 53 and is_node(f.src) and (is_pod(f.dst) or "INGRESS" in f.event)
    ]
    denied += [
        e
        for e in view.of(CiliumEvent)
        if e.verdict == "DROPPED" and "olicy" in e.reason and e.dport == 53 and e.src_identity in REMOTE
    ]
    pods = [f for f in flows if f.denied and f.dst.port == 53 and is_pod(f.src)]
    if not denied:
        return
    forwarded = [
        f
        for f in flows
        if not f.denied and is_pod(f.src) and f.dst.port == 53 and ("proxy" in f.event or f.dns)
    ]
    transparent = [o for o in view.of(CiliumOption) if o.key.endswith("dnsproxy-enable-transparent-mode")]
    ingress = [
        p for p in (*view.of(NetworkPolicy), *view.of(CiliumNetworkPolicy)) if mappings(p.spec, "ingress")
    ]
    yield Hypothesis(
        subject="ingress of the DNS pods",
        title="The DNS pods' ingress policy denies queries which the DNS proxy of another node sends.",
        checks=(
            shown("queries with a node's identity are denied at the DNS pods", denied, weight=2.0, required=True),
            judged("no pod's own query is denied there", not pods, pods, weight=0.6),
            shown("the client's query passes its own node's proxy", forwarded, weight=0.6, decide="hubble observe --port 53 --from-pod POD"),
            judged("the proxy does not keep the pod's identity", False if any(o.value == "true" for o in transparent) else (True if transparent else None), transparent, weight=0.4),
            shown("a policy governs ingress", ingress, weight=0.3),
        ),
        explains=("resolution works only where a DNS replica runs on the client's own node",),
        fixes=(Fix(title="Allow node identities at the DNS pods", artifact=ARTIFACT, changed=("every node may ask the DNS pods",)),),
        prior=-1.0,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="The DNS pods' ingress policy denies the DNS proxy of other nodes.",
    inputs=(Flow, CiliumEvent, CiliumOption, NetworkPolicy, CiliumNetworkPolicy),
    needs=(Flow, CiliumEvent),
    rivals=("egress-policy-missing-dns-allow", "destination-ingress-policy-missing-client"),
    check=check,
)
