"""Pods query the node-local DNS cache on its link-local address, which the rule for the cluster's DNS pods does not select.

What happens
------------
The cache runs on the host's network. Its address is no pod's, so selectors never match; the packets have a world or
host identity.

How to tell it from its neighbours
----------------------------------
The denied flow goes to a link-local address on port 53. The policy has a working rule for the cluster's DNS pods,
unlike one that forgets DNS. It begins when the cache is deployed, without any policy change.

Fix
---
Allow the node-local address on port 53, or redirect to node-local DNS pods and select them.

References
----------
Kubernetes NodeLocal DNSCache; Cilium Local Redirect Policy.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.net import Address
from deadhop.model.observed.dns import DnsLookup, ResolvConf
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.kernel import NetfilterLog
from deadhop.model.observed.kube import CiliumClusterwideNetworkPolicy, CiliumNetworkPolicy, NetworkPolicy
from deadhop.model.observed.message import Message
from deadhop.model.observed.policy import CiliumEvent, Flow
from deadhop.model.record import Record
from deadhop.snapshot.denials import judged_flows
from deadhop.snapshot.firewall import within
from deadhop.snapshot.policy_rules import all_rules, cidrs, entities, rule_ports, selecting

SLUG = "egress-policy-excludes-nodelocaldns-address"

LOCAL = "169.254.0.0/16"


def check(view: View) -> Iterator[Hypothesis]:
    policies = [
        *view.of(NetworkPolicy),
        *view.of(CiliumNetworkPolicy),
        *view.of(CiliumClusterwideNetworkPolicy),
    ]
    denied = [
        j
        for j in judged_flows(view.of(Flow), view.of(CiliumEvent), view.of(Message))
        if j.denied and j.dst.port == 53
    ]
    local: list[Record] = [j.record for j in denied if within(j.dst.ip, LOCAL)]
    local += [
        n
        for n in view.of(NetfilterLog)
        if n.dport == 53
        and within(n.dst, LOCAL)
        and any(w in n.prefix.lower() for w in ("calico", "drop", "den", "rej", "netpol", "policy"))
    ]
    host = [j.record for j in denied if j.dst.identity in ("host",) or "node-local-dns" in j.dst.name]
    asked = [
        *view.where(ResolvConf, lambda r: any(within(n, LOCAL) for n in r.nameservers)),
        *view.where(
            Address,
            lambda a: (
                a.ifname == "nodelocaldns" or (within(a.local, LOCAL) and a.ifname.startswith("nodelocal"))
            ),
        ),
    ]
    lost = [
        *view.where(
            DnsLookup,
            lambda d: (
                d.status in ("TIMEOUT", "UNREACHABLE")
                and (within(d.server.partition("#")[0], LOCAL) or bool(asked))
            ),
        ),
        *view.where(
            DialFailure,
            lambda d: (
                within((d.resolver or d.ip).partition(":")[0] or "0", LOCAL)
                or (bool(asked) and d.error in ("lookup-timeout", "lookup-failed"))
            ),
        ),
    ]
    egress = all_rules(policies, "egress")
    dns = [p for p, rule in egress if "53" in rule_ports(rule) and selecting(rule, "egress")]
    covering = [
        p
        for p, rule in egress
        if any(within("169.254.20.10", c) for c in cidrs(rule, "egress"))
        or {"host", "all"} & set(entities(rule, "egress"))
    ]
    if not (local or host or (dns and lost)):
        return
    yield Hypothesis(
        subject="node-local DNS",
        title="The policy allows the cluster's DNS pods, and the pods ask the node-local cache.",
        checks=(
            shown("queries to the node-local address are denied, or unanswered under the policy", [*local, *host] or lost, weight=1.6, required=True, decide="hubble observe --verdict DROPPED --port 53"),
            judged("the rules cover DNS pods and no link-local or host address", False if covering else (True if dns else None), covering or dns, weight=1.0, required=bool(covering or not local), decide="kubectl get netpol,cnp,ccnp -A -o yaml"),
            shown("pods are told to ask the node-local address", asked, weight=0.7, decide="kubectl exec POD -- cat /etc/resolv.conf"),
        ),
        explains=("names fail since the node-local cache was deployed, though the policy allows the DNS pods",),
        fixes=(Fix(title="Allow the node-local address", artifact="egress:\n- to:\n  - ipBlock: {cidr: 169.254.20.10/32}\n  ports:\n  - {protocol: UDP, port: 53}\n  - {protocol: TCP, port: 53}\n"),),
        prior=-1.0,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="Pods ask the node-local DNS cache, which the rule for the cluster's DNS pods does not select.",
    inputs=(
        NetfilterLog,
        NetworkPolicy,
        CiliumNetworkPolicy,
        CiliumClusterwideNetworkPolicy,
        Flow,
        CiliumEvent,
        Message,
        ResolvConf,
        Address,
        DnsLookup,
        DialFailure,
    ),
    needs=(
        NetfilterLog,
        Flow,
        CiliumEvent,
        Message,
        NetworkPolicy,
        CiliumNetworkPolicy,
        CiliumClusterwideNetworkPolicy,
    ),
    rivals=(
        "egress-policy-missing-dns-allow",
        "fqdn-dns-rule-misses-node-local-resolver",
        "egress-policy-service-port-not-pod-port",
    ),
    check=check,
)
