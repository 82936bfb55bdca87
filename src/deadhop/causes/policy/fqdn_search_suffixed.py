"""The resolver answers the search-suffixed query with the real addresses, so they are learned under the suffixed name, which the rule does not match.

What happens
------------
autopath in CoreDNS completes the search on the server and answers the first, suffixed question, or a wildcard in a
search domain answers it. The proxy teaches addresses under the name that was asked.

How to tell it from its neighbours
----------------------------------
The FQDN cache holds the external name with a cluster suffix and not the bare name. Server-side search completion is
on. Asking with a trailing dot makes the connection work.

Fix
---
Switch off server-side search completion, or use absolute names or a lower ndots value.

References
----------
CoreDNS autopath; Cilium pkg/fqdn/dnsproxy (the name is the question's).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.dns import CorefileText, DnsQuery, ResolvConf
from deadhop.model.observed.kube import CiliumClusterwideNetworkPolicy, CiliumNetworkPolicy
from deadhop.model.observed.policy import Flow, FqdnCacheEntry, FqdnSelector
from deadhop.model.record import Record
from deadhop.snapshot.fqdn_policy import selectors
from deadhop.snapshot.learned import learned, world_denials
from deadhop.snapshot.said import public

SLUG = "fqdn-cached-under-search-suffixed-name"

SUFFIX = re.compile(r"^(?P<bare>[\w*.-]+?)\.(?:[\w-]+\.svc\.|svc\.)?cluster\.local$")
AUTOPATH = re.compile(r"^\s*autopath\b", re.M)


def check(view: View) -> Iterator[Hypothesis]:
    chosen = selectors(
        view.of(FqdnSelector), [*view.of(CiliumNetworkPolicy), *view.of(CiliumClusterwideNetworkPolicy)]
    )
    search = tuple(s.rstrip(".").lower() for r in view.of(ResolvConf) for s in r.search)
    suffixed: dict[str, list[Record]] = {}
    plain: set[str] = set()
    for known in learned(view.of(FqdnCacheEntry), view.of(Flow)):
        name = known.name.rstrip(".")
        bare = next((name[: -len(s) - 1] for s in search if name.endswith("." + s)), "")
        if not bare and (match := SUFFIX.match(name)):
            bare = match["bare"]
        # A name of the policy with anything behind it, which no rule matches: the suffix of a search list that is not shown.
        if not bare and not any(s.matches(name) for s in chosen):
            bare = next((s.text.rstrip(".").lower() for s in chosen if "*" not in s.text and name.startswith(s.text.rstrip(".").lower() + ".")), "")  # fmt: skip
        if (bare and any(public(a) for a in known.addresses)) or (
            bare and "." in bare and not known.addresses
        ):
            suffixed.setdefault(bare, []).append(known.record)
        elif not bare:
            plain.add(name)
    for query in view.of(DnsQuery):
        match = SUFFIX.match(query.qname.rstrip("."))
        if (
            match
            and query.rcode == "NOERROR"
            and query.qtype in ("A", "AAAA")
            and "." in match["bare"]
            and any(s.matches(match["bare"]) for s in chosen)
            and (query.answer_size or 0) > 100
        ):
            suffixed.setdefault(match["bare"], []).append(query)
    autopath = [c for c in view.of(CorefileText) if AUTOPATH.search(c.text)]
    denied = world_denials(view.of(Flow))
    for bare, found in suffixed.items():
        ruled = [s.record for s in chosen if s.matches(bare)]
        if bare in plain:
            continue
        yield Hypothesis(
            subject=bare,
            title=f"{bare} is learned under a name with a cluster suffix, which the rule does not match.",
            checks=(
                shown(f"the addresses of {bare} are learned under a suffixed name", found, weight=1.7, required=True, decide="cilium-dbg fqdn cache list"),
                shown("the policy names the bare name", ruled, weight=0.7, decide="kubectl get cnp,ccnp -A -o yaml | grep -A3 toFQDNs"),
                shown("the server completes searches (autopath)", autopath, weight=0.8, decide="kubectl -n kube-system get cm coredns -o yaml | grep autopath"),
                shown("connections are denied", denied, weight=0.4),
            ),
            explains=("names resolve, connections to the allowed name are denied; a trailing dot cures it",),
            fixes=(Fix(title="Switch autopath off", artifact="kubectl -n kube-system edit configmap coredns  # remove the autopath line, keep pods insecure or verified as before\n"),),
            prior=-1.1,
        )  # fmt: skip
    if not suffixed and autopath and chosen:
        yield Hypothesis(
            subject="autopath", title="Server-side search completion teaches names with a cluster suffix.",
            checks=(
                shown("the server completes searches (autopath)", autopath, weight=1.0, required=True),
                shown("the policy allows by name", [s.record for s in chosen], weight=0.9, required=True),
                shown("connections are denied", denied, weight=0.7, decide="hubble observe --verdict DROPPED"),
            ),
            prior=-1.3,
        )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="The real addresses are learned under a search-suffixed name that the rule does not match.",
    inputs=(
        FqdnSelector,
        CiliumNetworkPolicy,
        CiliumClusterwideNetworkPolicy,
        ResolvConf,
        FqdnCacheEntry,
        Flow,
        DnsQuery,
        CorefileText,
    ),
    needs=(
        FqdnCacheEntry,
        Flow,
        CorefileText,
        DnsQuery,
    ),
    rivals=(
        "cname-first-client-poisons-fqdn-cache",
        "wildcard-record-in-search-domain",
        "fqdn-policy-without-l7-dns-rule",
        "tofqdns-entry-expired",
    ),
    check=check,
)
