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

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import HttpExchange
from deadhop.model.observed.kube import CiliumClusterwideNetworkPolicy, CiliumNetworkPolicy, Pod
from deadhop.model.observed.policy import CiliumOption, Flow
from deadhop.snapshot.fqdn_policy import ports, rules

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


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="A separate L7 proxy reads an outdated address map and denies allowed requests.",
    inputs=(CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, HttpExchange, Flow, CiliumOption, Pod),
    needs=(CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy),
    rivals=("ipcache-entry-lost-after-agent-restart", "tofqdns-entry-expired"),
    check=check,
)
