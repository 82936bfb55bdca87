"""An ingress policy at the destination lists other clients, so this one is denied.

What happens
------------
A policy (often made by an operator or a chart) puts the destination into default deny for ingress and lists the clients
it knows. This client is not among them; its own egress is fine, and the connection ends at the destination.

How to tell it from its neighbours
----------------------------------
The denial is recorded as ingress at the destination, and its source is an ordinary pod with its own identity. If the
source is a node, pod selectors cannot match it; if the denial is egress, the client's policy is at fault.

Fix
---
Add an ingress rule, or a second policy beside the first, for this client. Policies add up.

References
----------
NetworkPolicy v1, "Isolation and allowed traffic"; Cilium bpf/lib/policy.h; bpf/bpf_lxc.c ingress policy.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.hops.policy import cilium, kubernetes
from deadhop.hops.policy.peers import Peer
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.kube import CiliumNetworkPolicy, KubeObject, NetworkPolicy, Pod
from deadhop.model.observed.policy import Flow, FlowEnd
from deadhop.snapshot.entities import among_pods, is_apiserver_agent, is_pod
from deadhop.snapshot.policy_rules import admits_by_grant, failing

SLUG = "destination-ingress-policy-missing-client"


def check(view: View) -> Iterator[Hypothesis]:
    flows = view.of(Flow)
    denied = [
        f
        for f in flows
        if f.denied
        and f.dns is None
        and (_ingress(f) or _undirected(view, f))
        and (is_pod(f.src) or among_pods(f, flows))
    ]
    pairs: dict[tuple[str, str, int | None], list[Flow]] = {}
    for flow in denied:
        pairs.setdefault(
            (flow.src.name or flow.src.ip, flow.dst.name or flow.dst.ip, flow.dst.port), []
        ).append(flow)
    for (client, server, port), records in list(pairs.items())[:3]:
        yield _hypothesis(view, client, server, port, records)


def _ingress(flow: Flow) -> bool:
    return flow.direction == "INGRESS" or "INGRESS" in flow.event


def _undirected(view: View, flow: Flow) -> bool:
    """Whether a denial that does not say its direction (the AWS agent's) is ingress: a policy shown at the destination
    refuses the client, and none of the client's own namespace is shown to restrict egress."""
    if flow.direction or "EGRESS" in flow.event or not (is_pod(flow.src) and is_pod(flow.dst)):
        return False
    pods = view.of(Pod)
    source, target = _peer(flow.src, pods), _peer(flow.dst, pods)
    policies = view.of(NetworkPolicy)
    if any("egress" in kubernetes.directions(p) and p.namespace in ("", source.namespace) for p in policies):
        return False
    return any(
        p.namespace == target.namespace
        and "ingress" in kubernetes.directions(p)
        and kubernetes.selects(p, target) is not False
        and kubernetes.allows(p, "ingress", source, flow.dst.port or 0, flow.proto or "TCP") is False
        for p in policies
    )


def _peer(end: FlowEnd, pods: list[Pod]) -> Peer:
    namespace, _, name = end.name.partition("/")
    labels = next((dict(p.labels) for p in pods if p.namespace in ("", namespace) and p.name == name and p.labels), None)  # fmt: skip
    shown_labels = {
        k.removeprefix("k8s:"): v for k, _, v in (text.partition("=") for text in end.labels) if k
    }
    return Peer(name=name, namespace=namespace, labels=labels or shown_labels or None, ip=end.ip)


def _hypothesis(view: View, client: str, server: str, port: int | None, records: list[Flow]) -> Hypothesis:
    pods = view.of(Pod)
    source, target = _peer(records[0].src, pods), _peer(records[0].dst, pods)
    governing = [
        p
        for p in view.of(NetworkPolicy)
        if "ingress" in kubernetes.directions(p) and kubernetes.selects(p, target) is not False
    ]
    proto = records[0].proto or "TCP"
    verdicts = {p.ref: kubernetes.allows(p, "ingress", source, port or 0, proto) for p in governing}
    allowing = [p for p in governing if verdicts[p.ref] is True]
    refusing = [p for p in governing if verdicts[p.ref] is False]
    cilium_refuses = [
        p
        for p in view.of(CiliumNetworkPolicy)
        if p.namespace in ("", target.namespace)
        and p.spec.get("ingress")
        and cilium.selects(p, target) is not False
        and cilium.allows(p, "ingress", source, port or 0, proto) is False
    ]
    refusing_all: list[KubeObject] = [*refusing, *cilium_refuses]
    elsewhere = [
        f
        for f in view.of(Flow)
        if not f.denied
        and not f.reply
        and f.src.name == client
        and f.dst.port == port
        and f.dst.name not in ("", server)
    ]
    others = [
        f
        for f in view.of(Flow)
        if not f.denied
        and _ingress(f)
        and f.dst.name == records[0].dst.name
        and f.dst.port == port
        and records[0].dst.ip in ("", f.dst.ip)
    ]
    left = [f for f in view.of(Flow) if f.denied and "EGRESS" in f.event and f.src.name == client]
    namespace = client.partition("/")[0] if "/" in client else "CLIENT-NAMESPACE"
    home = server.partition("/")[0] if "/" in server else "NAMESPACE"
    silent = not failing(view.of(DialFailure), view.of(HttpExchange))
    granted = [p for p in refusing_all if silent and others and admits_by_grant(p)]
    return Hypothesis(
        subject=f"{client} to {server}:{port or '?'}",
        title=f"The ingress policy of {server} does not list {client}.",
        checks=(
            shown("the denial is ingress, at the destination, and its source is a pod", records, weight=1.8, required=True),
            judged("the client is not the API server's own agent", False if is_apiserver_agent(client) else None, records[:1] if is_apiserver_agent(client) else [], weight=1.5),
            judged("the client's own egress is not denied", not left, left, weight=0.8, required=bool(left)),
            judged("the destination's policy lists other clients only", True if refusing_all and not allowing else (False if allowing else None), allowing or refusing_all, weight=1.0, required=bool(allowing), decide=f"kubectl -n {home} get netpol,cnp -o yaml"),
            shown("another client is allowed on the same port", others[:3], weight=0.5),
            judged("the client is not served by another destination on the same port", False if elsewhere and silent else None, elsewhere[:2] if silent else [], weight=0.6),
            judged("the policy does not admit by a label that clients are given on purpose", False if granted else None, granted, weight=1.2),
        ),
        explains=("clients that are listed work, and the server runs well",),
        fixes=(Fix(title=f"Allow namespace {namespace} with a second policy", artifact=_artifact(server, namespace, port, proto), changed=(f"every pod of {namespace} may reach port {port or '?'}",)),),
        prior=-1.4,
    )  # fmt: skip


def _artifact(server: str, namespace: str, port: int | None, proto: str) -> str:
    return f"""apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: allow-from-{namespace}
  namespace: {server.partition("/")[0] if "/" in server else "NAMESPACE"}
spec:
  podSelector: {{}}      # narrow this to the labels of {server}
  policyTypes: [Ingress]
  ingress:
  - from:
    - namespaceSelector:
        matchLabels: {{kubernetes.io/metadata.name: {namespace}}}
    ports:
    - {{protocol: {proto}, port: {port or "PORT"}}}
"""


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="An ingress policy at the destination does not list this client.",
    inputs=(Flow, NetworkPolicy, CiliumNetworkPolicy, Pod, DialFailure, HttpExchange),
    needs=(Flow,),
    rivals=("hostnetwork-source-not-matched-by-pod-selectors", "namespace-selector-label-missing", "pod-to-pod-traffic-masqueraded-breaks-policy"),
    check=check,
)  # fmt: skip
