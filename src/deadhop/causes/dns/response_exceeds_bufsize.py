"""The DNS server sends a UDP answer that is larger than the client announced, and the client cannot parse it.

What happens
------------
A client without EDNS takes 512 bytes by UDP, one with EDNS what it announces. A server, or its cache, that ignores this
sends more without setting TC. The client reads a part of the answer and reports a parse error.

How to tell it from its neighbours
----------------------------------
The answer on the wire is larger than the query allowed, or the client complains about the message and not about time.
The size in CoreDNS' log is counted before compression, so it counts only where even the compressed answer is too large.
Where the server logs an overflow while unpacking, its upstream is at fault. An answer that is lost times out.

Fix
---
Use a server release that truncates to the client's buffer and sets TC; until then let clients use EDNS or TCP.

References
----------
RFC 1035 section 4.2.1, RFC 6891 section 6.2.3; CoreDNS plugin/log (rsize is Msg.Len before Scrub; 1.12 logged
1562 for an answer of 462 bytes), plugin/bufsize; Go net (512 bytes before EDNS).
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import DnsLookup, DnsQuery, DnsServerError
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.packets import CapturedPacket
from deadhop.snapshot.search import counted

SLUG = "dns-udp-response-exceeds-client-bufsize"
PLAIN = 512


def check(view: View) -> Iterator[Hypothesis]:
    logged = [q for q in view.of(DnsQuery) if _too_large(q)]
    certain = [q for q in logged if counted(q) is not None]
    large = _captured(view.of(CapturedPacket))
    unread = [
        *(k for k in view.of(DnsLookup) if k.status == "PARSE-ERROR"),
        *(d for d in view.of(DialFailure) if d.error == "lookup-parse"),
    ]
    overflow = [e for e in view.of(DnsServerError) if e.error == "overflow"]
    if not large and not unread and not logged:
        return
    name = next((k.qname for k in view.of(DnsLookup) if k.status == "PARSE-ERROR"), "") or next(
        (p.dns.qname for p in large if p.dns), next((q.qname for q in logged), "")
    )
    yield Hypothesis(
        subject=name or "UDP answers",
        title=f"The DNS server's UDP answer{' for ' + name if name else ''} is larger than the client takes, without TC.",
        checks=(
            shown("a UDP answer exceeds what its client announced, or a client cannot parse the answer", [*large, *unread, *logged], weight=1.5, required=True, decide="kubectl -n kube-system logs -l k8s-app=kube-dns | grep udp"),
            shown("the answer is larger than the client's buffer even when compressed, and not truncated", [*large, *certain], weight=1.2, decide=f"dig +noedns +ignore {name or 'NAME'}"),
            shown("the client cannot parse it", unread, weight=0.8),
            judged("the server itself can read what it passes on", False if overflow else None, overflow, weight=1.2, required=bool(overflow)),
        ),
        explains=("simple resolvers fail for names with long answers, while dig works",),
        fixes=(Fix(title="A server release that truncates to the client's buffer", artifact="kubectl -n kube-system set image deployment/coredns coredns=registry.k8s.io/coredns/coredns:v1.11.3\n", note="Until then: options use-vc in the pod's dnsConfig, for glibc."),),
        prior=-1.1,
    )  # fmt: skip


def _too_large(query: DnsQuery) -> bool:
    """Whether a logged UDP answer is above the client's buffer even after name compression, and was not truncated.

    The log's size has every owner name in full; compressed, an owner is a pointer of two bytes."""
    data = {"A": 14, "AAAA": 26}.get(query.qtype)
    if query.transport != "udp" or not query.rcode or "tc" in query.flags or data is None:
        return False
    question = query.size or 0
    more = (query.answer_size or 0) - question
    compressed = question + more * (2 + data) / (len(query.qname.rstrip(".")) + 2 + data)
    return compressed > max(PLAIN, query.bufsize or 0)


def _captured(packets: list[CapturedPacket]) -> list[CapturedPacket]:
    """Answers above 512 bytes, not truncated, to a query without EDNS."""
    plain = {
        (p.src, p.sport, p.dns.id) for p in packets if p.dns and not p.dns.response and p.dns.edns is False
    }
    return [
        p
        for p in packets
        if p.dns
        and p.dns.response
        and (p.dns.size or 0) > PLAIN
        and not p.dns.truncated
        and (p.dst, p.dport, p.dns.id) in plain
        and p.proto == "udp"
    ]


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="A UDP answer exceeds the buffer that the client announced, so the client cannot parse it.",
    inputs=(DnsQuery, CapturedPacket, DnsLookup, DialFailure, DnsServerError),
    needs=(DnsQuery, CapturedPacket, DnsLookup, DialFailure),
    rivals=(
        "upstream-dns-oversize-udp-without-tc",
        "path-mtu-drops-df-udp-dns-response",
        "udp-dns-response-fragments-dropped",
    ),
    check=check,
)
