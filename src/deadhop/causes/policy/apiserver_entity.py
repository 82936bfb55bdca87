"""The rule allows the API server entity, but the control plane reaches the pod under another identity.

What happens
------------
Webhooks and aggregated APIs are called by the control plane. Managed ones come through a tunnel agent
(konnectivity) or through a node, so the source at the pod is that agent or a node and not kube-apiserver.

How to tell it from its neighbours
----------------------------------
A rule for the API server exists and is well formed; the denied source is a node or an agent's pod. Without such a rule
it is the plain case of a host-network source.

Fix
---
Allow the identity that appears as the source.

References
----------
Cilium pkg/policy/api/entity.go EntityKubeAPIServer; Kubernetes konnectivity (apiserver-network-proxy).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.kube import CiliumClusterwideNetworkPolicy, CiliumNetworkPolicy, KubeObject
from deadhop.model.observed.policy import CiliumEvent, Flow, FlowEnd
from deadhop.snapshot.entities import denied_events, denied_peers, identities, is_apiserver_agent, is_node
from deadhop.snapshot.policy_rules import all_rules, entities

SLUG = "kube-apiserver-entity-not-source-identity"
APISERVER = identities("kube-apiserver")


def _allowed(policy: KubeObject) -> set[str]:
    """The entities that a policy lets in."""
    return {entity for _p, rule in all_rules([policy], "ingress") for entity in entities(rule, "ingress")}


def check(view: View) -> Iterator[Hypothesis]:
    allowing = [
        p
        for p in (*view.of(CiliumNetworkPolicy), *view.of(CiliumClusterwideNetworkPolicy))
        if "kube-apiserver" in _allowed(p)
    ]
    if not allowing:
        return
    denied: list[tuple[str, FlowEnd, Sequence[Flow | CiliumEvent]]] = [
        *denied_peers(view.of(Flow)),
        *denied_events(view.of(CiliumEvent)),
    ]
    for direction, peer, flows in denied:
        if (
            direction != "ingress"
            or peer.identity in APISERVER
            or not (is_node(peer) or is_apiserver_agent(peer.name))
        ):
            continue
        who = peer.name if is_apiserver_agent(peer.name) else peer.identity
        listed = [p for p in allowing if {"remote-node", "host", "cluster", "all"} & _allowed(p)]  # fmt: skip
        if listed and is_node(peer):
            continue
        fix = (
            f"- fromEndpoints:\n  - matchLabels: {{k8s:io.kubernetes.pod.namespace: {peer.name.partition('/')[0]}}}   # narrow to the agent\n"
            if is_apiserver_agent(peer.name)
            else "- fromEntities: [kube-apiserver, remote-node]\n"
        )
        yield Hypothesis(
            subject=f"{allowing[0].ref}: {who}",
            title=f"{allowing[0].ref} allows the API server, but its calls arrive as {who}.",
            checks=(
                shown("a rule allows the entity kube-apiserver", allowing, weight=1.4, required=True),
                shown(f"the denied source is {who}", flows[:3], weight=1.5, required=True),
            ),
            explains=("webhooks and aggregated APIs time out",),
            fixes=(Fix(title=f"Allow {who}", artifact=f"ingress:\n{fix}", changed=(f"{who} may reach the pod",)),),
            prior=-1.2,
        )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="The API server reaches the pod under another identity than the rule allows.",
    inputs=(Flow, CiliumEvent, CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy),
    needs=(CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy),
    rivals=("hostnetwork-source-not-matched-by-pod-selectors", "cidr-rule-does-not-select-nodes"),
    check=check,
)
