"""A domain of the search list has a wildcard record, so every name is completed with it and gets the wildcard's address.

What happens
------------
With ``ndots:5`` a name with fewer dots is tried with each search domain first. A zone with ``*`` answers all of them:
``github.com.apps.example.com`` exists, and the client connects to the wildcard host.

How to tell it from its neighbours
----------------------------------
An answer exists and is wrong: unrelated names resolve to one address, or TLS shows the wildcard host's certificate. With
a trailing dot the name resolves rightly. A search domain that answers nothing, or an error, gives no address.

Fix
---
Keep wildcard zones out of the search list, or use absolute names or a lower ndots value.

References
----------
RFC 4592, RFC 1535; resolv.conf(5), ndots.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import DnsLookup, DnsQuery, ResolvConf
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.message import Message
from deadhop.model.observed.node import Ping
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.record import Record
from deadhop.snapshot.search import base_of, in_cluster, tried

SLUG = "wildcard-record-in-search-domain"


def check(view: View) -> Iterator[Hypothesis]:
    lookups = view.of(DnsLookup)
    resolv = view.of(ResolvConf)
    zones = [k for k in lookups if k.qname.startswith("*") or any(a.name.startswith("*") for a in k.answers)]
    completed: list[Record] = [k for k in lookups if k.tool != "zone" and _completed(k, resolv)]
    completed += [
        t.record
        for t in tried(view.of(DnsQuery), view.of(CapturedPacket), (), resolv)
        if t.foreign and t.rcode == "NOERROR" and (t.answers or 0) > 0 and not _hit(view, t.base)
    ]
    completed += [
        k
        for k in lookups
        if not k.absolute
        and k.answers
        and any(
            o.absolute and o.qname == k.qname and o.addresses and not set(o.addresses) & set(k.addresses)
            for o in lookups
        )
    ]
    suffixes = [s for r in resolv for s in r.search]
    completed += [
        p
        for p in view.of(Ping)
        if p.name
        and not in_cluster(p.name)
        and base_of(p.name, suffixes, ()).count(".")
        and base_of(p.name, suffixes, ()) != p.name
    ]
    same = _one_address(lookups)
    certificates: list[Record] = [d for d in view.of(DialFailure) if d.error == "certificate"]
    certificates += [
        e
        for e in view.of(HttpExchange)
        if e.error == "certificate" or (e.error == "tls" and "certificate" in e.error_text)
    ]
    certificates += [m for m in view.of(Message) if m.kind in ("san-mismatch", "certificate-unknown-ca")]
    foreign = [
        c
        for c in certificates
        if any(
            f"*.{s.strip('.')}" in (c.error_text if isinstance(c, HttpExchange) else getattr(c, "text", ""))
            for s in suffixes
            if s.strip(".")
        )
    ]
    listed = [r for r in resolv if any(not in_cluster(s) for s in r.search if s.strip("."))]
    pinged = [p for p in view.of(Ping) if p.ok and p.target]
    right = [k for k in lookups if k.tool != "zone" and k.answers and k not in completed and k not in same]
    wrong: list[Record] = [*completed, *same]
    if not wrong and not (zones and (certificates or listed)) and not (foreign and listed):
        return
    suffix = (
        next((s for r in listed for s in r.search if not in_cluster(s)), "")
        or next((k.qname.removeprefix("*").strip(".") for k in zones), "")
        or "the zone"
    )
    yield Hypothesis(
        subject=f"search domain {suffix}",
        title=f"A search domain with a wildcard record ({suffix}) completes every name and answers with its own address.",
        checks=(
            shown("names outside the cluster get the answer of a wildcard in a search domain", [*wrong, *zones, *foreign], weight=1.5, required=True, decide="nslookup github.com; nslookup github.com."),
            shown("the name is answered with a suffix behind it, or unrelated names have one address", wrong, weight=1.0),
            shown("a zone has a wildcard record", zones, weight=0.7, decide=f"dig +short no-such-name.{suffix}"),
            shown("TLS shows a certificate of another host", certificates, weight=0.7),
            shown("a domain that is not the cluster's stands in the search list", listed, weight=0.5, decide="kubectl exec POD -- cat /etc/resolv.conf"),
            judged("asked absolutely, or on the node, the name has another address", True if (right or pinged) and (wrong or zones) else None, [*right, *pinged], weight=0.3),
        ),
        explains=("calls to unrelated outside names reach one and the same host",),
        fixes=(
            Fix(title="Fewer names completed", artifact="spec:\n  dnsConfig:\n    options:\n    - name: ndots\n      value: \"1\"\n", changed=("short Service names with a namespace still resolve; names with a dot are asked as they are first",)),
            Fix(title="Take the domain out of the pods' search list", artifact="# /var/lib/kubelet/config.yaml, with a file that does not list it\nresolvConf: /etc/resolv-pods.conf\n"),
        ),
        prior=-1.2,
    )  # fmt: skip


def _completed(lookup: DnsLookup, resolv: list[ResolvConf]) -> bool:
    """Whether the answer's name is the asked one with a foreign suffix behind it."""
    suffixes = [s for r in resolv for s in r.search]
    for answer in lookup.answers:
        if answer.type not in ("A", "AAAA") or in_cluster(answer.name) or not answer.name:
            continue
        if "." not in lookup.qname and answer.name.startswith(f"{lookup.qname}.") and lookup.qname:
            continue  # a bare name is completed with what the list is for
        base = base_of(answer.name, suffixes, [lookup.qname] if lookup.qname and "." in lookup.qname else [])
        if base != answer.name and "." in base and not any(a.type == "CNAME" for a in lookup.answers):
            return True
    return False


def _hit(view: View, base: str) -> bool:
    return any(q.qname == base and q.rcode == "NOERROR" for q in view.of(DnsQuery))


def _one_address(lookups: list[DnsLookup]) -> list[DnsLookup]:
    """Lookups of unrelated outside names that all got one address."""
    by: dict[str, dict[str, DnsLookup]] = {}
    for lookup in lookups:
        if (
            lookup.tool != "zone"
            and lookup.qname.count(".") >= 1
            and not in_cluster(lookup.qname)
            and len(lookup.addresses) == 1
        ):
            by.setdefault(lookup.addresses[0], {})[".".join(lookup.qname.split(".")[-2:])] = lookup
    return [k for names in by.values() if len(names) > 1 for k in names.values()]


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="A wildcard record in a search domain answers for every name.",
    inputs=(DnsLookup, ResolvConf, DnsQuery, CapturedPacket, DialFailure, HttpExchange, Ping, Message),
    needs=(DnsLookup, DnsQuery, CapturedPacket, DialFailure, HttpExchange, Ping, Message),
    rivals=(
        "search-domain-nodata-stops-musl",
        "search-domain-refused-stops-search",
        "pod-nameservers-with-different-views",
    ),
    check=check,
)
