"""A separately running L7 proxy keeps an old address-to-identity map open and denies new addresses.

What happens
------------
Envoy runs in its own DaemonSet. A restarted agent creates the map anew, the proxy still reads the old one: addresses
learned since then are unknown to it, and the L7 rule answers "Access denied" although L3 and L4 allowed the flow.

How to tell it from its neighbours
----------------------------------
The verdict below is allow with a redirect to the proxy, and the refusal is an HTTP 403 by the proxy. It begins with a
restart of the agent without one of the proxy. Policies without an L7 part are not affected.

Fix
---
Restart the proxy after the agent, or use a proxy release that opens the map again.

References
----------
Cilium envoy.enabled (cilium-envoy DaemonSet); cilium/proxy bpf_metadata, cilium/ipcache.cc.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import HttpExchange
from deadhop.model.observed.kube import CiliumClusterwideNetworkPolicy, CiliumNetworkPolicy, Pod
from deadhop.model.observed.message import Message
from deadhop.model.observed.policy import CiliumOption, Flow
from deadhop.snapshot.ages import younger
from deadhop.snapshot.entities import LOCAL, WORLD, number
from deadhop.snapshot.fqdn_policy import ports, rules
from deadhop.snapshot.said import said

SLUG = "l7-proxy-holds-stale-ipcache-map"


def check(view: View) -> Iterator[Hypothesis]:
    policies = [
        p
        for p in (*view.of(CiliumNetworkPolicy), *view.of(CiliumClusterwideNetworkPolicy))
        if any("http" in l7 for r in rules(p) for _p, _t, l7 in ports(r))
    ]
    refused = [e for e in view.of(HttpExchange) if e.status == 403]
    flows = view.of(Flow)
    redirected = [f for f in flows if f.verdict == "REDIRECTED" or "L3-L4 REDIRECTED" in f.event]
    l7 = [f for f in flows if f.denied and "http" in f.event]
    below = [f for f in flows if f.denied and not f.dns and "http" not in f.event]
    separate = [
        o for o in view.of(CiliumOption) if o.key.lower() in ("envoy.enabled", "external-envoy-proxy")
    ]
    external = [o for o in separate if o.value.lower() == "true"]
    envoy = [p for p in view.of(Pod) if p.name.startswith("cilium-envoy")]
    yield from _two_views(view, l7, redirected)
    if not policies or not (refused or l7):
        return
    yield Hypothesis(
        subject=policies[0].ref,
        title="The L7 proxy denies what L3 and L4 allow: it reads an address map from before the agent's restart.",
        checks=(
            shown("the policy has an HTTP rule", policies[:3], weight=0.4, required=True),
            shown("the proxy answers 403, access denied", [*refused, *l7], weight=0.8, required=True),
            shown("L3 and L4 allow, with a redirect to the proxy", redirected[:3], weight=0.9, decide="hubble observe --from-pod POD --type policy-verdict,l7"),
            judged("nothing is denied below L7", not below, below[:3], weight=0.6, required=bool(below)),
            judged("the proxy runs apart from the agent", True if external or envoy else (False if separate else None), [*external, *envoy] or separate, weight=1.2, required=True, decide="kubectl -n kube-system get pods -l k8s-app=cilium-envoy -o wide; kubectl -n kube-system get pods -l k8s-app=cilium -o wide   # which is younger?"),
        ),
        explains=("it begins with a restart of the agent and ends with a restart of the proxy",),
        fixes=(Fix(title="Restart the proxy after the agent", artifact="kubectl -n kube-system rollout restart ds/cilium-envoy\n"),),
        prior=-1.4,
    )  # fmt: skip


def _two_views(view: View, l7: list[Flow], redirected: list[Flow]) -> Iterator[Hypothesis]:
    """The proxy's own log, or the ages of its pod and of the agent's, beside a request that L3 and L4 let pass."""
    told = said(view.of(Message), "proxy-identity")
    for flow in l7:
        if number(flow.dst.identity) < LOCAL and flow.dst.identity in WORLD:
            continue
        blind = [m for m in told if m.field("dst") in WORLD and m.field("src") in (flow.src.identity, "")]
        older = _older(view.of(Pod))
        passed = [
            f
            for f in (*redirected, *view.of(Flow))
            if not f.denied
            and f.dst.ip == flow.dst.ip
            and ("to-proxy" in f.event or "ALLOWED" in f.verdict or f in redirected)
        ]
        if not passed or not (blind or older):
            continue
        yield Hypothesis(
            subject=f"{flow.src.name or flow.src.ip} to {flow.dst.ip}",
            title=f"The L7 proxy denies a request to {flow.dst.ip} that L3 and L4 allow: it does not see the address' identity {flow.dst.identity}.",
            checks=(
                shown("the proxy denies the request", l7[:3], weight=0.8, required=True),
                shown("L3 and L4 allow it, with a redirect to the proxy", passed[:3], weight=0.9, required=True),
                shown("the proxy takes the destination for world", blind[:3], weight=1.7, required=not older, decide="kubectl -n kube-system logs POD-OF-CILIUM-ENVOY | grep 'destination identity'"),
                shown("the agent was restarted after the proxy", older, weight=1.2, required=not blind, decide="kubectl -n kube-system get pods -o wide | grep cilium"),
            ),
            explains=("it begins with a restart of the agent and ends with a restart of the proxy",),
            fixes=(Fix(title="Restart the proxy after the agent", artifact="kubectl -n kube-system rollout restart ds/cilium-envoy\n"),),
            prior=-1.6,
        )  # fmt: skip
        return


def _older(pods: list[Pod]) -> list[Pod]:
    """A proxy's pod and the agent's pod of its node, where the agent runs for a shorter time."""
    for proxy in (p for p in pods if p.name.startswith("cilium-envoy")):
        for agent in (p for p in pods if re.fullmatch(r"cilium-\w{5}", p.name) and p.node == proxy.node):
            if younger(agent, proxy):
                return [proxy, agent]
    return []


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="A separate L7 proxy reads an outdated address map and denies allowed requests.",
    inputs=(
        CiliumNetworkPolicy,
        CiliumClusterwideNetworkPolicy,
        HttpExchange,
        Flow,
        CiliumOption,
        Pod,
        Message,
    ),
    needs=(CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, Flow),
    rivals=("ipcache-entry-lost-after-agent-restart", "tofqdns-entry-expired"),
    check=check,
)
