"""DNS requests and responses pass through the proxy and are forwarded: a healthy policy path.

What happens
------------
Each query is redirected to the DNS proxy, allowed, forwarded, and its answer comes back within milliseconds. Nothing
is wrong; the listing is often pasted when the fault is elsewhere, or as a reference.

How to tell it from its neighbours
----------------------------------
Every response is FORWARDED and carries addresses (or is an ordinary empty AAAA), and no flow is denied or in error. A
denied query, a missing response, or a denied connection behind a good answer is a fault.

Fix
---
None needed.

References
----------
Hubble flow documentation; Cilium DNS proxy.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import DnsServerError
from deadhop.model.observed.http import DialFailure, LocalReply
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.policy import CiliumEvent, Flow
from deadhop.model.record import Record

SLUG = "benign-healthy-dns-proxy-flow"


def check(view: View) -> Iterator[Hypothesis]:
    flows = view.of(Flow)
    asked = [f for f in flows if f.dns and not f.dns.response]
    answered = [
        f
        for f in flows
        if f.dns and f.dns.response and f.dns.rcode == "NOERROR" and (f.dns.ips or f.dns.cnames)
    ]
    if not asked or not answered:
        return
    aliases = [f for f in answered if f.dns and not f.dns.ips and f.dns.qtypes == ("CNAME",)]
    answered_names = {f.dns.qname for f in answered if f.dns}
    open_names = {f.dns.qname for f in asked if f.dns} - answered_names
    counted = [
        c
        for c in view.of(Counter)
        if c.name == "cilium_policy_l7_total" and dict(c.labels).get("proxy_type", "fqdn") == "fqdn"
    ]
    refused = [c for c in counted if dict(c.labels).get("rule") in ("denied", "parse_errors") and c.value > 0]
    none = [c for c in counted if dict(c.labels).get("rule") == "denied" and c.value == 0]
    bad: list[Record] = [
        *refused,
        *(
            f
            for f in flows
            if f.verdict in ("DROPPED", "ERROR", "AUDIT")
            or (f.dns and f.dns.rcode in ("SERVFAIL", "REFUSED"))
        ),
        *(e for e in view.of(CiliumEvent) if e.verdict == "DROPPED"),
        *view.of(DnsServerError),
        *view.of(DialFailure),
        *view.of(LocalReply),
    ]
    yield Hypothesis(
        subject=", ".join(sorted(answered_names)[:3]),
        title="DNS passes through the policy proxy and is answered: this path is healthy.",
        checks=(
            judged("queries are forwarded through the proxy", True, asked, weight=0.8, required=True),
            judged(
                "their answers are forwarded and hold addresses", True, answered, weight=1.4, required=True
            ),
            judged("no flow is denied, in error or lost", not bad, bad, weight=1.2, required=True),
            shown("the proxy counts no denied query", none, weight=0.4),
            judged(
                "the questions are for addresses, not for aliases alone",
                False if aliases else None,
                aliases,
                weight=0.8,
                required=bool(aliases),
            ),
            judged("every name that was asked is answered", not open_names, [], weight=0.4),
        ),
        explains=("what fails, if anything fails, is not this lookup",),
        prior=-1.0,
    )


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="DNS passes through the policy proxy and is answered: nothing is wrong here.",
    severity="benign",
    inputs=(Flow, CiliumEvent, Counter, DnsServerError, DialFailure, LocalReply),
    needs=(Flow,),
    rivals=("egress-policy-missing-dns-allow", "fqdn-policy-without-l7-dns-rule", "tofqdns-entry-expired"),
    check=check,
)
