"""A host-network pod with the ordinary DNS policy gets the node's resolv.conf and cannot resolve cluster names.

What happens
------------
``dnsPolicy: ClusterFirst`` on a pod with ``hostNetwork: true`` falls back to ``Default``: the kubelet hands out the node's
resolv.conf, without the cluster's DNS address and search domains.

How to tell it from its neighbours
----------------------------------
Only host-network pods fail and the same image resolves on the pod network. Queries go to the node's resolver and never
reach cluster DNS, so neither a policy nor reachability is the matter.

Fix
---
Set ``dnsPolicy: ClusterFirstWithHostNet``, or give the pod its own dnsConfig.

References
----------
Kubernetes, DNS for Services and Pods, Pod's DNS policy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from deadhop.evidence.fields import host_port
from deadhop.hops.dns.upstreams import NODE_RESOLVERS, kind
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import DnsLookup, ResolvConf
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.kube import KubeObject, Node, Pod, Service, Workload
from deadhop.model.observed.node import Ping
from deadhop.model.observed.shell import Attempt, Remark
from deadhop.model.record import Record
from deadhop.snapshot.attribution import hosted, nodes_by_address
from deadhop.snapshot.firewall import within
from deadhop.snapshot.search import in_cluster

SLUG = "hostnetwork-pod-uses-node-resolver"
_LABEL = re.compile(r"host[_ -]?network\b(?!\W*(?:false|no))|--net(?:work)?=host", re.I)


def check(view: View) -> Iterator[Hypothesis]:
    nodes = nodes_by_address(view.of(Node))
    specs = [
        (o, spec)
        for o in (*view.of(Pod), *view.of(Workload))
        for spec in _specs(o)
        if spec.get("hostNetwork") is True
        or (isinstance(o, Pod) and spec is o.spec and (o.host_network or (o.ip and o.ip in nodes)))
    ]
    plain = [
        o
        for o, spec in specs
        if spec.get("dnsPolicy") in (None, "ClusterFirst", "Default") and not spec.get("dnsConfig")
    ]
    cared = [o for o, spec in specs if o not in plain]
    own = [
        o
        for o in (*view.of(Pod), *view.of(Workload))
        if not specs and any("containers" in spec and not spec.get("hostNetwork") for spec in _specs(o))
    ]
    labels = [r for r in view.of(Remark) if _LABEL.search(r.text)]
    services = {s.name for s in view.of(Service)}
    lookups = [
        k for k in view.of(DnsLookup) if k.failed and _cluster_name(k.last or k.qname, services, bool(plain))
    ]
    dials = [
        d
        for d in view.of(DialFailure)
        if d.error in ("no-such-host", "lookup-failed", "lookup-timeout")
        and _cluster_name(d.host, services, bool(plain))
    ]
    others: list[Record] = [
        p for p in view.of(Ping) if p.error == "unresolved" and _cluster_name(p.target, services, bool(plain))
    ]
    others += [a for a in view.of(Attempt) if not a.ok and _cluster_name(a.target, services, bool(plain))]
    failed: list[Record] = [*lookups, *dials, *others]
    asked = [d for d in dials if d.resolver]
    if not specs and not own:
        on_nodes = [*hosted(view.of(Pod)), *view.where(Pod, lambda p: p.ip in nodes)]
        plain = [p for p in dict.fromkeys(on_nodes) if any(_beside(d, p) for d in asked)]
    below = [r for r in failed if any(_under(label, r) for label in labels)]
    known = {s.cluster_ip for s in view.of(Service) if s.cluster_ip}
    away = [d for d in dials if _node_resolver(d.resolver) or (host_port(d.resolver)[0] not in known and any(isinstance(p, Pod) and _beside(d, p) for p in plain))]  # fmt: skip
    any_name: list[Record] = [d for d in view.of(DialFailure) if d.error == "no-such-host" and plain]
    files = [
        r
        for r in view.of(ResolvConf)
        if r.nameservers
        and not any(in_cluster(s) for s in r.search)
        and not any(".svc." in s for s in r.search)
    ]
    good = [k for k in view.of(DnsLookup) if k.answers and _cluster_name(k.qname, services)]
    files_below = [r for r in files if failed and any(_under(label, r) for label in labels)]
    pods = [r for r in view.of(ResolvConf) if any(in_cluster(s) for s in r.search)]
    hostly: list[Record] = [*plain, *(labels if below or files_below else [])]
    if not hostly and not away and not cared:
        return
    against = [*(cared if not plain else []), *(own if not hostly else [])]
    who = next((o.ref for o in plain), "") or "the pod"
    yield Hypothesis(
        subject=who,
        title=f"{who[:1].upper() + who[1:]} uses the node's network and the node's resolver, which knows no cluster names.",
        checks=(
            judged("a host-network pod keeps the ordinary DNS policy, or cluster names are asked of a node's resolver", not against, against or [*hostly, *away], weight=1.4 if hostly else 0.6, required=True, decide="kubectl get pod POD -o jsonpath='{.spec.hostNetwork} {.spec.dnsPolicy}'"),
            shown("cluster names do not resolve there", below or failed or any_name or (files if plain else []), weight=1.0 if hostly else 0.7, required=True, decide="kubectl exec POD -- nslookup kubernetes.default"),
            shown("it asks the node's resolver", away, weight=0.6, decide="kubectl exec POD -- cat /etc/resolv.conf"),
            judged("its resolv.conf is not one of the pod network", False if pods and not files else None, pods, weight=1.0),
            shown("its resolv.conf lacks the cluster's search domains", files, weight=0.6),
            shown("the same name resolves on the pod network", good, weight=0.6),
        ),
        explains=("cluster names fail in that pod, outside names resolve",),
        fixes=(Fix(title="The DNS policy for host-network pods", artifact="spec:\n  hostNetwork: true\n  dnsPolicy: ClusterFirstWithHostNet\n", changed=("the pod asks cluster DNS first, with the cluster's search domains",)),),
        prior=-1.2,
    )  # fmt: skip


def _specs(obj: KubeObject) -> list[dict[str, Any]]:
    template = obj.spec.get("template")
    inner = template.get("spec") if isinstance(template, dict) else None
    return [s for s in (obj.spec, inner) if isinstance(s, dict)]


def _cluster_name(name: str, services: set[str], short: bool = False) -> bool:
    name = host_port(name)[0].rstrip(".")
    if short and name and "." not in name and name != "localhost":
        return True
    if not name or kind(name):
        return False
    return in_cluster(name) or name.split(".")[0] in services or name in ("kubernetes", "kubernetes.default")


def _node_resolver(address: str) -> bool:
    host = host_port(address)[0]
    return host in NODE_RESOLVERS or kind(host) in ("loopback", "public")


def _beside(dial: DialFailure, pod: Pod) -> bool:
    """Whether the server that was asked is of the network of a pod's address, which is its node's (or is the node itself)."""
    server = host_port(dial.resolver)[0]
    return bool(pod.ip) and ":" not in pod.ip and kind(server) == "private" and within(server, f"{pod.ip}/16")


def _under(label: Remark, record: Record) -> bool:
    """Whether a label stands above a record in one document, a few lines away."""
    return label.source.file == record.source.file and 0 < record.source.line - label.source.line <= 12


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="A host-network pod with the ordinary DNS policy uses the node's resolver.",
    inputs=(Pod, Node, Workload, Remark, DnsLookup, DialFailure, ResolvConf, Service, Ping, Attempt),
    needs=(Pod, Workload, Remark, DnsLookup, DialFailure),
    rivals=(
        "dns-server-unreachable",
        "egress-policy-missing-dns-allow",
        "search-list-truncated-by-kubelet-limit",
    ),
    check=check,
)
