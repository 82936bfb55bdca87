"""A client asked for a name before its record existed, and the cached negative answer hides the new record.

What happens
------------
Peers of a starting set look each other up at once. The first NXDOMAIN is kept by the DNS cache for the zone's negative
time (CoreDNS: the ``denial`` TTL of ``cache``, 30 s by default at most), or by the client's runtime, and answers every
later lookup although the record exists by then.

How to tell it from its neighbours
----------------------------------
The name becomes resolvable by itself after a delay that equals the negative cache time, while endpoints and record were
there long before. A name that stays unknown is another fault (selector, readiness, a wrong name).

Fix
---
Lower the negative cache time for the cluster zone, or let clients retry or watch the endpoints.

References
----------
RFC 2308; CoreDNS plugin/cache (``denial``); Kubernetes StatefulSet, stable network ID; JVM networkaddress.cache.negative.ttl.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.hops.dns.upstreams import blocks
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import CorefileText, DnsLookup, DnsQuery
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.kube import Endpoints, Pod
from deadhop.model.record import Record
from deadhop.snapshot.search import in_cluster

SLUG = "negative-dns-cache-delays-new-names"
_PEER = re.compile(r"^[a-z0-9-]+-\d+\.[a-z0-9-]+")
LONGEST = 120.0


def check(view: View) -> Iterator[Hypothesis]:
    asked: dict[str, list[tuple[bool, Record]]] = {}
    for query in view.of(DnsQuery):
        if query.qtype in ("A", "AAAA", "SRV") and query.rcode in ("NOERROR", "NXDOMAIN"):
            asked.setdefault(query.qname, []).append((query.rcode == "NOERROR", query))
    for lookup in view.of(DnsLookup):
        if lookup.qname and (lookup.answers or lookup.status in ("NXDOMAIN", "NOERROR")):
            asked.setdefault(lookup.qname, []).append((bool(lookup.answers), lookup))
    turned = [rows for name, rows in asked.items() if in_cluster(name) or _PEER.match(name) if _turns(rows)]
    before = [r for rows in turned for ok, r in rows if not ok]
    after = [r for rows in turned for ok, r in rows if ok]
    dials: dict[str, list[DialFailure]] = {}
    for dial in view.of(DialFailure):
        if dial.error == "no-such-host" and (in_cluster(dial.host) or _PEER.match(dial.host)):
            dials.setdefault(dial.host, []).append(dial)
    fading = [d for rows in dials.values() if _spans(rows) for d in rows if _PEER.match(d.host)]
    partial = (
        fading
        if fading and len(dials) > 1 and len({max(d.time or 0 for d in rows) for rows in dials.values()}) > 1
        else []
    )
    same = [d for rows in dials.values() if _spans(rows) for d in rows]
    caches = [r for r in view.of(CorefileText) for b in blocks(r.text) for d in b.all("cache")]
    short = [
        r
        for r in view.of(CorefileText)
        for b in blocks(r.text)
        for d in b.all("cache")
        if _denial(d.option("denial")) in range(6)
    ]
    names = {name for name, rows in asked.items() if rows in turned} | set(dials)
    names |= {k.qname for k in view.of(DnsLookup) if k.status == "NXDOMAIN" and _PEER.match(k.qname)}
    ready = [
        *(
            e
            for e in view.of(Endpoints)
            if (e.ready or e.not_ready) and any(f".{e.service}" in f".{n}" for n in names)
        ),
        *(p for p in view.of(Pod) if p.name and any(n.startswith(p.name + ".") for n in names)),
    ]
    denied = [
        k
        for k in view.of(DnsLookup)
        if k.status == "NXDOMAIN"
        and _PEER.match(k.qname)
        and any(len(e.ready) > 1 and f".{e.service}." in f".{k.qname}." for e in view.of(Endpoints))
    ]
    # A long denial cap, and another server that answers the name meanwhile.
    long = any(
        _denial(d.option("denial")) > 60 for r in caches for b in blocks(r.text) for d in b.all("cache")
    )
    elsewhere = {k.qname for k in view.of(DnsLookup) if k.server and k.answers} if long else set()
    kept = [q for q in view.of(DnsQuery) if q.rcode == "NXDOMAIN" and q.qname in elsewhere and (q.duration or 0) < 0.001]  # fmt: skip
    gone = [
        *before,
        *denied,
        *kept,
        *(fading if (ready or partial) else same if caches and not short else []),
    ]
    if not gone:
        return
    name = next((r.qname for r in (*before, *kept) if isinstance(r, (DnsQuery, DnsLookup))), "") or next(
        iter(dials), ""
    )
    yield Hypothesis(
        subject=name,
        title=f"{name} was asked before its record existed; the cached negative answer hid it until it expired.",
        checks=(
            shown("a cluster name is denied although its record exists by then, or until it suddenly resolves", gone, weight=1.3, required=True, decide=f"while sleep 1; do date +%T; dig +short {name}; done"),
            shown("the server of the zone answers it by then", [k for k in view.of(DnsLookup) if k.qname in {q.qname for q in kept} and k.answers], weight=0.7),
            shown("the name resolves later without any change", after, weight=1.0),
            shown("only some of the peers stay unknown, for the time of a negative cache entry", partial, weight=0.7),
            shown("the records or the pods were there", ready, weight=0.7, decide="kubectl get endpointslices -o wide"),
            judged("the cache keeps negative answers", False if short else (True if caches else None), short or caches, weight=0.5, decide="kubectl -n kube-system get configmap coredns -o yaml"),
        ),
        explains=("members of a starting set find each other only after about half a minute",),
        fixes=(Fix(title="Keep negative answers of the cluster zone for a few seconds only", artifact="# Corefile\ncache 30 {\n    denial 9984 5\n}\n", changed=("names that do not exist are asked of the backend every 5 s",)),),
        prior=-1.2,
    )  # fmt: skip


def _turns(rows: list[tuple[bool, Record]]) -> bool:
    """Whether a name is denied first and answered later, and not the other way round in between."""
    said = [ok for ok, _r in rows]
    return True in said and False in said and said == sorted(said)


def _spans(rows: list[DialFailure]) -> bool:
    """Whether one name is denied over some seconds, up to what a negative cache entry lives."""
    times = [d.time for d in rows if d.time is not None]
    return len(times) > 1 and 1 <= max(times) - min(times) <= LONGEST


def _denial(args: tuple[str, ...] | None) -> int:
    return int(args[1]) if args and len(args) > 1 and args[1].isdigit() else 30


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="A cached negative answer hides a record that was created after the first question.",
    inputs=(DnsQuery, DnsLookup, DialFailure, CorefileText, Endpoints, Pod),
    needs=(DnsQuery, DnsLookup, DialFailure),
    rivals=("service-selector-matches-no-pods", "dns-server-unreachable", "benign-search-path-nxdomain"),
    check=check,
)
