"""The rule's name has upper-case letters and is compared with the lower-cased DNS name without folding.

What happens
------------
DNS names carry no case. The proxy lowers the name that it saw; a release that does not lower the rule compares
unlike texts, and nothing ever matches.

How to tell it from its neighbours
----------------------------------
The only difference between rule and queried name is letter case. The same rule in lower case works. DNS inspection
is active and learns other names.

Fix
---
Write names in lower case, or use a release that matches without regard to case.

References
----------
Cilium pkg/policy/api FQDNSelector sanitize; pkg/fqdn/matchpattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.finding import Check
from deadhop.model.observed.dns import DnsLookup, DnsQuery
from deadhop.model.observed.http import HttpExchange
from deadhop.model.observed.kube import CiliumClusterwideNetworkPolicy, CiliumNetworkPolicy, mappings
from deadhop.model.observed.policy import Flow, FqdnCacheEntry, FqdnSelector
from deadhop.model.record import Record
from deadhop.snapshot.fqdn_policy import ports, selectors
from deadhop.snapshot.learned import asked_names
from deadhop.snapshot.policy_rules import all_rules
from deadhop.snapshot.said import host_of

SLUG = "fqdn-rule-case-sensitive-match"


def check(view: View) -> Iterator[Hypothesis]:
    chosen = selectors(
        view.of(FqdnSelector), [*view.of(CiliumNetworkPolicy), *view.of(CiliumClusterwideNetworkPolicy)]
    )
    dns_rules = [
        (str(p.get("matchName") or p.get("matchPattern") or ""), policy)
        for policy, rule in all_rules(
            [*view.of(CiliumNetworkPolicy), *view.of(CiliumClusterwideNetworkPolicy)], "egress"
        )
        for _n, _t, l7 in ports(rule)
        for p in mappings(l7, "dns")
    ]
    texts: list[tuple[str, Record]] = [(s.text, s.record) for s in chosen] + [(t, p) for t, p in dns_rules]
    upper = [(text, record) for text, record in texts if text != text.lower()]
    asked: dict[str, list[Record]] = dict(asked_names(view.of(DnsQuery), view.of(Flow), view.of(DnsLookup)))
    for entry in view.of(FqdnCacheEntry):
        asked.setdefault(entry.fqdn, []).append(entry)
    for exchange in view.of(HttpExchange):
        if exchange.host or exchange.url:
            asked.setdefault(exchange.host or host_of(exchange.url), []).append(exchange)
    denied = [f for f in view.of(Flow) if f.denied]
    for flow in denied:
        if flow.dst.name and "/" not in flow.dst.name:
            asked.setdefault(flow.dst.name, []).append(flow)
    for text, record in upper:
        pattern = re.compile(re.escape(text.lower().rstrip(".")).replace(r"\*", "[-a-z0-9_.]*"))
        same = [
            r for name, found in asked.items() if pattern.fullmatch(name.lower().rstrip(".")) for r in found
        ]
        yield Hypothesis(
            subject=text,
            title=f"The rule says {text}; the name is compared in lower case and never matches.",
            checks=(
                Check(text=f"the rule's name {text} has upper-case letters", holds=True, weight=1.5, required=True, records=(record,)),
                shown("the name that is asked differs only in case", same, weight=0.8, decide="hubble observe --protocol dns"),
                shown("connections or queries are denied", denied, weight=0.4),
            ),
            explains=("an allowed name is denied, and works once the rule is in lower case",),
            fixes=(Fix(title="Write the name in lower case", artifact=f"toFQDNs:\n- matchName: {text.lower()}\n"),),
            prior=-1.0,
        )  # fmt: skip
    if not upper and texts and denied and asked:
        yield Hypothesis(
            subject="letter case",
            title="The rule differs in letter case.",
            checks=(
                judged("a rule's name has upper-case letters", False, [r for _t, r in texts], required=True),
            ),
        )


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="The rule's name has upper-case letters and is compared with the lower-cased DNS name.",
    inputs=(
        FqdnSelector,
        CiliumNetworkPolicy,
        CiliumClusterwideNetworkPolicy,
        DnsQuery,
        Flow,
        DnsLookup,
        FqdnCacheEntry,
        HttpExchange,
    ),
    needs=(
        FqdnSelector,
        CiliumNetworkPolicy,
        CiliumClusterwideNetworkPolicy,
    ),
    rivals=(
        "fqdn-wildcard-matches-one-label-only",
        "fqdn-policy-without-l7-dns-rule",
        "fqdn-rule-names-cname-target-not-queried-name",
    ),
    check=check,
)
