"""Cluster DNS inherits a loopback upstream from its node, and inside the pod nothing answers there.

What happens
------------
The node's resolv.conf names 127.0.0.1, 127.0.1.1 (NetworkManager's dnsmasq) or 127.0.0.53, where a stub listens on the
node. The DNS pod gets the same file; in its network namespace that address is empty. Cluster names resolve, everything
that is forwarded times out or is refused.

How to tell it from its neighbours
----------------------------------
The failing upstream is in 127.0.0.0/8 and the source of the query is the pod's own. If the loop detector speaks up, the
pod does listen there and talks to itself. An upstream at a routable address that does not answer is another fault.

Fix
---
Give the DNS pod a resolv.conf with routable upstreams, or name the forwarders in its configuration.

References
----------
Kubernetes, Debugging DNS Resolution, known issues; kubelet ``resolvConf``.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.hops.dns.upstreams import forwards, kind, upstreams
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import CorefileText, DnsLookup, DnsServerError, ResolvConf
from deadhop.model.observed.http import DialFailure
from deadhop.snapshot.search import in_cluster

SLUG = "loopback-upstream-inherited-from-host"
FAILED = ("timeout", "refused", "unreachable", "no-servers", "lookup-timeout", "lookup-failed")


def check(view: View) -> Iterator[Hypothesis]:
    errors = view.of(DnsServerError)
    loops = [e for e in errors if e.error == "loop" and e.qtype == "HINFO"]
    lost = [e for e in errors if kind(e.upstream) == "loopback" and e.error in FAILED]
    dials = [
        d
        for d in view.of(DialFailure)
        if (kind(d.resolver) == "loopback" and "refused" in d.text)
        or (d.proto == "udp" and d.port == 53 and kind(d.ip) == "loopback" and d.error in FAILED)
    ]
    foreign = [d for d in dials if _outer_source(d.text)]
    files = [r for r in view.of(ResolvConf) if any(kind(a) == "loopback" for a in r.nameservers)]
    sent = [
        f
        for f, addresses in upstreams(forwards(view.of(CorefileText)), view.of(ResolvConf))
        if any(kind(a) == "loopback" for a in addresses)
    ]
    cluster = [
        k
        for k in view.of(DnsLookup)
        if k.status == "NOERROR" and (in_cluster(k.qname) or k.qname.startswith("kubernetes"))
    ]
    outside = [
        k
        for k in view.of(DnsLookup)
        if k.status in ("SERVFAIL", "TIMEOUT", "REFUSED", "NXDOMAIN") and not in_cluster(k.last or k.qname)
    ]
    split = outside if cluster and outside and (files or sent) else []
    if not lost and not dials and not split and not (files and loops):
        return
    address = next((e.upstream for e in lost), "") or next(
        (a for r in files for a in r.nameservers if kind(a) == "loopback"), "127.0.0.0/8"
    )
    yield Hypothesis(
        subject=f"upstream {address}",
        title=f"Cluster DNS forwards to {address}, a loopback address where nothing answers inside the pod.",
        checks=(
            shown("queries that are forwarded to a loopback address get no answer", [*lost, *dials, *split], weight=2.0 if lost else 1.3, required=True, decide="kubectl -n kube-system logs -l k8s-app=kube-dns --tail=100"),
            judged("no loop is reported", False if loops else None, loops, weight=1.0, required=bool(loops)),
            judged("the query's source is a loopback address, or not said", False if foreign and not lost else None, foreign, weight=1.0, required=bool(foreign) and not lost),
            shown("a resolv.conf names a loopback address", files, weight=0.9, decide="kubectl -n kube-system exec POD -- cat /etc/resolv.conf"),
            shown("the Corefile forwards to it", [f.record for f in sent], weight=0.4),
            shown("names of the cluster resolve", cluster, weight=0.3),
        ),
        explains=("names of the cluster resolve and all others do not",),
        fixes=(
            Fix(title="Give pods the resolv.conf with the real upstreams", artifact="# /var/lib/kubelet/config.yaml\nresolvConf: /run/systemd/resolve/resolv.conf   # or a file of your own with routable nameservers\n"),
            Fix(title="Name the forwarders", artifact="# ConfigMap kube-system/coredns, key Corefile\nforward . 192.0.2.53 192.0.2.54\n", note="Put your own resolvers there."),
        ),
        prior=-1.1,
    )  # fmt: skip


def _outer_source(text: str) -> bool:
    """Whether a Go error names a source that is not a loopback address."""
    source = text.rpartition("udp ")[2].partition("->")[0] if "->" in text else ""
    return bool(source) and kind(source) not in ("loopback", "")


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="Cluster DNS inherits a loopback upstream from the node; nothing answers there inside the pod.",
    inputs=(DnsServerError, DialFailure, ResolvConf, CorefileText, DnsLookup),
    needs=(DnsServerError, DialFailure, ResolvConf, CorefileText),
    rivals=(
        "dns-forward-loop-stub-resolver",
        "loopback-masquerade-breaks-stub-resolver",
        "dns-server-unreachable",
    ),
    check=check,
)
