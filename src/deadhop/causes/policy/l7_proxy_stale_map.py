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
from deadhop.model.record import Record
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
    held = _held(said(view.of(Message), "bpf-map", "bpf-map-held"))
    for flow in l7:
        blind: list[Record] = [
            m for m in told if m.field("dst") in WORLD and m.field("src") in (flow.src.identity, "")
        ]
        older = _older(view.of(Pod))
        passed = [
            f
            for f in (*redirected, *view.of(Flow))
            if not f.denied
            and _same_end(f, flow)
            and ("to-proxy" in f.event or "ALLOWED" in f.verdict or f in redirected)
        ]
        identity = next((f.dst.identity for f in (flow, *passed) if number(f.dst.identity) >= LOCAL), "")
        if flow.dst.identity in WORLD:
            if not any(f.src.port == flow.src.port and number(f.dst.identity) >= LOCAL for f in passed):
                continue  # world for L3 and L4 as well
            blind.append(flow)
        if not passed or not (blind or older or held):
            continue
        to = flow.dst.ip or flow.dst.name
        yield Hypothesis(
            subject=f"{flow.src.name or flow.src.ip} to {to}",
            title=f"The L7 proxy denies a request to {to} that L3 and L4 allow: it does not see the address' identity {identity or flow.dst.identity}.",
            checks=(
                shown("the proxy denies the request", l7[:3], weight=0.8, required=True),
                shown("L3 and L4 allow it, with a redirect to the proxy", passed[:3], weight=0.9, required=True),
                shown("the proxy takes the destination for world", blind[:3], weight=1.7, required=not (older or held), decide="kubectl -n kube-system logs POD-OF-CILIUM-ENVOY | grep 'destination identity'"),
                shown("the proxy holds another map open than the one that is pinned now", held, weight=1.7),
                shown("the agent was restarted after the proxy", older, weight=1.2, required=not (blind or held), decide="kubectl -n kube-system get pods -o wide | grep cilium"),
            ),
            explains=("it begins with a restart of the agent and ends with a restart of the proxy",),
            fixes=(Fix(title="Restart the proxy after the agent", artifact="kubectl -n kube-system rollout restart ds/cilium-envoy\n"),),
            prior=-1.6,
        )  # fmt: skip
        return


def _same_end(a: Flow, b: Flow) -> bool:
    """Whether two flows go to one address, or to one name where the log shows names."""
    return bool(a.dst.ip and a.dst.ip == b.dst.ip) or bool(a.dst.name and a.dst.name == b.dst.name)


def _held(maps: list[Message]) -> list[Message]:
    """The address map that is pinned and another one of its name that the proxy holds."""
    named = [m for m in maps if m.kind == "bpf-map" and m.field("name").startswith("cilium_ipcache")]
    pinned = [m for m in named if m.field("path")]
    open_ = {m.field("id"): m for m in maps if m.kind == "bpf-map-held" and m.field("program") == "envoy"}
    current = {(m.where, m.field("id")) for m in pinned}
    here = {where for where, _id in current}
    stale = [
        m
        for m in named
        if m.where in here
        and (m.where, m.field("id")) not in current
        and (m.field("id") in open_ or "envoy" in m.field("programs"))
    ]
    return [*pinned, *stale, *(open_[m.field("id")] for m in stale if m.field("id") in open_)] if pinned and stale else []  # fmt: skip


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
