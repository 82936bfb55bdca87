"""An egress policy selects the pod and lists only its targets, so DNS falls under the implicit deny.

What happens
------------
Any egress section puts the pod into default deny. A policy that lists the application's targets and forgets DNS
leaves the pod without names: every lookup is dropped, while the targets work by address.

How to tell it from its neighbours
----------------------------------
Flows to the cluster DNS pods on the DNS port are denied, and no rule covers them. If a rule for DNS exists, look for a
wrong port (the Service's instead of the pod's) or for a resolver that the rule does not select.

Fix
---
Allow UDP and TCP to the cluster DNS pods on the port they listen on.

References
----------
Kubernetes, NetworkPolicy default deny; Cilium, DNS egress.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deadhop.evidence.fields import host_port
from deadhop.hops.policy import cilium, kubernetes
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import DnsLookup, DnsQuery
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.kube import (
    CiliumClusterwideNetworkPolicy,
    CiliumNetworkPolicy,
    Endpoints,
    KubeObject,
    NetworkPolicy,
    Pod,
    listing,
    mappings,
)
from deadhop.model.observed.policy import CiliumEvent, Flow, FlowEnd

SLUG = "egress-policy-missing-dns-allow"
DNS_NAMES = ("dns-default", "coredns", "kube-dns", "node-local-dns")
DNS_PORTS = ("53", "5353", "8053", "1053", "9053", "dns", "dns-tcp", "dns-udp")
ARTIFACT = """egress:
- to:
  - namespaceSelector:
      matchLabels: {kubernetes.io/metadata.name: kube-system}
    podSelector:
      matchLabels: {k8s-app: kube-dns}
  ports:
  - {protocol: UDP, port: 53}
  - {protocol: TCP, port: 53}
"""


def governs_egress(policy: KubeObject) -> bool:
    return "egress" in (
        kubernetes.directions(policy) if policy.kind == "NetworkPolicy" else cilium.directions(policy)
    )


def names_dns(policy: KubeObject) -> bool:
    """Whether some egress rule of a policy covers a DNS port, or every port."""
    specs = [policy.spec] if policy.kind == "NetworkPolicy" else list(cilium.specs(policy))
    for spec in specs:
        for rule in mappings(spec, "egress"):
            if "toFQDNs" not in rule and _covers(rule, policy.kind == "NetworkPolicy"):
                return True
    return False


def _covers(rule: dict[str, Any], plain: bool) -> bool:
    items = [rule] if plain else mappings(rule, "toPorts")
    ports = [port for item in items for port in mappings(item, "ports")]
    if not ports:
        key = "to" if plain else next((k for k in rule if k.startswith("to")), "to")
        return not rule.get(key) or _wide(listing(rule, key))
    return any(str(port.get("port", "53")) in DNS_PORTS for port in ports)


def _wide(peers: Any) -> bool:
    """Whether peers without ports may hold the DNS pods: an empty selector, another namespace's, or the whole cluster."""
    return any(
        p in ("all", "cluster", "kube-dns")
        or (
            isinstance(p, dict)
            and ("namespaceSelector" in p or "0.0.0.0/0" in str(p) or not p or "k8s-app" in str(p))
        )
        for p in peers
    )


def _dns_server(end: FlowEnd, servers: frozenset[str]) -> bool:
    """Whether a flow goes to port 53, or to the port on which a pod of the cluster DNS listens instead."""
    if end.port == 53:
        return True
    named = end.ip in servers or any(word in end.name or word in " ".join(end.labels) for word in DNS_NAMES)
    return named and str(end.port) in DNS_PORTS


def _servers(view: View) -> frozenset[str]:
    """The addresses of the pods of the cluster DNS, by its endpoints and by the pods' names and labels."""
    rows = [e for e in view.of(Endpoints) if _is_dns(e, e.service)]
    listed = {host_port(a)[0] for e in rows for a in (*e.ready, *e.not_ready)}
    return frozenset(listed | {p.ip for p in view.of(Pod) if p.ip and _is_dns(p, "")})


def _is_dns(row: KubeObject, service: str) -> bool:
    return any(w in f"{row.name} {service} {dict(row.labels).values()}" for w in DNS_NAMES)


def check(view: View) -> Iterator[Hypothesis]:
    policies: list[KubeObject] = [
        *view.of(NetworkPolicy),
        *view.of(CiliumNetworkPolicy),
        *view.of(CiliumClusterwideNetworkPolicy),
    ]
    egress = [p for p in policies if governs_egress(p)]
    servers = _servers(view)
    denied: list[Flow | CiliumEvent] = [
        f for f in view.of(Flow) if f.denied and f.dns is None and _dns_server(f.dst, servers)
    ]
    denied += [
        e
        for e in view.of(CiliumEvent)
        if e.verdict == "DROPPED"
        and "olicy" in e.reason
        and _dns_server(FlowEnd(ip=e.dst, port=e.dport), servers)
    ]
    lost = [
        *(
            d
            for d in view.of(DialFailure)
            if d.error in ("lookup-timeout", "no-such-host", "lookup-failed")
            or (d.port == 53 and d.error == "timeout")
        ),
        *(r for r in view.of(DnsLookup) if r.status in ("TIMEOUT", "UNREACHABLE")),
    ]
    answered = [
        *(q for q in view.of(DnsQuery) if q.rcode),
        *(f for f in view.of(Flow) if f.dns and f.dns.response and not f.denied),
    ]
    covering = [p for p in egress if names_dns(p)]
    missing = [p for p in egress if not names_dns(p)]
    if not denied and not (missing and lost) and not answered:
        return
    if answered and not denied:
        yield Hypothesis(
            subject="DNS egress",
            title="An egress policy forgets DNS.",
            checks=(
                judged("DNS queries do not get through", False, answered[:4], weight=1.0, required=True),
            ),
        )
        return
    named = missing[0].ref if missing else "an egress policy"
    yield Hypothesis(
        subject=missing[0].ref if missing else "egress of the pod",
        title=f"{named} puts the pod into default deny and allows no DNS.",
        checks=(
            judged("queries to the DNS port are denied", True if denied else None, denied, weight=1.9, required=not (missing and lost), decide="hubble observe --verdict DROPPED --port 53"),
            judged("no egress rule covers DNS", False if covering else (True if missing else None), covering or missing, weight=1.3, required=bool(covering) or not denied, decide="kubectl get netpol,cnp,ccnp -A -o yaml"),
            shown("lookups fail", lost, weight=0.7, required=not denied),
        ),
        explains=("names fail, while the allowed targets work by address",),
        fixes=(Fix(title="Allow DNS", artifact=ARTIFACT, changed=("the selected pods may ask the cluster DNS",)),),
        prior=-1.3,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="An egress policy allows its targets and forgets DNS.",
    inputs=(
        NetworkPolicy,
        CiliumNetworkPolicy,
        CiliumClusterwideNetworkPolicy,
        Flow,
        CiliumEvent,
        DialFailure,
        DnsLookup,
        DnsQuery,
        Endpoints,
        Pod,
    ),
    needs=(NetworkPolicy, CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, Flow, CiliumEvent, DnsQuery),
    rivals=(
        "egress-policy-service-port-not-pod-port",
        "egress-policy-excludes-nodelocaldns-address",
        "dns-server-unreachable",
    ),
    check=check,
)
