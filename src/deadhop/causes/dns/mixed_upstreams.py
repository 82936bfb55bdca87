"""Cluster DNS forwards to several upstreams that do not serve the same zones.

What happens
------------
``forward`` picks one upstream per query and takes its answer as final, NXDOMAIN and REFUSED included. Where a private
and a public resolver stand in one list, a private name resolves only when the private one is picked.

How to tell it from its neighbours
----------------------------------
Each upstream answers, so it is no outage, and the same name fails and resolves in turn. The list is the forwarder's;
where the pod itself lists both resolvers, it is the pod's file. A forward that never gets its turn fails always.

Fix
---
Give the private zone its own server block, or forward only to upstreams that serve the same data.

References
----------
CoreDNS plugin/forward: policy, and that failover follows errors of transport, not answers; dnsmasq ``--all-servers``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.hops.dns.upstreams import forwards, kind, serves, upstreams
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import CorefileText, DnsLookup, DnsQuery, ResolvConf
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.kube import ConfigMap
from deadhop.model.record import Record
from deadhop.snapshot.search import in_cluster

SLUG = "dns-forward-mixes-unequal-upstreams"
NEGATIVE = ("NXDOMAIN", "REFUSED", "SERVFAIL")


def check(view: View) -> Iterator[Hypothesis]:
    files = [r for r in view.of(ResolvConf) if not _pods(r)]
    found = upstreams(forwards(view.of(CorefileText)), files)
    changing, good = _changing([*view.of(DnsQuery), *view.of(DnsLookup)])
    unresolved = [d for d in view.of(DialFailure) if d.error == "no-such-host" and not in_cluster(d.host)]
    lists: list[tuple[str, tuple[str, ...], list[Record]]] = [
        (f.zone, addresses, [f.record, *(r for r in files if f.reads_file and r.nameservers)])
        for f, addresses in found
    ]
    lists += [(".", servers, [m]) for m in view.of(ConfigMap) if (servers := _kube_dns(m))]
    for zone, addresses, cited in lists:
        unique = tuple(dict.fromkeys(addresses))
        if len(unique) < 2:
            continue
        kinds = {serves(a) for a in unique}
        mixed = len(kinds) > 1
        apart = _disagree(view.of(DnsLookup), unique)
        if not mixed and not apart and not changing:
            continue
        own = zone if zone != "." else "corp.example"
        yield Hypothesis(
            subject=f"forward {zone} {' '.join(unique)}",
            title=f"Cluster DNS spreads its queries over upstreams that do not serve the same zones: {', '.join(unique)}.",
            checks=(
                judged("one forward lists several upstreams", True, cited, weight=0.6, required=True),
                judged("they cannot hold the same data: private and public ones stand side by side" if mixed else "they give different answers", True if mixed or apart or changing else None, [*cited, *apart, *changing], weight=1.4, required=True),
                shown("asked one by one, they disagree on a name", apart, weight=1.6, decide=f"for s in {' '.join(unique)}; do dig +short NAME @$s; done"),
                shown("the same name fails and resolves in turn", [*changing, *good], weight=1.2, decide="for i in 1 2 3 4 5 6; do dig +short NAME; done"),
                shown("a name is told not to exist", unresolved, weight=0.4),
            ),
            explains=("private names resolve only on some attempts, in proportion to the upstreams",),
            fixes=(Fix(title="A server block for the private zone", artifact=f"{own}:53 {{\n    errors\n    cache 30\n    forward . {next((a for a in unique if kind(a) == 'private'), unique[0])}\n}}\n", changed=("names below that zone are asked of the private resolver alone",)),),
            prior=-1.2,
        )  # fmt: skip


def _kube_dns(config: ConfigMap) -> tuple[str, ...]:
    """The ``upstreamNameservers`` of kube-dns's ConfigMap, a JSON list in a string."""
    data = config.raw.get("data")
    text = data.get("upstreamNameservers") if isinstance(data, dict) else None
    return tuple(re.findall(r"[\da-fA-F.:]{7,}", text)) if isinstance(text, str) else ()


def _pods(resolv: ResolvConf) -> bool:
    """Whether a resolv.conf is a pod's: it has the cluster's search domains."""
    return any(".svc." in f".{s}." for s in resolv.search)


def _changing(records: list[DnsQuery | DnsLookup]) -> tuple[list[Record], list[Record]]:
    """Records of names outside the cluster that were both denied and answered, type by type."""
    bad: dict[tuple[str, str], list[Record]] = {}
    good: dict[tuple[str, str], list[Record]] = {}
    for r in records:
        if r.qname and not in_cluster(r.qname) and not (isinstance(r, DnsLookup) and r.server):
            rcode = r.rcode if isinstance(r, DnsQuery) else r.status
            if rcode in NEGATIVE:
                bad.setdefault((r.qname, r.qtype), []).append(r)
            elif rcode == "NOERROR":
                good.setdefault((r.qname, r.qtype), []).append(r)
    both = [key for key in bad if key in good]
    return [r for k in both for r in bad[k]], [r for k in both for r in good[k]]


def _disagree(lookups: list[DnsLookup], addresses: tuple[str, ...]) -> list[DnsLookup]:
    asked = [k for k in lookups if k.server in addresses]
    return [
        k
        for k in asked
        if any(
            o.qname == k.qname and o.server != k.server and (o.status in NEGATIVE) != (k.status in NEGATIVE)
            for o in asked
        )
    ]


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="Cluster DNS forwards to upstreams that do not serve the same zones.",
    inputs=(CorefileText, ResolvConf, DnsQuery, DnsLookup, DialFailure, ConfigMap),
    needs=(CorefileText, ConfigMap),
    rivals=(
        "pod-nameservers-with-different-views",
        "catch-all-forward-shadows-zone-forward",
        "dns-server-unreachable",
    ),
    check=check,
)
