"""The pod lists nameservers with different views, and the resolver takes whichever answer comes first.

What happens
------------
A resolv.conf is a list of equal servers. musl asks all of them at once and takes the first answer; glibc goes to the
next only when one does not answer, ``rotate`` takes turns. Where cluster DNS and an outside resolver stand side by side,
the outside one says that cluster names do not exist.

How to tell it from its neighbours
----------------------------------
Asked one by one, the pod's own nameservers disagree on a name. Where the disagreement is in the upstream list of cluster
DNS, the pod lists one server only. With equal servers a second one is harmless.

Fix
---
List only cluster DNS in pods, and forward private zones there.

References
----------
musl wiki, Functional differences from glibc, Name Resolver/DNS; resolv.conf(5); Kubernetes pod ``dnsConfig``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deadhop.hops.dns.upstreams import serves
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import CorefileText, DnsLookup, ResolvConf
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.kube import KubeObject, Pod, Service, Workload
from deadhop.model.observed.node import Ping
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.shell import Attempt
from deadhop.model.record import Record
from deadhop.snapshot.libc import on_musl
from deadhop.snapshot.search import in_cluster
from deadhop.snapshot.tracked import looks_like_service

SLUG = "pod-nameservers-with-different-views"
NEGATIVE = ("NXDOMAIN", "REFUSED")


def check(view: View) -> Iterator[Hypothesis]:
    cluster = {
        s.cluster_ip
        for s in view.of(Service)
        if s.name in ("kube-dns", "coredns", "dns-default") and s.cluster_ip
    }
    lists: list[tuple[Record, tuple[str, ...]]] = [
        (r, r.nameservers)
        for r in view.of(ResolvConf)
        if len(set(r.nameservers)) > 1
        and (
            any(in_cluster(s) for s in r.search)
            or set(r.nameservers) & cluster
            or (on_musl(_failing(view)) and not view.of(CorefileText))
        )
    ]
    for obj in (*view.of(Pod), *view.of(Workload)):
        servers = _dns_config(obj)
        if len(set(servers)) > 1:
            lists.append((obj, servers))
    lookups = view.of(DnsLookup)
    split, sides = _asked_at_once(view.of(CapturedPacket))
    if split and not lists:
        lists.append((split[0], sides))
    apart = [
        k
        for k in lookups
        if k.server
        and k.status in NEGATIVE
        and any(o.qname == k.qname and o.server not in ("", k.server) and o.answers for o in lookups)
    ]
    if (
        apart
        and not lists
        and not view.of(CorefileText)
        and not view.of(ResolvConf)
        and in_cluster(apart[0].qname)
        and not any(_node_local(k.server) for k in apart)
    ):
        lists.append((apart[0], tuple(dict.fromkeys(k.server for k in lookups if k.qname == apart[0].qname))))
    failing = _failing(view)
    musl = on_musl([*failing, *view.of(Pod), *view.of(Workload)])
    for record, servers in lists:
        asked = [k for k in lookups if k.server in servers]
        bad = [
            k
            for k in asked
            if k.status in NEGATIVE
            and any(o.qname == k.qname and o.server != k.server and o.answers for o in asked)
        ]
        good = [
            k
            for k in asked
            if k.answers
            and any(o.qname == k.qname and o.server != k.server and o.status in NEGATIVE for o in asked)
        ]
        own = {a for a in servers if a in cluster or looks_like_service(a, 53)}
        unlike = len({serves(a) for a in servers}) > 1 or (bool(own) and bool(set(servers) - own))
        yield Hypothesis(
            subject=f"{'servers asked one by one' if isinstance(record, DnsLookup) else 'nameservers'} {' '.join(servers)}",
            title=f"The pod asks nameservers that do not know the same names: {', '.join(servers)}.",
            checks=(
                judged("a pod lists several nameservers", True, [record], weight=0.5, required=True),
                judged("they cannot know the same names: cluster DNS and an outside resolver, or they disagree" if unlike else "they disagree on a name", True if unlike or bad or split else None, [record, *bad, *split], weight=1.1, required=True, decide=f"for s in {' '.join(servers)}; do nslookup kubernetes.default.svc.cluster.local $s; done"),
                shown("asked one by one, or at once, one says that a name does not exist which another resolves", [*bad, *good, *split], weight=1.8),
                shown("lookups fail", failing, weight=0.6),
                shown("the resolver asks all servers at once (musl)", musl, weight=0.4),
            ),
            explains=("names fail at random, most of all on images with musl",),
            fixes=(Fix(title="Cluster DNS alone", artifact=f"spec:\n  dnsPolicy: ClusterFirst\n# and in the Corefile, for what {servers[-1]} was there for:\n# corp.example:53 {{\n#     forward . {servers[-1]}\n# }}\n", changed=("every lookup of the pod goes to cluster DNS",)),),
            prior=-1.2,
        )  # fmt: skip


def _node_local(server: str) -> bool:
    """Whether a server is the cluster's cache on each node: it knows the same names, and may hold an older answer."""
    return server.startswith("169.254.")


def _failing(view: View) -> list[Record]:
    return [
        *(d for d in view.of(DialFailure) if d.error in ("no-such-host", "lookup-failed")),
        *(p for p in view.of(Ping) if p.error == "unresolved"),
        *(a for a in view.of(Attempt) if not a.ok),
    ]


def _asked_at_once(packets: list[CapturedPacket]) -> tuple[list[Record], tuple[str, ...]]:
    """Answers that disagree to one query that was sent to several servers from one port, and those servers."""
    answers: dict[tuple[str, int | None, int | None], list[CapturedPacket]] = {}
    for p in packets:
        if p.dns and p.dns.response and p.sport == 53:
            answers.setdefault((p.dst, p.dport, p.dns.id), []).append(p)
    for rows in answers.values():
        told = {p.dns.rcode for p in rows if p.dns}
        if len({p.src for p in rows}) > 1 and "NOERROR" in told and told & set(NEGATIVE):
            return list(rows), tuple(dict.fromkeys(p.src for p in rows))
    return [], ()


def _dns_config(obj: KubeObject) -> tuple[str, ...]:
    template: Any = obj.spec.get("template")
    spec = template.get("spec") if isinstance(template, dict) else obj.spec
    config = spec.get("dnsConfig") if isinstance(spec, dict) else None
    servers = config.get("nameservers") if isinstance(config, dict) else None
    return tuple(str(s) for s in servers) if isinstance(servers, list) else ()


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="The pod lists nameservers that do not know the same names.",
    inputs=(
        Service,
        ResolvConf,
        Pod,
        Workload,
        DnsLookup,
        DialFailure,
        Ping,
        Attempt,
        CorefileText,
        CapturedPacket,
    ),
    needs=(ResolvConf, Pod, Workload, DnsLookup, CapturedPacket),
    rivals=(
        "dns-forward-mixes-unequal-upstreams",
        "benign-nameserver-limit-warning",
        "search-domain-refused-stops-search",
    ),
    check=check,
)
