"""DNS is redirected to a node-local resolver which the policy's DNS inspection rule does not select, so answers bypass the proxy and no name is learned.

What happens
------------
A local redirect sends queries for the cluster DNS to pods of another label, or resolv.conf names a link-local
cache. The rule with rules.dns selects the central pods alone; another rule or the default lets the rest pass,
uninspected.

How to tell it from its neighbours
----------------------------------
Names resolve and only egress to allowed names is denied. A DNS rule exists, unlike with a policy without one, but
its selector covers just the central pods. DNS flows lack the redirect to the proxy.

Fix
---
Let the rule that carries the DNS inspection also select the node-local resolver.

References
----------
Cilium Local Redirect Policy, node-local DNS; DNS based policies.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import DnsLookup, ResolvConf
from deadhop.model.observed.kube import (
    CiliumClusterwideNetworkPolicy,
    CiliumNetworkPolicy,
    KubeObject,
    Pod,
    Workload,
    mapping,
)
from deadhop.model.observed.policy import CiliumEvent, Flow
from deadhop.snapshot.denials import judged_flows
from deadhop.snapshot.fqdn_policy import ports
from deadhop.snapshot.learned import world_denials
from deadhop.snapshot.policy_rules import all_rules, cidrs, entities, selecting

SLUG = "fqdn-dns-rule-misses-node-local-resolver"


def check(view: View) -> Iterator[Hypothesis]:
    policies = [*view.of(CiliumNetworkPolicy), *view.of(CiliumClusterwideNetworkPolicy)]
    egress = all_rules(policies, "egress")
    named = [p for p, rule in egress if "toFQDNs" in rule]
    inspecting = [
        (p, rule) for p, rule in egress if any(l7.get("dns") is not None for _n, _t, l7 in ports(rule))
    ]
    if not named or not inspecting:
        return
    local_rules = [
        p
        for p, rule in inspecting
        if "node-local" in str(rule)
        or "169.254." in str(rule)
        or {"host", "all", "cluster"} & set(entities(rule, "egress"))
        or not (selecting(rule, "egress") or cidrs(rule, "egress") or entities(rule, "egress"))
        or any(
            not mapping(s, "matchLabels") and not s.get("matchExpressions") for s in selecting(rule, "egress")
        )
    ]
    flows = judged_flows(view.of(Flow), view.of(CiliumEvent))
    redirect = view.where(KubeObject, lambda o: o.kind == "CiliumLocalRedirectPolicy")
    local = [
        *redirect,
        *view.where(ResolvConf, lambda r: any(n.startswith("169.254.") for n in r.nameservers)),
        *view.where(Workload, lambda w: "node-local-dns" in w.name or "nodelocaldns" in w.name),
        *view.where(Pod, lambda p: "node-local-dns" in p.name or "nodelocaldns" in p.name),
        *view.where(DnsLookup, lambda d: d.server.startswith("169.254.")),
    ]
    bypass = [
        j.record
        for j in flows
        if j.dst.port == 53
        and not j.denied
        and ("node-local" in j.dst.name or j.dst.ip.startswith("169.254."))
        and isinstance(j.record, Flow)
        and j.record.dns is None
        and j.record.verdict != "REDIRECTED"
    ]
    denied = world_denials(view.of(Flow))
    refused = [j for j in flows if j.denied]
    questions = [j.record for j in refused if j.dst.port == 53]
    unclear = [j.record for j in refused if j.dst.port is None]
    if not (local or bypass):
        return
    yield Hypothesis(
        subject=named[0].ref,
        title="The rule that inspects DNS selects the central DNS pods, and queries go to a node-local resolver.",
        checks=(
            shown("pods ask a node-local resolver", [*local, *bypass], weight=1.2, required=True, decide="kubectl get ciliumlocalredirectpolicies -A; kubectl exec POD -- cat /etc/resolv.conf"),
            judged("no inspecting rule selects it", not local_rules, local_rules or [p for p, _r in inspecting], weight=1.1, required=True),
            shown("connections to allowed names are denied", denied, weight=0.6, decide="hubble observe --verdict DROPPED --to-identity world"),
            judged("what is denied is not DNS itself", False if questions else None, questions or unclear, weight=0.0, required=bool(questions or unclear)),
            shown("DNS flows pass without the proxy", bypass if local else (), weight=0.6),
        ),
        explains=("names resolve, and connections to allowed names are denied",),
        fixes=(Fix(title="Select the node-local resolver too", artifact="egress:\n- toEndpoints:\n  - matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s:k8s-app: kube-dns}\n  - matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s:k8s-app: node-local-dns}\n  toPorts:\n  - ports: [{port: \"53\", protocol: ANY}]\n    rules: {dns: [{matchPattern: \"*\"}]}\n"),),
        prior=-1.0,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="DNS goes to a node-local resolver that the inspecting rule does not select.",
    inputs=(
        CiliumNetworkPolicy,
        CiliumClusterwideNetworkPolicy,
        Flow,
        CiliumEvent,
        KubeObject,
        ResolvConf,
        Workload,
        Pod,
        DnsLookup,
    ),
    needs=(
        CiliumNetworkPolicy,
        CiliumClusterwideNetworkPolicy,
    ),
    rivals=(
        "fqdn-policy-without-l7-dns-rule",
        "egress-policy-excludes-nodelocaldns-address",
        "tofqdns-entry-expired",
    ),
    check=check,
)
