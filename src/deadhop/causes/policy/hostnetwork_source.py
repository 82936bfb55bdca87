"""The client runs with host networking, so its packets carry an address that pod selectors never match.

What happens
------------
A pod with ``hostNetwork`` (an ingress controller, the kubelet, the API server) sends from its node. Between nodes the
source is the node's or the tunnel interface's address. Pod and namespace selectors list pod addresses only.

How to tell it from its neighbours
----------------------------------
The denied source is a node or a tunnel address and the policy selects by labels, which are right. If the same client is
seen leaving as an ordinary pod, its traffic was masqueraded. A rule by CIDR or for the API server is its own case.

Fix
---
Allow node and tunnel addresses (IP block or node entity), or run the client on the pod network.

References
----------
NetworkPolicy v1, "hostNetwork pods"; Cilium reserved:remote-node; flannel's first address of the node's pod network.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.kube import (
    CiliumNetworkPolicy,
    KubeObject,
    NetworkPolicy,
    Node,
    Pod,
    mapping,
    mappings,
)
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.policy import Flow
from deadhop.model.record import Record
from deadhop.snapshot.attribution import nodes_by_address, on_host
from deadhop.snapshot.entities import denied_peers, is_node, is_pod
from deadhop.snapshot.firewall import rules
from deadhop.snapshot.masquerade import masquerades
from deadhop.snapshot.policy_rules import all_rules, blocks

SLUG = "hostnetwork-source-not-matched-by-pod-selectors"


def _by_selector(policy: KubeObject) -> bool:
    rules = mappings(policy.spec, "ingress")
    return any(
        any("namespaceSelector" in p or "podSelector" in p for p in mappings(rule, "from"))
        or "fromEndpoints" in rule
        for rule in rules
    ) and not any(blocks(rule, "ingress") for _p, rule in all_rules([policy], "ingress"))


def check(view: View) -> Iterator[Hypothesis]:
    policies = [p for p in (*view.of(NetworkPolicy), *view.of(CiliumNetworkPolicy)) if _by_selector(p)]
    flows = view.of(Flow)
    for direction, peer, denied in denied_peers(flows):
        target = denied[0].dst
        if direction != "ingress" or not is_node(peer) or target.port == 53:
            continue
        as_pod = [
            f
            for f in flows
            if not f.denied
            and is_pod(f.src)
            and f.dst.port == target.port
            and target.name
            and f.dst.name == target.name
            and not f.reply
        ]
        yield _hypothesis(
            f"{peer.ip or peer.identity}",
            target.name or target.ip,
            list(denied),
            policies,
            [*as_pod, *_ordinary(view, peer.ip)],
        )
    if policies:
        yield from _from_capture(view, policies)
        yield from _by_label(view)


def _ordinary(view: View, address: str) -> list[Pod]:
    """The pods shown of the node with that address, where all of them have addresses of their own: its traffic was
    theirs, translated."""
    names = {n.name for n in view.of(Node) if address in n.internal_ips}
    pods = [p for p in view.of(Pod) if p.node in names and p.ip]
    return [] if any(p.host_network or p.ip == address for p in pods) else pods


def _from_capture(view: View, policies: list[KubeObject]) -> Iterator[Hypothesis]:
    """Connections in a capture at the pod whose source is a node's or a tunnel device's address."""
    nodes = nodes_by_address(view.of(Node))
    on_hosts = {p.ip for p in view.of(Pod) if p.ip and on_host(p)}
    ports = {
        str(port.get("port"))
        for p in policies
        for rule in mappings(p.spec, "ingress")
        for port in (*mappings(rule, "ports"), *(x for t in mappings(rule, "toPorts") for x in mappings(t, "ports")))
    }  # fmt: skip
    seen = [
        p
        for p in view.of(CapturedPacket)
        if p.tcp_flags == "S"
        and str(p.dport) in ports
        and (p.src in nodes or p.src in on_hosts or (p.src.endswith(".0") and ":" not in p.src))
    ]
    seen = [
        p for p in seen if p.src not in nodes or not masquerades(rules(view.of(IptablesTable), ()), p.dst)
    ]
    if seen:
        yield _hypothesis(seen[0].src, f"{seen[0].dst}:{seen[0].dport}", list(seen), policies, [])


def _by_label(view: View) -> Iterator[Hypothesis]:
    """A rule that selects by its labels a pod that uses the host's network: it can never match (NetworkPolicy API)."""
    hosts = [p for p in view.of(Pod) if p.host_network and p.labels]
    failed = view.where(DialFailure, lambda d: d.error == "timeout")
    for policy in view.of(NetworkPolicy):
        peers = [
            mapping(peer, "podSelector", "matchLabels")
            for rule in mappings(policy.spec, "ingress")
            for peer in mappings(rule, "from")
        ]
        named = [p for p in hosts if any(peer and peer.items() <= dict(p.labels).items() for peer in peers)]
        if named:
            yield Hypothesis(
                subject=f"{named[0].name} to {policy.ref}",
                title=f"{policy.ref} selects {named[0].name} by its labels, but that pod uses the host's network and arrives as a node.",
                checks=(
                    shown("the client uses the host's network", named, weight=1.3, required=True),
                    shown("the policy selects it by labels", [policy], weight=1.0, required=True),
                    shown("its calls time out", failed, weight=0.7),
                ),
                explains=("namespace labels are right; it works from the pod's own node",),
                fixes=(Fix(title="Allow node addresses", artifact="ingress:\n- from:\n  - ipBlock: {cidr: NODE-NETWORK}\n", changed=("every process of those nodes may reach the pod",)),),
                prior=-1.2,
            )  # fmt: skip


def _hypothesis(
    source: str,
    target: str,
    denied: list[Record],
    policies: list[KubeObject],
    as_pod: list[Flow | Pod],
) -> Hypothesis:
    flow = isinstance(denied[0], Flow)
    return Hypothesis(
        subject=f"{source} to {target}",
        title=f"The client arrives at {target} as a node ({source}), which pod and namespace selectors never match.",
        checks=(
            shown("the source at the destination is a node's or a tunnel device's address", denied[:4], weight=1.4, required=True),
            judged("it is denied", True if flow else None, denied[:2] if flow else [], weight=0.6, decide="the policy engine's deny log, or tcpdump for the missing answer"),
            shown("the policy selects its clients by labels", policies, weight=1.0, required=not flow, decide="kubectl get netpol,cnp -A -o yaml"),
            judged("the client did not leave as an ordinary pod", False if as_pod else None, as_pod[:2], weight=1.5, required=bool(as_pod), decide="kubectl get pod CLIENT -o jsonpath='{.spec.hostNetwork}'"),
        ),
        explains=("namespace labels are right; it works from the pod's own node",),
        fixes=(
            Fix(title="Allow node addresses", artifact="ingress:\n- from:\n  - ipBlock: {cidr: NODE-NETWORK}\n  - ipBlock: {cidr: TUNNEL-ADDRESSES}\n# or, with Cilium:\n# - fromEntities: [remote-node]\n", changed=("every process of those nodes may reach the pod",)),
        ),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="A client in the host's network is not matched by pod selectors.",
    inputs=(Flow, NetworkPolicy, CiliumNetworkPolicy, CapturedPacket, Node, Pod, DialFailure, IptablesTable),
    needs=(Flow, NetworkPolicy),
    rivals=("cidr-rule-does-not-select-nodes", "kube-apiserver-entity-not-source-identity", "pod-to-pod-traffic-masqueraded-breaks-policy"),
    check=check,
)  # fmt: skip
