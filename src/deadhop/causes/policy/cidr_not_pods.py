"""A CIDR rule holds a pod's address, but pods have label identities, which CIDR rules do not select.

What happens
------------
Cilium identifies pods of the cluster by their labels. A CIDR rule selects only peers without such an identity, so a
block that holds pod addresses (even 0.0.0.0/0) allows no pod.

How to tell it from its neighbours
----------------------------------
The denied peer is a pod with an endpoint identity and lies in a listed block. A rule by label for the same pod works. A
node as the peer is the neighbouring fault.

Fix
---
Select pods by label (or the cluster entity) and not by address.

References
----------
Cilium policy language, "IP/CIDR based"; NetworkPolicy v1 ipBlock ("cluster-external IPs").
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.kube import (
    CiliumClusterwideNetworkPolicy,
    CiliumNetworkPolicy,
    KubeObject,
    NetworkPolicy,
    Pod,
)
from deadhop.model.observed.policy import Flow
from deadhop.snapshot.entities import CLUSTER, denied_peers, is_pod, number
from deadhop.snapshot.policy_rules import listing_address

SLUG = "cidr-rule-does-not-select-pods"


def check(view: View) -> Iterator[Hypothesis]:
    policies: list[KubeObject] = [
        *view.of(NetworkPolicy),
        *view.of(CiliumNetworkPolicy),
        *view.of(CiliumClusterwideNetworkPolicy),
    ]
    pods = {f"{p.namespace}/{p.name}": p for p in view.of(Pod)}
    by_ip = {p.ip: p for p in pods.values() if p.ip}
    for direction, peer, flows in denied_peers(view.of(Flow)):
        pod = pods.get(peer.name) or by_ip.get(peer.ip)
        address = peer.ip or (pod.ip if pod else "")
        if not (is_pod(peer) or pod or number(peer.identity) in CLUSTER) or not address:
            continue
        covering = listing_address(policies, direction, address)
        if not covering:
            continue
        policy, cidr = covering[0]
        name = peer.name or (pod.ref if pod else address)
        yield Hypothesis(
            subject=f"{policy.ref}, {direction} {cidr}",
            title=f"{policy.ref} allows {cidr}, but {name} is a pod, which CIDR rules do not select.",
            checks=(
                shown(f"a pod is denied ({direction})", flows[:3], weight=1.3, required=True),
                shown(f"its address {address} lies in {cidr}, which the policy allows", [p for p, _c in covering], weight=1.6, required=True),
                shown("the address belongs to a pod of the cluster", [pod] if pod else [], weight=0.3),
            ),
            explains=("a rule by label for the same pod works",),
            fixes=(Fix(title="Select the pods by label", artifact=f"{direction}:\n- {'from' if direction == 'ingress' else 'to'}Endpoints:\n  - matchLabels:\n      k8s:io.kubernetes.pod.namespace: {peer.name.partition('/')[0] or 'NAMESPACE'}\n", changed=("the pods of that namespace are allowed",)),),
            prior=-1.2,
        )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="A CIDR rule holds pod addresses, and CIDR rules do not select pods.",
    inputs=(Flow, NetworkPolicy, CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, Pod),
    needs=(Flow,),
    rivals=("cidr-rule-does-not-select-nodes", "fqdn-identity-shadows-pod-ip", "destination-ingress-policy-missing-client"),
    check=check,
)  # fmt: skip
