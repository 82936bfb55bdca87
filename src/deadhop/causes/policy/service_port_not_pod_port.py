"""The rule names the Service port, but policy is enforced after service translation, on the backend's port, so it never matches.

What happens
------------
The client dials the Service's port. The datapath replaces address and port with those of a backend and asks the
policy about these. A rule for the Service's port covers nothing.

How to tell it from its neighbours
----------------------------------
The denied flow goes to the right pod on a port other than the one in the rule, namely the Service's targetPort.
Service port and targetPort differ. A rule for the destination exists, unlike with a forgotten allow.

Fix
---
Name the port on which the backend pods listen.

References
----------
Kubernetes NetworkPolicy (ports are pod ports); Cilium layer 4 policy; CoreDNS deployments that listen on 8053 or
1053.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from deadhop.hops.policy.peers import matches
from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.dns import DnsLookup
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.kube import (
    CiliumClusterwideNetworkPolicy,
    CiliumNetworkPolicy,
    Endpoints,
    KubeObject,
    NetworkPolicy,
    Pod,
    Service,
    mapping,
    mappings,
)
from deadhop.model.observed.message import Message
from deadhop.model.observed.policy import CiliumEvent, Flow
from deadhop.model.record import Record
from deadhop.snapshot.denials import Judged, judged_flows
from deadhop.snapshot.policy_rules import all_rules, rule_ports, selecting

SLUG = "egress-policy-service-port-not-pod-port"

#: Service ports and the pod ports that usually stand behind them.
USUAL = {
    (80, 8080),
    (80, 8000),
    (80, 3000),
    (80, 5000),
    (80, 8081),
    (443, 8443),
    (443, 9443),
    (443, 10250),
    (443, 4443),
    (53, 8053),
    (53, 5353),
    (53, 1053),
}
DNS = ("kube-dns", "coredns", "rke2-coredns-rke2-coredns", "dns-default")


def check(view: View) -> Iterator[Hypothesis]:
    policies = [
        *view.of(NetworkPolicy),
        *view.of(CiliumNetworkPolicy),
        *view.of(CiliumClusterwideNetworkPolicy),
    ]
    flows = judged_flows(view.of(Flow), view.of(CiliumEvent), view.of(Message))
    denied = [j for j in flows if j.denied and j.dst.port and not j.dst.outside]
    guessed: dict[tuple[int, int], list[Record]] = {}
    pairs: dict[tuple[int, int], list[Record]] = {}
    for service in view.of(Service):
        for port in service.ports:
            if isinstance(port.target, int) and port.target != port.port:
                pairs.setdefault((port.port, port.target), []).append(service)
    by_name = {s.name: s for s in view.of(Service) if s.name and len(s.ports) == 1}
    for row in view.of(Endpoints):
        known = by_name.get(row.service or row.name)
        only = known.ports[0] if known is not None and known.ports[0].target is None else None
        if only is not None and len(row.ports) == 1 and only.port != row.ports[0]:
            pairs.setdefault((only.port, row.ports[0]), []).append(row)
    for policy, rule in all_rules(policies, "egress"):
        for text in rule_ports(rule) if selecting(rule, "egress") else ():
            for flow in denied:
                if text.isdigit() and flow.dst.pod and (int(text), flow.dst.port) in USUAL:
                    guessed.setdefault((int(text), flow.dst.port or 0), []).append(policy)
    backends: dict[int, list[Endpoints]] = {}
    for row in view.of(Endpoints):
        named = row.service in DNS or row.name in DNS or "kube-dns" in dict(row.labels).values()
        for number in row.ports:
            if named and number != 53 and number not in (9153, 8080, 8181):
                pairs.setdefault((53, number), []).append(row)
            backends.setdefault(number, []).append(row)
    if any((view.of(Service), view.of(Endpoints))):
        guessed = _selected(view, denied, policies)
    for pair, by in guessed.items():
        pairs.setdefault(pair, by)
    for row in view.of(Endpoints):
        if "kube-dns" in dict(row.labels).values() or row.name in DNS:
            listed = {e.rsplit(":", 1)[0] for e in row.ready}
            for flow in denied:
                if flow.dst.ip in listed and (53, flow.dst.port) in USUAL:
                    pairs.setdefault((53, flow.dst.port or 0), []).append(row)
    named_ports = {
        p for d in ("egress", "ingress") for _policy, rule in all_rules(policies, d) for p in rule_ports(rule)
    }
    for (served, target), shown_by in pairs.items():
        hit = [j for j in denied if j.dst.port == target and _right_pod(j, backends.get(target, []))]
        ruled = [
            p
            for d in ("egress", "ingress")
            for p, rule in all_rules(policies, d)
            if str(served) in rule_ports(rule)
        ]
        # Policies that are shown and do not name the Service's port: their author did not mean it.
        if str(target) in named_ports or (not ruled and (not hit or policies)):
            continue
        meant = [s for s in shown_by if isinstance(s, Service) and any(_names(rule, served, s) for _p, rule in all_rules(policies, "egress"))]  # fmt: skip
        failed = [
            *view.where(DnsLookup, lambda r: r.status in ("TIMEOUT", "UNREACHABLE")),
            *view.where(DialFailure, lambda d: d.error == "timeout"),
            *view.where(HttpExchange, lambda x: x.error == "timeout"),
        ]
        yield Hypothesis(
            subject=f"port {served} and pod port {target}{' (usual)' if (served, target) in guessed else ''}",
            title=f"The rule allows the Service port {served}, and policy sees the pods' port {target}.",
            checks=(
                shown(f"the Service's port {served} leads to the pods' port {target}", shown_by, weight=1.0, required=True, decide="kubectl get svc,endpointslices -o yaml"),
                shown(f"connections to port {target} are denied", [j.record for j in hit], weight=1.5, required=not (ruled and (failed or meant)), decide="hubble observe --verdict DROPPED"),
                shown(f"a rule names port {served} and none names {target}", ruled, weight=0.9, decide="kubectl get netpol,cnp,ccnp -A -o yaml | grep -A2 port"),
                shown("calls fail", failed, weight=0.3),
            ),
            explains=("the allowed Service times out although a rule names its port",),
            fixes=(Fix(title=f"Allow port {target}", artifact=f"ports:\n- {{protocol: UDP, port: {target}}}\n- {{protocol: TCP, port: {target}}}\n"),),
            prior=-1.2,
        )  # fmt: skip


def _selected(
    view: View, denied: list[Judged], policies: Sequence[KubeObject]
) -> dict[tuple[int, int], list[Record]]:
    """Pairs of a rule's port and the denied pod's, where the rule selects that pod and a Service of its namespace has the
    rule's port, its target not shown."""
    pods = {f"{p.namespace}/{p.name}": p for p in view.of(Pod) if p.labels}
    found: dict[tuple[int, int], list[Record]] = {}
    for flow in denied:
        pod = pods.get(flow.dst.name)
        if pod is None:
            continue
        for service in view.of(Service):
            for port in service.ports:
                if (
                    service.namespace != pod.namespace
                    or port.target is not None
                    or port.port == flow.dst.port
                ):
                    continue
                meant = service.selector is not None and set(service.selector) <= set(pod.labels)
                meant = meant or (service.selector is None and pod.name.startswith(service.name + "-"))
                if meant and any(str(port.port) in rule_ports(r) and _picks(r, dict(pod.labels)) for _p, r in all_rules(policies, "egress")):  # fmt: skip
                    found.setdefault((port.port, flow.dst.port or 0), []).append(service)
    return found


