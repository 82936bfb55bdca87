"""A search domain that leaked from the host is refused by the upstream, and the client gives up before the name itself.

What happens
------------
The host's DHCP or cloud image adds a domain (``openstacklocal``, a corporate zone) to its resolv.conf, and pods inherit
it. The upstream answers names below it with REFUSED or SERVFAIL. That is an error, not "does not exist": musl, Go in
strict order and others end the search there.

How to tell it from its neighbours
----------------------------------
The last query before the failure carries a foreign suffix and gets an error code, and the cluster's suffixes before it
were answered NXDOMAIN at once. Success without records, or a wrong address, are other faults of a search domain.

Fix
---
Remove the host's search domain from the resolv.conf that pods get.

References
----------
musl src/network/lookup_name.c; glibc resolv/res_query.c (res_nsearch); RFC 1535.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import DnsLookup, DnsQuery, DnsServerError, ResolvConf
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.node import Ping
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.shell import Attempt
from deadhop.model.record import Record
from deadhop.snapshot.search import in_cluster, tried, wanted

SLUG = "search-domain-refused-stops-search"
ERRORS = ("REFUSED", "SERVFAIL", "NOTIMP", "FORMERR")


def check(view: View) -> Iterator[Hypothesis]:
    dials, attempts, pings, lookups = (
        view.of(DialFailure),
        view.of(Attempt),
        view.of(Ping),
        view.of(DnsLookup),
    )
    unresolved = [e for e in view.of(HttpExchange) if e.error == "unresolved"]
    names = wanted(dials, pings, (), attempts, unresolved)
    every = tried(view.of(DnsQuery), view.of(CapturedPacket), lookups, view.of(ResolvConf), names)
    bad = [t for t in every if t.foreign and t.rcode in ERRORS]
    if not bad:
        return
    bases, suffix = {t.base for t in bad}, bad[0].suffix
    walked = [t.record for t in every if t.cluster and t.suffix and t.base in bases and t.rcode == "NXDOMAIN"]
    absolute = [t.record for t in every if t.qname in bases and not isinstance(t.record, DnsLookup)]
    good = [
        t.record
        for t in every
        if t.qname in bases and t.rcode == "NOERROR" and isinstance(t.record, DnsLookup)
    ]
    failed: list[Record] = [
        *(d for d in dials if d.error in ("no-such-host", "lookup-timeout", "lookup-failed")),
        *(p for p in pings if p.error == "unresolved"),
        *(a for a in attempts if not a.ok),
        *unresolved,
    ]
    overflow = [
        e
        for e in view.of(DnsServerError)
        if e.error in ("overflow", "timeout") and e.qname in {t.qname for t in bad}
    ]
    files = [
        r
        for r in view.of(ResolvConf)
        if any(suffix.endswith(s.strip(".").lower()) for s in r.search if s.strip(".") and not in_cluster(s))
    ]
    yield Hypothesis(
        subject=f"search domain {suffix}",
        title=f"Names below the search domain {suffix} get {bad[0].rcode}, and the client gives up before it asks the name itself.",
        checks=(
            judged("a name with a foreign suffix gets an error code", True, [t.record for t in bad], weight=1.7, required=True),
            judged("the name itself is not asked afterwards", False if absolute and not failed else None, absolute, weight=0.8, required=bool(absolute) and not failed),
            shown("the cluster's suffixes before it were answered NXDOMAIN", walked, weight=0.7),
            shown("the client says that the name does not resolve", failed, weight=0.5),
            shown("that domain stands in a search list", files, weight=0.7, decide="kubectl exec POD -- cat /etc/resolv.conf"),
            shown("the name itself resolves", good, weight=0.6, decide=f"dig {bad[0].base}."),
            judged("the upstream answers at all", False if overflow else None, overflow, weight=0.8),
        ),
        explains=("outside names fail on this site's nodes alone",),
        fixes=(Fix(title="Take the domain out of the pods' search list", artifact=f"# /var/lib/kubelet/config.yaml, with a file that does not list {suffix}\nresolvConf: /etc/resolv-pods.conf\n"),),
        prior=-1.1,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="A search domain from the host is refused upstream, which ends the search before the absolute name.",
    inputs=(
        DialFailure,
        HttpExchange,
        Attempt,
        Ping,
        DnsLookup,
        DnsQuery,
        CapturedPacket,
        ResolvConf,
        DnsServerError,
    ),
    needs=(DnsLookup, DnsQuery, CapturedPacket),
    rivals=(
        "search-domain-nodata-stops-musl",
        "wildcard-record-in-search-domain",
        "benign-search-path-nxdomain",
    ),
    check=check,
)
