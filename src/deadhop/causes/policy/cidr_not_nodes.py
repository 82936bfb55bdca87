"""A CIDR rule holds node addresses, but nodes have an identity of their own, which CIDR rules do not select.

What happens
------------
Cilium gives nodes the identities host, remote-node and, with the control plane, kube-apiserver. CIDR rules select
addresses outside the cluster, so a block that holds node addresses does not allow nodes.

How to tell it from its neighbours
----------------------------------
The denied peer is shown as host, remote-node or API server, and its address lies in a listed block. Traffic from the
pod's own node works, since that is allowed by default. A pod as the peer is the neighbouring fault.

Fix
---
Allow the node entities, or let CIDR rules match nodes (``policy-cidr-match-mode: nodes``).

References
----------
Cilium policy language, "IP/CIDR based"; policy-cidr-match-mode; pkg/policy/api/entity.go.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.kube import (
    CiliumClusterwideNetworkPolicy,
    CiliumNetworkPolicy,
    KubeObject,
    NetworkPolicy,
)
from deadhop.model.observed.policy import CiliumOption, Flow
from deadhop.snapshot.entities import denied_peers, is_node
from deadhop.snapshot.policy_rules import listing_address

SLUG = "cidr-rule-does-not-select-nodes"


def check(view: View) -> Iterator[Hypothesis]:
    policies: list[KubeObject] = [
        *view.of(NetworkPolicy),
        *view.of(CiliumNetworkPolicy),
        *view.of(CiliumClusterwideNetworkPolicy),
    ]
    mode = [
        o for o in view.of(CiliumOption) if o.key.endswith("policy-cidr-match-mode") and "node" in o.value
    ]
    for direction, peer, flows in denied_peers(view.of(Flow)):
        if not is_node(peer):
            continue
        covering = listing_address(policies, direction, peer.ip)
        if not covering:
            continue
        policy, cidr = covering[0]
        side = "from" if direction == "ingress" else "to"
        yield Hypothesis(
            subject=f"{policy.ref}, {direction} {cidr}",
            title=f"{policy.ref} allows {cidr}, but {peer.ip} is a node ({peer.identity}), which CIDR rules do not select.",
            checks=(
                shown(f"a node is denied ({direction})", flows[:3], weight=1.3, required=True),
                shown(f"its address lies in {cidr}, which the policy allows", [p for p, _c in covering], weight=1.6, required=True),
                judged("CIDR rules do not match nodes here", False if mode else None, mode, weight=1.5, required=bool(mode), decide="kubectl -n kube-system get cm cilium-config -o yaml | grep cidr-match"),
            ),
            explains=("the pod's own node is allowed by default, other nodes are denied",),
            fixes=(
                Fix(title="Allow the node entities", artifact=f"{direction}:\n- {side}Entities: [host, remote-node]\n", changed=("every node of the cluster is allowed",)),
                Fix(title="Or let CIDR rules match nodes", artifact="# cilium-config\npolicy-cidr-match-mode: nodes\n", changed=("every CIDR rule of the cluster matches nodes as well",)),
            ),
            prior=-1.2,
        )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="A CIDR rule holds node addresses, and CIDR rules do not select nodes.",
    inputs=(Flow, NetworkPolicy, CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, CiliumOption),
    needs=(Flow,),
    rivals=("cidr-rule-does-not-select-pods", "hostnetwork-source-not-matched-by-pod-selectors", "kube-apiserver-entity-not-source-identity"),
    check=check,
)  # fmt: skip
