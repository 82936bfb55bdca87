"""A name with many rotating addresses overflows the per-name limit of the FQDN cache; older addresses are evicted and connections to them are denied.

What happens
------------
The cache keeps a limited number of addresses for each name and endpoint. Object stores and balancers answer with
other addresses each time; the oldest are evicted while clients still use them.

How to tell it from its neighbours
----------------------------------
The limit is small in relation to the number of addresses that the name returns. Denied flows still show the allowed
name, yet with a world identity. Denials grow with the number of lookups, not with the entry's age as with an
expired one.

Fix
---
Raise the per-name limit, and let clients resolve again more often.

References
----------
Cilium --tofqdns-endpoint-max-ip-per-hostname (default 50, since 1.18 1000), pkg/fqdn/cache.go.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.dns import DnsLookup
from deadhop.model.observed.policy import CiliumEvent, CiliumOption, Flow, FqdnCacheEntry
from deadhop.model.observed.shell import LineCount
from deadhop.model.record import Record
from deadhop.snapshot.denials import judged_flows
from deadhop.snapshot.learned import learned

SLUG = "fqdn-max-ips-per-hostname-exceeded"

KEYS = (
    "tofqdns-endpoint-max-ip-per-hostname",
    "tofqdns-max-ips-per-host",
    "dnsProxy.endpointMaxIpPerHostname",
    "toFQDNs.endpointMaxIpPerHostname",
)


def check(view: View) -> Iterator[Hypothesis]:
    limits = [o for o in view.of(CiliumOption) if o.key in KEYS and o.value.isdigit()]
    addresses: dict[str, set[str]] = {}
    sources: dict[str, list[Record]] = {}
    for known in learned(view.of(FqdnCacheEntry), view.of(Flow)):
        addresses.setdefault(known.name.rstrip("."), set()).update(known.addresses)
        sources.setdefault(known.name.rstrip("."), []).append(known.record)
    for lookup in view.of(DnsLookup):
        if lookup.addresses:
            addresses.setdefault(lookup.qname.rstrip("."), set()).update(lookup.addresses)
            sources.setdefault(lookup.qname.rstrip("."), []).append(lookup)
    limit = int(limits[0].value) if limits else 50
    denied = [
        j
        for j in judged_flows(view.of(Flow), view.of(CiliumEvent))
        if j.denied and j.dst.outside and j.dst.port != 53
    ]
    for name, found in addresses.items():
        named = [j for j in denied if j.dst.name.rstrip(".") == name or j.dst.ip in found]
        if len(found) < limit or not (limits or len(found) >= 50):
            continue
        yield Hypothesis(
            subject=name,
            title=f"{name} has {len(found)} addresses or more, and the cache keeps {limit} for each name.",
            checks=(
                shown(f"{name} returned {len(found)} addresses", sources[name], weight=1.2, required=True),
                shown(f"the limit is {limit}", limits, weight=0.8, decide="kubectl -n kube-system get cm cilium-config -o yaml | grep max-ip"),
                shown("connections to the name are denied with a world identity", [j.record for j in named] or [j.record for j in denied], weight=1.0, decide="hubble observe --verdict DROPPED --to-fqdn NAME"),
            ),
            explains=("some connections to an allowed name are denied, the more the more it is looked up",),
            fixes=(Fix(title="Raise the limit", artifact="helm upgrade cilium cilium/cilium -n kube-system --reuse-values --set dnsProxy.endpointMaxIpPerHostname=1000\n"),),
            prior=-1.2,
        )  # fmt: skip
    full = [
        c for c in view.of(LineCount) if limits and c.program in ("cilium", "cilium-dbg") and c.count == limit
    ]
    more = [
        c
        for c in view.of(LineCount)
        if full and c.program not in ("cilium", "cilium-dbg") and c.count > limit
    ]
    if full and limit > 1 and not any(len(found) >= limit for found in addresses.values()):
        yield Hypothesis(
            subject=f"limit {limit}, reached",
            title=f"The cache holds {limit} addresses of the name, which is just its limit for each name.",
            checks=(
                shown(f"the limit is {limit}", limits, weight=0.8, required=True),
                shown(f"the cache holds {limit} addresses of the name", full, weight=1.2, required=True),
                shown("lookups find more addresses than that", more, weight=0.9, decide="for i in $(seq 30); do dig +short NAME; sleep 5; done | sort -u | wc -l"),
                shown("connections to the name are denied with a world identity", [j.record for j in denied], weight=0.9, required=True, decide="hubble observe --verdict DROPPED --to-fqdn NAME"),
            ),
            explains=("some connections to an allowed name are denied, the more the more it is looked up",),
            prior=-1.3,
        )  # fmt: skip
    if not addresses and limits and limit <= 50 and any(j.dst.name and "/" not in j.dst.name for j in denied):
        by_name = [j.record for j in denied if j.dst.name and "/" not in j.dst.name]
        yield Hypothesis(
            subject=f"limit {limit}", title=f"The cache keeps {limit} addresses for each name, and flows to an allowed name are denied as world.",
            checks=(
                shown(f"the limit is {limit}", limits, weight=1.0, required=True),
                shown("denied flows still show the name, with a world identity", by_name, weight=1.0, required=True),
            ),
            prior=-1.2,
        )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="A name with many rotating addresses overflows the per-name limit of the FQDN cache.",
    inputs=(
        CiliumOption,
        FqdnCacheEntry,
        Flow,
        DnsLookup,
        CiliumEvent,
        LineCount,
    ),
    needs=(
        CiliumOption,
        FqdnCacheEntry,
    ),
    rivals=(
        "tofqdns-entry-expired",
        "fqdn-ip-from-client-cache-not-observed",
    ),
    check=check,
)
