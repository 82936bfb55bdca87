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
from typing import NamedTuple

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.kube import (
    CiliumClusterwideNetworkPolicy,
    CiliumNetworkPolicy,
    KubeObject,
    NetworkPolicy,
)
from deadhop.model.observed.policy import CiliumIdentity, CiliumOption, Flow
from deadhop.model.record import Record
from deadhop.snapshot.entities import denied_peers, identities, is_node
from deadhop.snapshot.firewall import within
from deadhop.snapshot.policy_rules import all_rules, blocks, entities, listing_address, rule_ports

SLUG = "cidr-rule-does-not-select-nodes"

REMOTE = identities("remote-node", "kube-apiserver")


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

    for block, found in _silent_nodes(view, policies).items():
        yield _by_address(block, found, mode)


class _Silent(NamedTuple):
    """A connection that timed out at an address which a policy lists and the agent's map gives a node's identity."""

    policy: KubeObject
    identity: CiliumIdentity
    failure: Record


def _silent_nodes(view: View, policies: list[KubeObject]) -> dict[str, list[_Silent]]:
    """By block: calls out to remote nodes that time out. The pod's own node (host) is allowed by default."""
    nodes = {
        i.prefix.partition("/")[0]: i
        for i in view.of(CiliumIdentity)
        if i.prefix.endswith(("/32", "/128")) and i.identity.removeprefix("reserved:") in REMOTE
    }
    found: dict[str, list[_Silent]] = {}
    for address, port, failure in _timeouts(view):
        if address not in nodes or failure.where.startswith("host "):
            continue
        for policy, rule in all_rules(policies, "egress"):
            ports = rule_ports(rule)
            if ports and port is not None and not any(p == str(port) or not p.isdecimal() for p in ports):
                continue
            block = next((b for b in blocks(rule, "egress") if within(address, b)), "")
            if block and not _named(policies):
                found.setdefault(block, []).append(_Silent(policy, nodes[address], failure))
    return found


def _timeouts(view: View) -> Iterator[tuple[str, int | None, Record]]:
    yield from ((d.ip or d.host, d.port, d) for d in view.of(DialFailure) if d.error == "timeout")
    yield from ((x.dialled or x.host, x.port, x) for x in view.of(HttpExchange) if x.error == "timeout")


def _named(policies: list[KubeObject]) -> bool:
    """Whether a rule allows nodes by entity."""
    return any(
        e in ("remote-node", "cluster", "all", "kube-apiserver")
        for _p, rule in all_rules(policies, "egress")
        for e in entities(rule, "egress")
    )


def _by_address(block: str, found: list[_Silent], mode: list[CiliumOption]) -> Hypothesis:
    first = found[0]
    address = first.identity.prefix.partition("/")[0]
    return Hypothesis(
        subject=f"{first.policy.ref}, egress {block}",
        title=f"{first.policy.ref} allows {block}, but {address} is a node (identity {first.identity.identity}), which CIDR rules do not select.",
        checks=(
            shown("connections to nodes time out", [f.failure for f in found][:4], weight=1.0, required=True),
            shown("the agent gives their addresses a node's identity", [f.identity for f in found][:4], weight=1.2, required=True),
            shown(f"their addresses lie in {block}, which the policy allows", [first.policy], weight=1.0, required=True),
            judged("CIDR rules do not match nodes here", False if mode else None, mode, weight=1.5, required=bool(mode), decide="kubectl -n kube-system get cm cilium-config -o yaml | grep cidr-match"),
        ),
        explains=("the pod's own node is allowed by default, other nodes are denied",),
        fixes=(
            Fix(title="Allow the node entities", artifact="egress:\n- toEntities: [host, remote-node]\n", changed=("every node of the cluster is allowed",)),
            Fix(title="Or let CIDR rules match nodes", artifact="# cilium-config\npolicy-cidr-match-mode: nodes\n", changed=("every CIDR rule of the cluster matches nodes as well",)),
        ),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="A CIDR rule holds node addresses, and CIDR rules do not select nodes.",
    inputs=(Flow, NetworkPolicy, CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, CiliumOption, CiliumIdentity, DialFailure, HttpExchange),
    needs=(Flow, CiliumIdentity),
    rivals=("cidr-rule-does-not-select-pods", "hostnetwork-source-not-matched-by-pod-selectors", "kube-apiserver-entity-not-source-identity"),
    check=check,
)  # fmt: skip
