"""NXDOMAIN lines for names with doubled suffixes are the walk through the search list before the name itself.

What happens
------------
With ``ndots:5`` a resolver completes every name of fewer dots with each search domain first. Cluster DNS answers those
with NXDOMAIN at once; the last query, for the name as it is, gets the answer.

How to tell it from its neighbours
----------------------------------
The same client then gets NOERROR for the absolute name, and all answers are fast. If the walk ends before, look at the
last answer: an error code, success without records or nothing at all each has a cause of its own.

Fix
---
None needed. Absolute names (with a final dot) or a lower ndots value save queries.

References
----------
resolv.conf(5); Kubernetes, DNS for Services and Pods; CoreDNS plugin/autopath.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Hypothesis, View, judged
from deadhop.model.observed.dns import DnsLookup, DnsQuery, DnsServerError, ResolvConf
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.node import Ping
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.policy import Flow
from deadhop.model.record import Record
from deadhop.snapshot.search import in_cluster, tried

SLUG = "benign-search-path-nxdomain"
FAST = 1.0


def check(view: View) -> Iterator[Hypothesis]:
    every = tried(view.of(DnsQuery), view.of(CapturedPacket), (), view.of(ResolvConf), (), view.of(Flow))
    doubled = [t for t in every if t.suffix and t.rcode == "NXDOMAIN" and (t.cluster or t.foreign)]
    if not doubled:
        return
    pairs = {(t.client, t.base) for t in doubled}
    final = [
        t
        for t in every
        if (t.client, t.base) in pairs
        and t.rcode == "NOERROR"
        and t.answers != 0
        and (t.qname == t.base or in_cluster(t.suffix))
    ]
    done = {(t.client, name) for t in final for name in (t.base, t.qname)}
    denied = [
        t
        for t in every
        if (t.client, t.qname) in pairs and t.rcode not in ("NOERROR", "") and (t.client, t.qname) not in done
    ]
    slow = [q for q in view.of(DnsQuery) if (q.duration or 0) > FAST]
    split = [t for t in every if t.qtype == "AAAA" and t.rcode == "NXDOMAIN" and (t.client, t.qname) in done]
    bad: list[Record] = [
        *view.of(DnsServerError), *view.of(DialFailure), *(p for p in view.of(Ping) if p.ok is False), *(k for k in view.of(DnsLookup) if k.failed and k.qname not in {n for _c, n in done}),
        *(t.record for t in every if t.rcode in ("SERVFAIL", "REFUSED")), *(f for f in view.of(Flow) if f.denied),
        *(t.record for t in (*denied, *split)), *(e for e in view.of(HttpExchange) if e.error),
    ]  # fmt: skip
    cname = [q for q in view.of(DnsQuery) if q.qtype == "CNAME"]
    yield Hypothesis(
        subject=", ".join(sorted({n for _c, n in done or pairs})[:2]),
        title="The NXDOMAIN lines are the search list being walked; the name itself is answered.",
        checks=(
            judged("names with a search suffix are answered NXDOMAIN", True, [t.record for t in doubled], weight=0.8, required=True),
            judged("the same client gets an answer for the name itself", True if final else None, [t.record for t in final], weight=1.5, required=True, decide="dig NAME."),
            judged("nothing fails", not bad and not cname, [*bad, *cname], weight=0.6, required=True),
            judged("all answers are fast", not slow, slow, weight=0.4),
        ),
        explains=("many NXDOMAIN lines in the log of cluster DNS",),
        prior=-1.0,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="NXDOMAIN for names with doubled suffixes is the walk through the search list.",
    severity="benign",
    inputs=(
        DnsQuery,
        CapturedPacket,
        ResolvConf,
        Flow,
        DnsServerError,
        DialFailure,
        Ping,
        DnsLookup,
        HttpExchange,
    ),
    needs=(DnsQuery, CapturedPacket, Flow),
    rivals=(
        "search-domain-nodata-stops-musl",
        "search-domain-refused-stops-search",
        "aaaa-nxdomain-poisons-a-lookup",
    ),
    check=check,
)
