"""Cluster DNS forwards to a resolver at a link-local address of its host, and the reply does not come back to the pod.

What happens
------------
The host runs a resolver at 169.254.… for its pods. With BPF host routing, or BPF masquerading, the reply from an address
that lives on the host itself bypasses the path that would take it back into the pod: the resolver answers, the DNS pod
times out.

How to tell it from its neighbours
----------------------------------
The timeouts name a link-local upstream, and the CNI routes in BPF; a routable upstream works from the same pod. A
provider's resolver at such an address, without BPF routing, points to its rate limit or to a metadata block instead.

Fix
---
Use legacy host routing for that path, or do not forward cluster DNS to the host's resolver.

References
----------
Cilium Helm ``bpf.hostLegacyRouting``; Talos ``machine.features.hostDNS.forwardKubeDNSToHost``.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.evidence.fields import host_port
from deadhop.hops.dns.upstreams import NODE_RESOLVERS, forwards, kind, upstreams
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.net import Address
from deadhop.model.observed.dns import CorefileText, DnsLookup, DnsQuery, DnsServerError, ResolvConf
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.message import Message
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.record import Record
from deadhop.snapshot.search import in_cluster

SLUG = "linklocal-host-dns-replies-lost-with-bpf-host-routing"
TALOS = "169.254.116.108"
NODE_LOCAL = ("169.254.20.10", "169.254.25.10")
BPF = {
    "bpf.masquerade": "true",
    "enable-bpf-masquerade": "true",
    "bpf.hostLegacyRouting": "false",
    "enable-host-legacy-routing": "false",
    "kubeProxyReplacement": "true",
    "kube-proxy-replacement": "true",
}


def check(view: View) -> Iterator[Hypothesis]:
    lost = [e for e in view.of(DnsServerError) if e.error == "timeout" and _host_address(e.upstream)]
    sent = [
        f
        for f, addresses in upstreams(forwards(view.of(CorefileText)), view.of(ResolvConf))
        if any(_host_address(a) for a in addresses)
    ]
    options = view.of(CiliumOption)
    bpf = [
        o
        for o in options
        if BPF.get(o.key) == o.value.lower() or (o.key == "kubeProxyReplacement" and o.value == "strict")
    ]
    legacy = [
        o
        for o in options
        if o.key in ("bpf.hostLegacyRouting", "enable-host-legacy-routing") and o.value.lower() == "true"
    ]
    talos = [
        *(o for o in options if o.key.endswith("forwardKubeDNSToHost") and o.value.lower() == "true"),
        *(e for e in lost if e.upstream.startswith(TALOS)),
    ]
    other = [
        e
        for e in view.of(DnsServerError)
        if e.error == "timeout"
        and kind(e.upstream) in ("private", "public")
        and not _host_address(e.upstream)
    ]
    unanswered: list[Record] = [
        k for k in view.of(DnsLookup) if k.status in ("TIMEOUT", "SERVFAIL") and not in_cluster(k.qname)
    ]
    unanswered += [
        d
        for d in view.of(DialFailure)
        if d.error in ("lookup-timeout", "lookup-failed") and not in_cluster(d.host)
    ]
    upstream = {host_port(e.upstream)[0] for e in lost}
    own: list[Record] = [a for a in view.of(Address) if a.local in upstream]
    own += [m for m in view.of(Message) if m.kind == "listening" and m.field("address") in upstream]
    heard = _heard(lost, view.of(DnsQuery), view.of(CapturedPacket))
    routable = [
        k for k in view.of(DnsLookup) if k.answers and lost and kind(k.server) in ("private", "public")
    ]
    indirect = unanswered if talos and bpf else []
    if not lost and not (sent and (bpf or talos)) and not indirect:
        return
    address = next((e.upstream for e in lost), "") or next(
        (a for f in sent for a in f.addresses if _host_address(a)), "the host's resolver"
    )
    yield Hypothesis(
        subject=f"upstream {address}",
        title=f"Replies of the host's resolver at {address} do not come back to the DNS pod.",
        checks=(
            shown("queries to a link-local upstream on the host time out", [*lost, *indirect], weight=1.2 if lost else 0.6, required=True, decide="kubectl -n kube-system logs -l k8s-app=kube-dns | grep 169.254"),
            shown("that address is the host's own resolver", [*talos, *own], weight=1.2, decide="kubectl -n kube-system get configmap coredns -o yaml"),
            shown("the CNI routes or masquerades in BPF", bpf, weight=1.0, decide="cilium-dbg status --verbose | grep -i -E 'host routing|masquerading'"),
            shown("the host's resolver has answered the DNS pod", heard, weight=1.0),
            shown("a routable server answers", routable if bpf or heard else [], weight=0.3),
            judged("legacy host routing is not already in use", False if legacy else None, legacy, weight=1.5, required=bool(legacy)),
            judged("no routable upstream times out as well", False if other else None, other, weight=1.2, required=bool(other)),
        ),
        explains=("the node's resolver logs the answer, the DNS pod a timeout",),
        fixes=(
            Fix(title="Route host traffic in the kernel's stack", artifact="# Cilium Helm values\nbpf:\n  hostLegacyRouting: true\n", changed=("packets between pods and the host pass iptables and the routing table again",)),
            Fix(title="Do not forward cluster DNS to the host", artifact="machine:\n  features:\n    hostDNS:\n      enabled: true\n      forwardKubeDNSToHost: false\n"),
        ),
        prior=-1.5,
    )  # fmt: skip


def _heard(
    lost: list[DnsServerError], queries: list[DnsQuery], packets: list[CapturedPacket]
) -> list[Record]:
    """Answers of the host's resolver to the DNS pod for the names that this lost, by the resolver's log or on the wire."""
    asked = {(host_port(e.local)[0], e.qname) for e in lost if e.local}
    names = {q for _c, q in asked}
    sent = {(host_port(e.upstream)[0], host_port(e.local)[0]) for e in lost}
    found: list[Record] = [q for q in queries if q.rcode and (q.client, q.qname) in asked]
    found += [p for p in packets if p.dns and p.dns.response and (p.src, p.dst) in sent and (p.dns.qname in names or not p.dns.qname)]  # fmt: skip
    return found


def _host_address(address: str) -> bool:
    host = address.rpartition(":")[0] or address
    return (
        kind(host) == "link-local"
        and host not in NODE_LOCAL
        and (host == TALOS or host not in NODE_RESOLVERS)
    )


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="Replies of a link-local resolver on the host are lost on their way to the DNS pod.",
    inputs=(
        DnsServerError,
        CorefileText,
        ResolvConf,
        CiliumOption,
        DnsLookup,
        DialFailure,
        Address,
        Message,
        DnsQuery,
        CapturedPacket,
    ),
    needs=(DnsServerError, CorefileText, CiliumOption),
    rivals=(
        "loopback-upstream-inherited-from-host",
        "dns-server-unreachable",
        "benign-loop-plugin-hinfo-timeout",
    ),
    check=check,
)
