"""The combined search list exceeds a limit, and the kubelet or the resolver cuts off its last domains.

What happens
------------
The kubelet puts three cluster domains before the host's. Beyond 6 domains or 256 characters (32 and 2048 with expanded
DNS configuration) it applies the first ones and reports an event; glibc before 2.26 cuts after 6 by itself.

How to tell it from its neighbours
----------------------------------
The event concerns search domains and prints the applied line; one about nameservers is another matter. Short names of a
domain that was cut fail, and their full names resolve.

Fix
---
Shorten the host's search list, or enable the expanded DNS configuration.

References
----------
Kubernetes, DNS for Services and Pods (DNS search domain list limits); pkg/kubelet/network/dns/dns.go; glibc 2.26 NEWS.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import DnsLookup, ResolvConf
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.kube import Event
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.search import in_cluster

SLUG = "search-list-truncated-by-kubelet-limit"
LIMIT = 6


def check(view: View) -> Iterator[Hypothesis]:
    told: list[Record] = [m for m in view.of(Message) if m.kind == "search-limit"]
    told += [
        e
        for e in view.of(Event)
        if e.reason in ("DNSConfigForming", "CheckLimitsForResolvConf") and "search" in e.message.lower()
    ]
    long = [
        r
        for r in view.of(ResolvConf)
        if len(r.search) > LIMIT
        or (len(r.search) > 3 and not any(in_cluster(s) for s in r.search))
        or sum(len(s) + 1 for s in r.search) > 256
    ]
    failed: list[DnsLookup | DialFailure] = [
        *(k for k in view.of(DnsLookup) if k.failed and k.qname and not in_cluster(k.qname)),
        *(
            d
            for d in view.of(DialFailure)
            if d.error in ("no-such-host", "lookup-failed") and not in_cluster(d.host)
        ),
    ]
    short = [r for r in failed if (r.qname if isinstance(r, DnsLookup) else r.host).count(".") <= 1]
    full = [
        k
        for k in view.of(DnsLookup)
        if k.status == "NOERROR" and k.qname.count(".") > 1 and not in_cluster(k.qname)
    ]
    pods = [r for r in view.of(ResolvConf) if any(in_cluster(s) for s in r.search)]
    cut = [
        r
        for r in pods
        for host in view.of(ResolvConf)
        if host not in pods and len(host.search) > 1
        and r.search[-1] in host.search and set(host.search[: host.search.index(r.search[-1]) + 1]) <= set(r.search)
        and host.search[-1] not in r.search
    ]  # fmt: skip
    if not told and not (long and short) and not cut:
        return
    yield Hypothesis(
        subject="the pods' search list",
        title="The combined search list is too long, and its last domains are cut off.",
        checks=(
            judged("search domains were omitted, or stand behind the limit", True if told or (long and short) or cut else None, [*told, *(long if short else []), *cut], weight=2.0 if told or cut else 1.2, required=True, decide="kubectl describe pod POD | grep DNSConfigForming"),
            shown("names of a domain that was cut do not resolve", failed, weight=0.8, decide="kubectl exec POD -- getent hosts SHORT-NAME"),
            shown("their full names resolve", full, weight=0.6, decide="kubectl exec POD -- getent hosts FULL-NAME"),
            shown("the host lists that many domains", long, weight=0.4, decide="grep ^search /etc/resolv.conf"),
        ),
        explains=("short names of the site's own domains fail in pods and work on nodes",),
        fixes=(
            Fix(title="A shorter search list for pods", artifact="# /var/lib/kubelet/config.yaml, with a file that lists at most three domains\nresolvConf: /etc/resolv-pods.conf\n"),
            Fix(title="Allow longer lists", artifact="# kubelet and kube-apiserver up to 1.27\n--feature-gates=ExpandedDNSConfig=true\n", note="On by default from Kubernetes 1.26; containers' resolvers must support it."),
        ),
        prior=-0.9,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="The search list is longer than the kubelet or the resolver allows, and its last domains are cut off.",
    inputs=(Message, Event, ResolvConf, DnsLookup, DialFailure),
    needs=(Message, Event, ResolvConf),
    rivals=("benign-nameserver-limit-warning", "hostnetwork-pod-uses-node-resolver"),
    check=check,
)
