"""The policy allows names, but no rule sends DNS through the inspecting proxy, so no address is ever learned.

What happens
------------
``toFQDNs`` works on what the DNS proxy saw. Without ``rules.dns`` on the rule that allows DNS, queries go to the server
directly: they are answered, and nothing is learned. Every connection to an allowed name is then denied.

How to tell it from its neighbours
----------------------------------
Resolution works and the FQDN cache is empty for the endpoint. Every allowed name fails, not only some. If a DNS rule
exists but another resolver is asked (node-local), the cache is empty as well: then the rule's selector is at fault.

Fix
---
Add a DNS inspection rule to the rule that allows DNS.

References
----------
Cilium, DNS based policies; pkg/policy/api L7Rules.DNS.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.hops.fqdn_world import FqdnWorld, Taught, walk
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.finding import Check
from deadhop.model.observed.dns import DnsLookup, DnsQuery, HostsEntry
from deadhop.model.observed.kube import CiliumClusterwideNetworkPolicy, CiliumNetworkPolicy
from deadhop.model.observed.policy import Flow, FqdnCacheEntry, FqdnCacheListing
from deadhop.snapshot.entities import WORLD
from deadhop.snapshot.fqdn_policy import inspects_dns, ports, rules, selectors
from deadhop.snapshot.learned import world_denials

SLUG = "fqdn-policy-without-l7-dns-rule"
ADDRESS = "192.0.2.80"
ARTIFACT = """egress:
- toEndpoints:
  - matchLabels:
      k8s:io.kubernetes.pod.namespace: kube-system
      k8s:k8s-app: kube-dns
  toPorts:
  - ports:
    - {port: "53", protocol: ANY}
    rules:
      dns:
      - matchPattern: "*"
"""


def check(view: View) -> Iterator[Hypothesis]:
    policies = (*view.of(CiliumNetworkPolicy), *view.of(CiliumClusterwideNetworkPolicy))
    named = [p for p in policies if any("toFQDNs" in r for r in rules(p))]
    proxied = [f for f in view.of(Flow) if f.dns is not None or f.verdict == "REDIRECTED"]
    cached = view.of(FqdnCacheEntry)
    if not named:
        if (proxied or cached) and policies:
            return
        if cached or proxied:
            yield _ruled_out([*proxied, *cached])
        return
    inspected = inspects_dns(policies)
    first = named[0]
    dns_allowed = [p for p in policies if any(port == "53" for r in rules(p) for port, _t, _l in ports(r))]
    empty = [x for x in view.of(FqdnCacheListing) if x.rows == 0 and x.complete]
    resolved = [
        *(q for q in view.of(DnsQuery) if q.rcode == "NOERROR"),
        *(r for r in view.of(DnsLookup) if r.status == "NOERROR"),
    ]
    denied = world_denials(view.of(Flow))
    chosen = selectors((), named)
    # The observer shows an outside end by name only where the DNS proxy taught it (Cilium's fqdn cache).
    taught = view.where(
        Flow, lambda f: f.dst.identity in WORLD and "." in f.dst.name and "/" not in f.dst.name
    )
    learned = [*proxied, *cached, *taught]
    # A piece of a policy does not show what its other rules say.
    whole = [
        p
        for p in policies
        if p.raw.get("apiVersion")
        or p.spec.get("endpointSelector")
        or any("toFQDNs" not in r for r in rules(p))
    ]
    pinned = [h for h in view.of(HostsEntry) if any(f.dst.ip == h.address for f in denied)]
    name = chosen[0].text if chosen else "the name"
    yield Hypothesis(
        subject=first.ref,
        title=f"{first.ref} allows names, but no rule sends DNS through the proxy: nothing is ever learned.",
        checks=(
            Check(text=f"{first.ref} allows by name (toFQDNs)", holds=True, weight=0.4, required=True, records=(first,)),
            judged("no rule of the policies inspects DNS (rules.dns)", not inspected, policies if inspected else (), weight=1.6 if whole else 0.5, required=True, decide="kubectl get cnp,ccnp -A -o yaml | grep -A3 'rules:'"),
            judged("the client asks DNS for the name", False if pinned else None, pinned[:2], weight=1.0, required=bool(pinned)),
            judged("nothing passes the DNS proxy", False if learned else None, learned[:4], weight=1.0, required=bool(learned)),
            shown("it shows: DNS is allowed without inspection, the cache is empty, or connections are denied", [*dns_allowed, *empty, *denied], weight=0.4, required=True, decide="cilium-dbg fqdn cache list; kubectl get cnp,ccnp -A"),
            shown("the FQDN cache is empty", empty, weight=1.0),
            shown("names resolve", resolved, weight=0.4),
            shown("connections are denied", denied, weight=0.8, decide="hubble observe --verdict DROPPED --from-pod POD"),
        ),
        explains=("lookups succeed, and every allowed name is denied",),
        world=FqdnWorld(client="the pod", wanted=name, address=ADDRESS, selectors=tuple(s.core for s in chosen), taught=(Taught(asked=name.replace("*", "a"), addresses=(ADDRESS,)),), inspected=False),
        walk=walk,
        fixes=(Fix(title="Send DNS through the proxy", artifact=ARTIFACT, apply=lambda w: w.with_fields(inspected=True), changed=("each pod's queries pass the node's DNS proxy",)),),
        prior=-1.4,
    )  # fmt: skip


def _ruled_out(seen: list[Flow | FqdnCacheEntry]) -> Hypothesis:
    return Hypothesis(
        subject="DNS inspection",
        title="No rule sends DNS through the inspecting proxy.",
        checks=(judged("nothing passes the DNS proxy", False, seen[:4], weight=1.0, required=True),),
    )


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="The policy allows names, but no rule sends DNS through the proxy that learns them.",
    inputs=(
        CiliumNetworkPolicy,
        CiliumClusterwideNetworkPolicy,
        FqdnCacheListing,
        FqdnCacheEntry,
        Flow,
        DnsQuery,
        DnsLookup,
        HostsEntry,
    ),
    needs=(CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, FqdnCacheEntry),
    rivals=(
        "fqdn-dns-rule-misses-node-local-resolver",
        "egress-policy-missing-dns-allow",
        "cname-first-client-poisons-fqdn-cache",
    ),
    check=check,
)