def _picks(rule: dict[str, Any], labels: dict[str, str]) -> bool:
    return any(matches(s.get("podSelector", s if "matchLabels" in s else {}), labels) for s in selecting(rule, "egress"))  # fmt: skip


def _names(rule: dict[str, Any], served: int, service: Service) -> bool:
    """Whether an egress rule for port ``served`` selects just the pods of ``service``: its author meant the Service."""
    wanted = dict(service.selector or ())
    peers = [mapping(p, "podSelector", "matchLabels") for p in mappings(rule, "to")]
    return str(served) in rule_ports(rule) and any(p and p.items() <= wanted.items() for p in peers)


def _right_pod(flow: Judged, rows: list[Endpoints]) -> bool:
    listed = [e.rsplit(":", 1)[0] for row in rows for e in (*row.ready, *row.not_ready)]
    return not flow.dst.ip or not listed or flow.dst.ip in listed


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="The rule names the Service port, but policy sees the backend's port.",
    inputs=(
        NetworkPolicy,
        CiliumNetworkPolicy,
        CiliumClusterwideNetworkPolicy,
        Flow,
        CiliumEvent,
        Message,
        Service,
        Pod,
        Endpoints,
        DnsLookup,
        DialFailure,
        HttpExchange,
    ),
    needs=(
        Flow,
        CiliumEvent,
        NetworkPolicy,
        CiliumNetworkPolicy,
        CiliumClusterwideNetworkPolicy,
    ),
    rivals=(
        "egress-policy-missing-dns-allow",
        "named-port-ambiguous-across-pods",
        "egress-policy-excludes-nodelocaldns-address",
    ),
    check=check,
)
