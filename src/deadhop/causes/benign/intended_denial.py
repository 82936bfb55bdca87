"""A denied flow is what the policy is meant to deny, and allowed clients pass.

What happens
------------
A policy asks its clients for a label. A client without it is denied, one with it is forwarded on the same port: the
policy does what it says.

How to tell it from its neighbours
----------------------------------
The denied client's labels are known and are not those that the rule asks for, and the intended client is forwarded. A
client that the policy's author forgot looks the same from outside; what tells it is that it reports a failure. A label
that says nothing but that its bearer may pass (``db-client: "true"``) is given on purpose.

Fix
---
None needed.

References
----------
NetworkPolicy v1, podSelector; Cilium bpf/lib/policy.h.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.hops.policy import cilium, kubernetes
from deadhop.hops.policy.peers import Peer
from deadhop.model.cause import Cause, Hypothesis, View, judged, shown
from deadhop.model.finding import Check
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.kube import CiliumNetworkPolicy, KubeObject, NetworkPolicy, Pod
from deadhop.model.observed.policy import Flow, FlowEnd
from deadhop.snapshot.entities import denied_peers, is_pod
from deadhop.snapshot.policy_rules import admits_by_grant, failing

SLUG = "benign-intended-policy-denial"


def check(view: View) -> Iterator[Hypothesis]:
    pods = {(p.namespace, p.name): p for p in view.of(Pod)}
    policies: list[KubeObject] = [*view.of(NetworkPolicy), *view.of(CiliumNetworkPolicy)]
    passing = [f for f in view.of(Flow) if not f.denied and is_pod(f.src) and is_pod(f.dst) and not f.reply]
    for direction, peer, denied in denied_peers(view.of(Flow)):
        if direction != "ingress" or not is_pod(peer):
            continue
        client, target = _peer(peer, pods), _peer(denied[0].dst, pods)
        port, proto = denied[0].dst.port or 0, denied[0].proto or "TCP"
        elsewhere = [
            f
            for f in passing
            if f.src.name == peer.name and f.dst.name != denied[0].dst.name and f.dst.port == port
        ]
        own = _pod(peer, pods)
        done = [own] if own and own.phase in ("Completed", "Succeeded") else []
        complains = failing(view.of(DialFailure), view.of(HttpExchange)) or _troubled(own)
        allowed = [f for f in passing if f.dst.name == denied[0].dst.name and f.dst.port == port]
        for policy in policies:
            hop = kubernetes if policy.kind == "NetworkPolicy" else cilium
            if hop.selects(policy, target) is False:
                continue
            refuses = hop.allows(policy, "ingress", client, port, proto) is False
            lets = [f for f in allowed if hop.allows(policy, "ingress", _peer(f.src, pods), port, proto)]
            granted = admits_by_grant(policy) and not complains
            if (
                refuses
                and lets
                and not complains
                and (granted or (client.labels and client.namespace == _peer(lets[0].src, pods).namespace))
            ):
                yield Hypothesis(
                    subject=f"{peer.name} to {denied[0].dst.name}:{port}",
                    title=f"{policy.ref} denies {peer.name} because it lacks the labels that the rule asks for; intended clients pass.",
                    checks=(
                        Check(text=f"{policy.ref} allows other labels than {client.labels or 'those that the client is shown with'}", holds=True, weight=1.4, required=True, records=(policy,)),
                        shown("the client without them is denied", denied[:2], weight=0.8, required=True),
                        shown("a client with them passes on the same port", lets[:2], weight=1.4, required=True),
                        shown("the denied client is served by another destination on the same port, or did its work", [*elsewhere[:2], *done], weight=0.6),
                        judged("the label is one that clients are given on purpose, and nobody reports a failure", True if granted else None, [policy] if granted else [], weight=0.8),
                    ),
                    explains=("the policy does what it says",),
                    prior=-1.0,
                )  # fmt: skip


def _pod(end: FlowEnd, pods: dict[tuple[str, str], Pod]) -> Pod | None:
    """The pod of an end; a table may be shown without its namespace."""
    namespace, _, name = end.name.partition("/")
    return pods.get((namespace, name)) or pods.get(("", name))


def _troubled(pod: Pod | None) -> bool:
    """Whether a pod runs and is not ready, or crashes: what it cannot reach may be why."""
    if pod is None:
        return False
    crashes = pod.phase in ("CrashLoopBackOff", "Error") or pod.phase.startswith("Init:")
    return crashes or (pod.phase == "Running" and pod.ready is not None and pod.ready[0] < pod.ready[1])


def _peer(end: FlowEnd, pods: dict[tuple[str, str], Pod]) -> Peer:
    namespace, _, name = end.name.partition("/")
    pod = _pod(end, pods)
    pairs = [text.removeprefix("k8s:").partition("=") for text in end.labels]
    labels = dict(pod.labels) if pod and pod.labels else {k: v for k, _, v in pairs} or None
    return Peer(name=name, namespace=namespace, labels=labels, ip=end.ip)


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="The policy denies a client that it is meant to deny, and lets the intended one pass.",
    severity="benign",
    inputs=(Flow, NetworkPolicy, CiliumNetworkPolicy, Pod, DialFailure, HttpExchange),
    needs=(Flow,),
    rivals=("destination-ingress-policy-missing-client",),
    check=check,
)
