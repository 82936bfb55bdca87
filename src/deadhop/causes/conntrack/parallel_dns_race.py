"""Two DNS queries sent at once from one UDP socket race in connection tracking, and one of them is lost.

What happens
------------
Resolvers send A and AAAA from one socket within microseconds. Both packets make an entry for the same tuple; with several
DNS backends they may be translated to different ones, and the second entry clashes when it is confirmed: its packet is
dropped (``insert_failed``). The client waits for its timeout, 5 s with glibc, and then succeeds.

How to tell it from its neighbours
----------------------------------
Both queries leave from one source port at one moment and one answer comes; lookups take the resolver's timeout longer.
In a full table new flows of all kinds fail. A server that is down answers neither.

Fix
---
A fixed kernel (5.0 and later for most of it), a node-local cache without tracking, or resolver options that send one
query after the other.

References
----------
net/netfilter/nf_conntrack_core.c (__nf_conntrack_confirm, nf_ct_resolve_clash); resolv.conf(5) single-request-reopen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import DnsLookup, DnsQuery, ResolvConf
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.message import Message
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.shell import Elapsed
from deadhop.model.record import Record

SLUG = "conntrack-race-on-parallel-udp-dns"
SAME_MOMENT = 0.002
SOON = 2.0
TIMEOUTS = (2.5, 5.0, 10.0, 15.0)
LOOKUPS = ("namelookup", "nslookup", "dig", "getent", "host")
COUNTERS = ("conntrack_insert_failed", "node_nf_conntrack_stat_insert_failed")


def check(view: View) -> Iterator[Hypothesis]:
    lost = _pairs(view.of(CapturedPacket))
    counted = [c for c in view.of(Counter) if c.value > 0 and c.name in COUNTERS]
    zero = [c for c in view.of(Counter) if c.value == 0 and c.name in COUNTERS]
    stuck = [h for h in view.of(HttpExchange) if h.error == "timeout"]
    slow = [
        e
        for e in view.of(Elapsed)
        if any(0 <= e.seconds - t < 0.8 for t in TIMEOUTS)
        and (e.what in LOOKUPS or (not e.what and not stuck))
    ]
    waited = [d for d in view.of(DialFailure) if d.error == "lookup-timeout"]
    dead = [*(k for k in view.of(DnsLookup) if k.status in ("TIMEOUT", "UNREACHABLE"))]
    good = [
        *(k for k in view.of(DnsLookup) if k.answers),
        *(q for q in view.of(DnsQuery) if q.rcode == "NOERROR" and (q.duration or 0) < 1),
    ]
    drops = _drops(view.of(Counter))
    full = [m for m in view.of(Message) if m.kind == "nf-conntrack-table-full"]
    serial = [
        r for r in view.of(ResolvConf) if any(o.startswith(("single-request", "use-vc")) for o in r.options)
    ]
    symptoms: list[Record] = [*slow, *waited, *(dead if good else [])]
    if not lost and not counted and not slow:
        return
    yield Hypothesis(
        subject="UDP lookups from one socket",
        title="Parallel A and AAAA queries of one socket race in connection tracking, and one of them is lost.",
        checks=(
            shown("two queries of one socket leave at one moment and only one is answered, or entries fail to be inserted, or a lookup takes exactly the resolver's timeout", [*lost, *counted, *slow], weight=1.0, required=True, decide="conntrack -S | grep -o 'insert_failed=[0-9]*'"),
            shown("two queries left at one moment and one got no answer", lost, weight=1.1, decide="tcpdump -ni any udp port 53"),
            judged("conntrack counts entries that it could not insert", True if counted else (False if zero else None), counted or zero, weight=0.9),
            shown("lookups take the resolver's timeout, or time out now and then", symptoms, weight=0.7, decide="for i in $(seq 50); do curl -so /dev/null -w '%{time_namelookup}\\n' http://NAME/; done"),
            judged("the resolver sends its queries in parallel", False if serial else None, serial, weight=0.8),
            judged("the table is not full", False if full else None, full, weight=1.5, required=bool(full)),
            judged("packets are dropped because their entry came too late, not because none could be made", False if drops else None, drops, weight=2.0, required=bool(drops)),
        ),
        explains=("now and then a lookup takes exactly 5 s longer",),
        fixes=(
            Fix(title="One query after the other", artifact="spec:\n  dnsConfig:\n    options:\n    - name: single-request-reopen\n", note="glibc only; musl has no such option."),
            Fix(title="A node-local cache, whose queries are not tracked", artifact="# NodeLocal DNSCache\nkubectl apply -f nodelocaldns.yaml\n"),
        ),
        prior=-1.2,
    )  # fmt: skip


def _drops(counters: list[Counter]) -> list[Counter]:
    """Drops that outnumber failed insertions by far: every failed insertion is one (nf_conntrack_core.c), the others are
    entries that could not be made."""
    failed = sum(c.value for c in counters if c.name in COUNTERS)
    drops = [c for c in counters if c.name in ("conntrack_drop", "node_nf_conntrack_stat_drop")]
    return drops if sum(c.value for c in drops) > 20 * (failed + 50) else []


def _pairs(packets: list[CapturedPacket]) -> list[Record]:
    """A and AAAA queries for one name from one port at one moment of which just one was answered."""
    answered: dict[tuple[str, int | None, int | None], float] = {}
    for p in packets:
        if p.dns and p.dns.response and p.time is not None:
            answered.setdefault((p.dst, p.dport, p.dns.id), p.time)
    last: dict[tuple[str, int | None, str], CapturedPacket] = {}
    lost: list[Record] = []
    for packet in packets:
        if not packet.dns or packet.dns.response or packet.time is None or packet.proto == "tcp":
            continue
        key = (packet.src, packet.sport, packet.dns.qname)
        other = last.get(key)
        if (
            other
            and other.dns
            and other.dns.qtype != packet.dns.qtype
            and abs((other.time or 0) - packet.time) <= SAME_MOMENT
        ):
            got = [
                answered.get((p.src, p.sport, p.dns.id), math.inf) - packet.time < SOON
                for p in (other, packet)
                if p.dns
            ]
            if got.count(True) == 1:
                lost += [other, packet]
        last[key] = packet
    return lost


CAUSE = Cause(
    slug=SLUG,
    family="conntrack",
    title="Parallel DNS queries of one UDP socket race in connection tracking, and one is lost.",
    inputs=(
        CapturedPacket,
        Counter,
        Elapsed,
        DialFailure,
        DnsLookup,
        DnsQuery,
        Message,
        ResolvConf,
        HttpExchange,
    ),
    needs=(CapturedPacket, Counter, Elapsed),
    rivals=(
        "conntrack-table-full",
        "dns-server-unreachable",
        "path-mtu-drops-df-udp-dns-response",
        "stale-udp-conntrack-to-removed-endpoint",
    ),
    check=check,
)
