"""The learned mapping aged out while the client went on using the old address.

What happens
------------
An entry of the FQDN cache lives for its TTL (or the configured minimum), then for as long as conntrack shows an open
connection. A client that keeps an address longer than that and opens a new connection finds no mapping: denied.

How to tell it from its neighbours
----------------------------------
The cache did hold the address for an allowed name, and its expiry lies before the denied connection. Fresh lookups
restore access. Expiry follows time, unlike eviction by a per-name limit, which follows the number of addresses.

Fix
---
Raise the minimum TTL or the idle grace period, and make clients honour the TTL.

References
----------
Cilium pkg/fqdn/cache.go; --tofqdns-min-ttl, --tofqdns-idle-connection-grace-period; cilium issues 13687, 14320.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.evidence.fields import integer, rfc3339
from deadhop.hops.fqdn_world import FqdnWorld, Taught, walk
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.finding import Check
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.kube import CiliumClusterwideNetworkPolicy, CiliumNetworkPolicy
from deadhop.model.observed.message import Message
from deadhop.model.observed.policy import Flow, FqdnCacheEntry, FqdnCacheListing, FqdnSelector
from deadhop.model.record import Record
from deadhop.snapshot.clock import within_year
from deadhop.snapshot.fqdn_policy import Selector, selectors
from deadhop.snapshot.learned import Learned, learned, world_denials
from deadhop.snapshot.said import said

SLUG = "tofqdns-entry-expired"


def check(view: View) -> Iterator[Hypothesis]:
    chosen = selectors(
        view.of(FqdnSelector), (*view.of(CiliumNetworkPolicy), *view.of(CiliumClusterwideNetworkPolicy))
    )
    yield from _vanished(view, chosen)
    facts = learned(view.of(FqdnCacheEntry), view.of(Flow))
    for flow in world_denials(view.of(Flow)):
        for fact in facts:
            if flow.dst.ip and flow.dst.ip in fact.addresses:
                selector = next((s for s in chosen if s.matches(fact.name)), None)
                ended = _ended(
                    fact.expires,
                    fact.record.time,
                    fact.record.dns.ttl if isinstance(fact.record, Flow) and fact.record.dns else None,
                    flow.time,
                )
                lasting = [m for m in said(view.of(Message), "jvm-dns-cache") if _forever(m, fact.record)]
                yield _hypothesis(flow, fact, selector, chosen, ended, lasting)
                return


def _vanished(view: View, chosen: list[Selector]) -> Iterator[Hypothesis]:
    """An entry that one listing of the cache holds and a later one lacks, and dials to its address that fail."""
    listings = [k for k in view.of(FqdnCacheListing) if k.complete]
    for k, listing in enumerate(listings):
        later = [
            x for x in listings[k + 1 :] if x.source.file == listing.source.file or x.where == listing.where
        ]
        for entry in _rows(view, listing):
            without = next((x for x in later if not any(e.fqdn == entry.fqdn for e in _rows(view, x))), None)
            if without is None:
                continue
            failed: list[Record] = [
                *view.where(DialFailure, lambda d, e=entry: d.error == "timeout" and d.ip in e.ips),  # type: ignore[misc]
                *view.where(HttpExchange, lambda x, e=entry: x.error == "timeout" and x.dialled in e.ips),  # type: ignore[misc]
                *(f for f in view.of(Flow) if f.denied and f.dst.ip in entry.ips),
            ]
            covering = [s.record for s in chosen if s.matches(entry.fqdn)]
            yield Hypothesis(
                subject=f"{entry.fqdn} at {', '.join(entry.ips)}",
                title=f"The mapping {entry.fqdn} -> {', '.join(entry.ips)} has left the cache, and the client still dials the address.",
                checks=(
                    Check(text=f"the cache held {entry.fqdn}", holds=True, weight=0.9, required=True, records=(entry,)),
                    Check(text="a later listing lacks it", holds=True, weight=1.1, required=True, records=(without,)),
                    shown("connections to its address fail", failed, weight=1.2, required=True, decide="hubble observe --verdict DROPPED --to-ip ADDRESS"),
                    shown(f"a selector covers {entry.fqdn}", covering, weight=0.5, decide="cilium-dbg fqdn names"),
                ),
                explains=("fresh lookups restore access; clients that do not resolve again fail",),
                prior=-1.3,
            )  # fmt: skip
            return


def _rows(view: View, listing: FqdnCacheListing) -> list[FqdnCacheEntry]:
    """The entries that stand within a listing."""
    place = listing.source
    return [e for e in view.of(FqdnCacheEntry) if e.source.file == place.file and place.line <= e.source.line <= (place.end or place.line)]  # fmt: skip


def _ended(expires: str, answered: float | None, ttl: int | None, denied: float | None) -> bool | None:
    """Whether the entry had ended before the denial. Log times without a year are compared within one year."""
    if denied is None:
        return None
    if expires:
        end = rfc3339(expires)
        if end is None:
            return None
        if within_year(denied) == denied:
            end = within_year(end)
        return end < denied if end is not None else None
    if answered is not None and ttl is not None:
        return answered + ttl < denied
    return None


def _hypothesis(
    flow: Flow,
    fact: Learned,
    selector: Selector | None,
    chosen: list[Selector],
    ended: bool | None,
    lasting: list[Message],
) -> Hypothesis:
    return Hypothesis(
        subject=f"{fact.name} at {flow.dst.ip}",
        title=f"The mapping {fact.name} -> {flow.dst.ip} had expired when the connection was made.",
        checks=(
            Check(text=f"a connection to {flow.dst.ip} is denied", holds=True, weight=0.9, required=True, records=(flow,)),
            Check(text=f"the cache had learned {flow.dst.ip} for {fact.name}", holds=True, weight=0.9, required=True, records=(fact.record,)),
            judged("its entry ended before the denied connection", ended, [fact.record] if ended is not None else [], weight=1.4, required=True, decide="cilium-dbg fqdn cache list; hubble observe --verdict DROPPED -o jsonpb"),
            judged(f"a selector covers {fact.name}", True if selector else None, [selector.record] if selector else [], weight=0.5, decide="cilium-dbg fqdn names"),
            shown("the client keeps addresses longer than the answer allows", lasting, weight=0.5),
        ),
        explains=("fresh lookups restore access; clients that do not resolve again fail",),
        world=FqdnWorld(client=flow.src.name or flow.src.ip, wanted=fact.name, address=flow.dst.ip, selectors=tuple(s.core for s in chosen), taught=(Taught(asked=fact.name, addresses=fact.addresses, expired=True),)),
        walk=walk if chosen else None,
        fixes=(
            Fix(
                title="Keep entries longer than clients keep addresses",
                artifact="helm upgrade cilium cilium/cilium -n kube-system --reuse-values --set dnsProxy.minTtl=3600\n",
                apply=lambda w: w.with_fields(taught=tuple(Taught(asked=t.asked, addresses=t.addresses) for t in w.taught)),
                changed=("addresses stay allowed for at least an hour after each lookup",),
                note="Better: make the client honour the TTL (JVM networkaddress.cache.ttl, connection pools).",
            ),
        ),
        prior=-1.5,
    )  # fmt: skip


def _forever(message: Message, record: Record) -> bool:
    """Whether a Java client keeps what it resolved for ever (-1), or longer than the entry lives."""
    ttl = integer(message.field("ttl"))
    entry = record.ttl if isinstance(record, FqdnCacheEntry) else None
    return ttl is not None and (ttl < 0 or (entry is not None and ttl > entry))


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="The learned mapping aged out while the client went on using the old address.",
    inputs=(
        Flow,
        FqdnCacheEntry,
        FqdnCacheListing,
        FqdnSelector,
        CiliumNetworkPolicy,
        CiliumClusterwideNetworkPolicy,
        DialFailure,
        HttpExchange,
        Message,
    ),
    needs=(Flow, FqdnCacheEntry),
    rivals=("fqdn-max-ips-per-hostname-exceeded", "fqdn-ip-from-client-cache-not-observed"),
    check=check,
)
