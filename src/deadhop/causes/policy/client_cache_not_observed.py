"""The client connects to an address that it took from its own cache, a file or a lookup outside the proxy, so the proxy never associated it with an allowed name.

What happens
------------
The policy started after the client resolved the name, the client caches names for its lifetime, a hosts file holds
the address, or it was pinned by hand. The cache of the proxy holds the name with other addresses or not at all.

How to tell it from its neighbours
----------------------------------
No DNS exchange for the name precedes the denied connection. The destination has a world identity. Unlike with an
expired entry, the mapping was never there since the policy or the agent started.

Fix
---
Make the client resolve through the proxy again, or allow the addresses by CIDR.

References
----------
Cilium DNS based policies, DNS proxy; Java networkaddress.cache.ttl.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import DnsLookup, HostsEntry
from deadhop.model.observed.kube import CiliumClusterwideNetworkPolicy, CiliumNetworkPolicy
from deadhop.model.observed.policy import CiliumEvent, Flow, FqdnCacheEntry, FqdnCacheListing, FqdnSelector
from deadhop.model.observed.shell import CommandRun
from deadhop.snapshot.denials import judged_flows
from deadhop.snapshot.fqdn_policy import selectors
from deadhop.snapshot.learned import learned

SLUG = "fqdn-ip-from-client-cache-not-observed"


def check(view: View) -> Iterator[Hypothesis]:
    chosen = selectors(
        view.of(FqdnSelector), [*view.of(CiliumNetworkPolicy), *view.of(CiliumClusterwideNetworkPolicy)]
    )
    flows = judged_flows(view.of(Flow), view.of(CiliumEvent))
    denied = [j for j in flows if j.denied and j.dst.ip and j.dst.port not in (53, None) and j.dst.outside]
    known = learned(view.of(FqdnCacheEntry), view.of(Flow))
    ever = {ip for k in known for ip in k.addresses}
    unseen = [j for j in denied if j.dst.ip not in ever]
    if not denied:
        return
    if not unseen:
        yield Hypothesis(
            subject=denied[0].dst.ip,
            title="The proxy never saw the address.",
            checks=(
                judged("the proxy never taught the address", False, [k.record for k in known], required=True),
            ),
        )
        return
    addresses = {j.dst.ip for j in unseen}
    names = {h: e for e in view.of(HostsEntry) if e.address in addresses for h in e.names}
    pinned = [
        *names.values(),
        *view.where(CommandRun, lambda c: "--resolve" in c.argv and any(a in c.line for a in addresses)),
    ]
    allowed = [k for k in known if any(s.matches(k.name) for s in chosen) or not chosen]
    elsewhere = [k for k in allowed if k.addresses and not addresses & set(k.addresses)]
    direct = [d for d in view.of(DnsLookup) if addresses & set(d.addresses)]
    listed = view.where(FqdnCacheListing, lambda x: x.complete)
    ruled = [s.record for s in chosen]
    yield Hypothesis(
        subject=sorted(addresses)[0],
        title=f"The client dials {sorted(addresses)[0]}, which the DNS proxy never saw as an answer.",
        checks=(
            shown("connections to the address are denied as world", [j.record for j in unseen], weight=0.6, required=True),
            shown("the client has the address from a file or an option, or the proxy knows the name with other addresses", [*pinned, *(k.record for k in elsewhere)], weight=1.2, required=True, decide="cilium-dbg fqdn cache list; kubectl exec POD -- cat /etc/hosts"),
            shown("the client's own lookup gave the address outside the proxy", direct, weight=0.3),
            shown("the policy allows by name", ruled, weight=0.5, required=not (pinned or elsewhere), decide="kubectl get cnp,ccnp -A -o yaml | grep -A3 toFQDNs"),
            shown("the address is pinned by hand", pinned if elsewhere else (), weight=0.6),
            shown("the whole cache was listed", listed, weight=0.2),
        ),
        explains=("a restart of the client cures it",),
        fixes=(Fix(title="Resolve through the proxy again", artifact="kubectl -n NAMESPACE rollout restart deployment/CLIENT\n# JVM: -Dsun.net.inetaddr.ttl=30\n"),),
        prior=-1.3,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="The client dials an address that the DNS proxy never saw in an answer.",
    inputs=(
        FqdnSelector,
        CiliumNetworkPolicy,
        CiliumClusterwideNetworkPolicy,
        Flow,
        CiliumEvent,
        FqdnCacheEntry,
        HostsEntry,
        CommandRun,
        DnsLookup,
        FqdnCacheListing,
    ),
    needs=(
        Flow,
        CiliumEvent,
    ),
    rivals=(
        "tofqdns-entry-expired",
        "fqdn-policy-without-l7-dns-rule",
        "cname-first-client-poisons-fqdn-cache",
        "fqdn-max-ips-per-hostname-exceeded",
    ),
    check=check,
)
