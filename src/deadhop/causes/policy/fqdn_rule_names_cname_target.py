"""The rule lists the canonical name, but the client asks for an alias, and addresses are learned under what was asked.

What happens
------------
The name that clients ask for is an alias. The DNS proxy records the answer's addresses under the name in the question
and never under the targets of the CNAME chain. A rule that lists only the target therefore selects nothing, and the
connection is denied although the address belongs to the listed name.

How to tell it from its neighbours
----------------------------------
The chain shows the alias pointing to the listed name, and the cache holds the alias. Asking for the listed name makes
the connection work. The opposite fault, a client that follows aliases itself, leaves only targets in the cache.

Fix
---
List the name that clients ask for.

References
----------
Cilium pkg/fqdn/dnsproxy ExtractMsgDetails; cilium issue 30588.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.fqdn.selectors import FQDNSelector
from deadhop.hops.fqdn_world import FqdnWorld, Taught, walk
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.finding import Check
from deadhop.model.observed.dns import DnsLookup, DnsQuery
from deadhop.model.observed.kube import CiliumClusterwideNetworkPolicy, CiliumNetworkPolicy
from deadhop.model.observed.policy import Flow, FqdnCacheEntry, FqdnSelector
from deadhop.model.record import Record
from deadhop.snapshot.fqdn_policy import Selector, selectors
from deadhop.snapshot.learned import asked_names, learned, world_denials

SLUG = "fqdn-rule-names-cname-target-not-queried-name"
ADDRESS = "192.0.2.80"


def check(view: View) -> Iterator[Hypothesis]:
    chosen = selectors(
        view.of(FqdnSelector), (*view.of(CiliumNetworkPolicy), *view.of(CiliumClusterwideNetworkPolicy))
    )
    links = _links(view)
    asked = asked_names(view.of(DnsQuery), view.of(Flow), view.of(DnsLookup))
    for alias, targets in links.items():
        target, record = targets[-1]
        for selector in chosen:
            hit = next((t for t, _r in targets if selector.matches(t)), "")
            covered = selector.matches(alias)
            if hit or covered:
                yield _hypothesis(view, chosen, selector, alias, hit or target, record, asked, covered)


def _links(view: View) -> dict[str, list[tuple[str, Record]]]:
    """Alias to the names its chain leads to, in order, with the record that shows them."""
    found: dict[str, list[tuple[str, Record]]] = {}
    for lookup in view.of(DnsLookup):
        chain = [a for a in lookup.answers if a.type == "CNAME"]
        if chain:
            found.setdefault(chain[0].name, []).extend((a.data, lookup) for a in chain)
    for flow in view.of(Flow):
        if flow.dns and flow.dns.cnames:
            found.setdefault(flow.dns.qname, []).extend((c, flow) for c in flow.dns.cnames)
    return found


def _hypothesis(
    view: View,
    chosen: list[Selector],
    selector: Selector,
    alias: str,
    target: str,
    record: Record,
    asked: dict[str, list[Record]],
    covered: bool,
) -> Hypothesis:
    others = [s for s in chosen if s.matches(alias)]
    cached = [x.record for x in learned(view.of(FqdnCacheEntry), view.of(Flow)) if x.name == alias]
    denied = world_denials(view.of(Flow))
    questions = asked.get(alias, [])
    return Hypothesis(
        subject=f"selector {selector.text}",
        title=f"The rule lists {target}, clients ask for its alias {alias}: addresses are learned under {alias} alone.",
        checks=(
            Check(text=f"{alias} is an alias of {target}", holds=True, weight=0.9, required=True, records=(record,)),
            judged(f"no selector covers {alias}, the name that is asked", not (others or covered), [s.record for s in others] or [selector.record], weight=1.2, required=True),
            shown(f"{alias} is what clients ask for", questions, weight=0.6, decide="hubble observe --protocol dns --from-pod POD"),
            shown(f"the FQDN cache holds {alias}", cached, weight=0.8, decide="cilium-dbg fqdn cache list"),
            shown("connections are denied by policy", denied, weight=1.2, decide="hubble observe --verdict DROPPED --from-pod POD"),
        ),
        explains=("asking for the listed name directly makes the connection work",),
        world=FqdnWorld(client="the pod", wanted=alias, address=ADDRESS, selectors=tuple(s.core for s in chosen), taught=(Taught(asked=alias, addresses=(ADDRESS,)),)),
        walk=walk,
        fixes=(
            Fix(
                title=f"List {alias}, the name that clients ask for",
                artifact=f"egress:\n- toFQDNs:\n  - matchName: {alias}\n",
                apply=lambda w: w.with_fields(selectors=(*w.selectors, FQDNSelector(alias))),
                changed=(f"every other name on the addresses of {alias} becomes reachable as well",),
            ),
        ),
        prior=-1.8,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="The rule lists the canonical name, but addresses are learned under the alias that is asked.",
    inputs=(
        DnsLookup,
        DnsQuery,
        Flow,
        FqdnSelector,
        FqdnCacheEntry,
        CiliumNetworkPolicy,
        CiliumClusterwideNetworkPolicy,
    ),
    needs=(FqdnSelector, CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy),
    rivals=("cname-first-client-poisons-fqdn-cache", "fqdn-wildcard-matches-one-label-only"),
    check=check,
)
