"""A wildcard in a name rule covers one label, and the name asked for has more (or fewer).

What happens
------------
``*`` stands for characters of one label and never for a dot: ``*.example.org`` matches ``a.example.org``, not
``a.b.example.org`` and not ``example.org``. The query is refused by name, or it is learned under a name that no
selector matches, and the connection is denied.

How to tell it from its neighbours
----------------------------------
The name ends in the pattern's suffix and differs from a matching name only in the number of labels, or is the bare
suffix. Names with one label in front pass under the same rule. It is not an alias and nothing has expired.

Fix
---
Name the deeper level, or use the any-depth prefix ``**.`` (Cilium 1.19 and newer).

References
----------
Cilium pkg/fqdn/matchpattern; cilium issues 22081, 35819, PR 43420.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from deadhop.fqdn.selectors import FQDNSelector
from deadhop.hops.fqdn_world import FqdnWorld, Taught, walk
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.finding import Check
from deadhop.model.observed.dns import DnsLookup, DnsQuery
from deadhop.model.observed.kube import (
    CiliumClusterwideNetworkPolicy,
    CiliumNetworkPolicy,
    KubeObject,
    mappings,
)
from deadhop.model.observed.policy import Flow, FqdnCacheEntry, FqdnSelector
from deadhop.model.record import Record
from deadhop.snapshot.asked import questions
from deadhop.snapshot.fqdn_policy import Selector, ports, rules, selectors
from deadhop.snapshot.learned import learned, world_denials

SLUG = "fqdn-wildcard-matches-one-label-only"
ADDRESS = "192.0.2.80"


def check(view: View) -> Iterator[Hypothesis]:
    policies = (*view.of(CiliumNetworkPolicy), *view.of(CiliumClusterwideNetworkPolicy))
    chosen = selectors(view.of(FqdnSelector), policies)
    named = _dns_patterns(policies)
    wild = [s for s in (*chosen, *named) if "*" in s.text and s.text.strip("*.")]
    names: dict[str, list[Record]] = {}
    for question in questions(view.of(DnsQuery), view.of(Flow)):
        if question.qtype in ("A", "AAAA"):
            names.setdefault(question.base, []).append(question.record)
    for lookup in view.of(DnsLookup):
        if lookup.qname:
            names.setdefault(lookup.qname, []).append(lookup)
    for flow in world_denials(view.of(Flow)):
        if "." in flow.dst.name and "/" not in flow.dst.name:
            names.setdefault(flow.dst.name, []).append(flow)
    for fact in learned(view.of(FqdnCacheEntry)):
        names.setdefault(fact.name, []).append(fact.record)
    for selector in wild:
        suffix = selector.text.lower().rstrip(".").lstrip("*").lstrip(".")
        for name, records in names.items():
            under = name == suffix or name.endswith("." + suffix)
            if under and not any(s.matches(name) for s in (named if selector in named else chosen)):
                yield _hypothesis(view, chosen, selector, suffix, name, records)


def _dns_patterns(
    policies: Iterable[KubeObject],
) -> list[Selector]:
    """The names that DNS rules admit, as selectors."""
    found = []
    for policy in policies:
        for rule in rules(policy):
            for _port, _proto, l7 in ports(rule):
                for item in mappings(l7, "dns"):
                    if item:
                        found.append(
                            Selector(
                                FQDNSelector(
                                    str(item.get("matchName") or ""), str(item.get("matchPattern") or "")
                                ),
                                policy,
                            )
                        )
    return found


def _hypothesis(
    view: View, chosen: list[Selector], selector: Selector, suffix: str, name: str, records: list[Record]
) -> Hypothesis:
    refused = [
        r
        for r in records
        if (isinstance(r, DnsLookup) and r.status == "REFUSED")
        or (isinstance(r, DnsQuery) and r.rcode == "REFUSED")
        or (isinstance(r, Flow) and r.denied)
    ]
    denied = world_denials(view.of(Flow))
    passing = [x.record for x in learned(view.of(FqdnCacheEntry), view.of(Flow)) if selector.matches(x.name)]
    passing += [
        f
        for f in view.of(Flow)
        if not f.denied and not f.reply and "." in f.dst.name and selector.matches(f.dst.name)
    ]
    depth = name.removesuffix(suffix).strip(".").count(".") + 1 if name != suffix else 0
    wider = f"**.{suffix}"
    return Hypothesis(
        subject=f"pattern {selector.text}, name {name}",
        title=f"{selector.text} covers exactly one label in front of {suffix}; {name} has {depth if depth else 'none'}.",
        checks=(
            Check(text=f"pattern {selector.text} is what the policy says", holds=True, weight=0.5, required=True, records=(selector.record,)),
            judged(f"{name} ends in {suffix} and no rule matches it", True, records, weight=0.8, required=True),
            shown("the query is refused or the connection denied", [*refused, *denied], weight=1.7, required=True, decide="hubble observe --verdict DROPPED --from-pod POD"),
            shown("names with one label in front pass under the same rule", passing[:4], weight=0.6),
        ),
        explains=("the rule works for its neighbours of one level",),
        world=FqdnWorld(client="the pod", wanted=name, address=ADDRESS, selectors=tuple(s.core for s in chosen), taught=(Taught(asked=name, addresses=(ADDRESS,)),)),
        walk=walk,
        fixes=(
            Fix(
                title=f"Name {name}",
                artifact=f"egress:\n- toFQDNs:\n  - matchName: {name}\n",
                apply=lambda w: w.with_fields(selectors=(*w.selectors, FQDNSelector(name))),
            ),
            Fix(title="Use the any-depth prefix", artifact=f"egress:\n- toFQDNs:\n  - matchPattern: \"{wider}\"\n", note="Cilium 1.19 and newer; before, ** means the same as *."),
        ),
        prior=-1.5,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="A wildcard covers one label, and the name asked for has more or fewer.",
    inputs=(
        DnsQuery,
        DnsLookup,
        Flow,
        FqdnCacheEntry,
        FqdnSelector,
        CiliumNetworkPolicy,
        CiliumClusterwideNetworkPolicy,
    ),
    needs=(FqdnSelector, CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy),
    rivals=(
        "fqdn-rule-names-cname-target-not-queried-name",
        "cname-first-client-poisons-fqdn-cache",
        "fqdn-rule-case-sensitive-match",
    ),
    check=check,
)
