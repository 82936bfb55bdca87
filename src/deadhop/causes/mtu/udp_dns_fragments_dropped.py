"""A large UDP DNS answer leaves as fragments, and the later ones are dropped on the way.

What happens
------------
The answer does not fit the MTU and is sent (or cut on the way) in IP fragments. The first carries the ports, the others
do not: NAT, a policy engine or a filter that needs ports cannot attribute them and drops them. The receiver waits for
the rest, gives up after its reassembly timer and may say so with ICMP time exceeded in reassembly.

How to tell it from its neighbours
----------------------------------
There are fragments on the wire. A packet with DF that was too big never produces any; it produces fragmentation needed.
Names with few records resolve, names with many time out, TCP works.

Fix
---
Keep UDP answers below the fragmentation limit (EDNS size 1232), or enable fragment tracking in the datapath.

References
----------
RFC 791 §2.3; RFC 792 type 11 code 1; RFC 8900; Cilium enable-ipv4-fragment-tracking.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.dns import DnsLookup
from deadhop.model.observed.firewall import FirewallRule
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.packets import CapturedPacket, SkbTrace
from deadhop.model.observed.policy import CiliumEvent
from deadhop.model.record import Record

SLUG = "udp-dns-response-fragments-dropped"
WHOLE = frozenset({"ip_forward", "ip_output", "udp_rcv"})


def check(view: View) -> Iterator[Hypothesis]:
    packets = view.of(CapturedPacket)
    fragments = [p for p in packets if p.more_fragments or p.fragment_offset]
    dropped = [e for e in view.of(CiliumEvent) if e.verdict == "DROPPED" and "ragment" in e.reason]
    gaveup = [p for p in packets if p.icmp and p.icmp.type == 11 and p.icmp.code == 1]
    counted = [
        c
        for c in view.of(Counter)
        if c.name.lower() in ("ipreasmfails", "reasmfails", "ip.reasmfails") and c.value > 0
    ]
    ruled: list[Record] = [r for r in view.of(FirewallRule) if r.verdict in ("drop", "reject") and "frag-off" in r.text and r.packets]  # fmt: skip
    ruled += [t for t in view.of(IptablesTable) for r in t.rules if "-f" in r.args and r.target in ("DROP", "REJECT") and r.packets]  # fmt: skip
    whole = [
        t
        for t in view.of(SkbTrace)
        if any(s.func in ("__icmp_send", "icmp_send") for s in t.steps)
        and any(s.func in WHOLE and s.len and s.mtu and s.len > s.mtu for s in t.steps)
    ]
    too_big = [p for p in packets if p.icmp and p.icmp.too_big]
    lost = [r for r in view.of(DnsLookup) if r.status == "TIMEOUT"]
    if not (fragments or dropped or gaveup or counted or whole or too_big or (ruled and lost)):
        return
    dns = [p for p in packets if p.dns or 53 in (p.sport, p.dport)] + [e for e in dropped if e.sport == 53]
    asked = [*dns, *view.of(DnsLookup)]
    other = [p for p in fragments if p.sport and 53 not in (p.sport, p.dport)] if not asked else []
    yield Hypothesis(
        subject="the path of large UDP DNS answers",
        title="A large UDP DNS answer travels in fragments, and not all of them arrive.",
        checks=(
            judged("the answer travels in fragments", True if fragments or dropped or gaveup or counted or ruled else (False if whole or too_big else None), [*fragments, *dropped, *gaveup, *counted, *ruled] or [*whole, *too_big], weight=0.6, required=True),
            judged("the packet is not refused whole (fragmentation needed)", False if whole or (too_big and not fragments) else None, [*whole, *too_big], weight=1.0, required=bool(whole)),
            shown("fragments are dropped, or reassembly gives up", [*dropped, *gaveup, *counted, *ruled], weight=1.9, required=True, decide="nstat -az | grep -i reasm; cilium-dbg monitor -t drop; tcpdump -nvi any 'ip[6:2] & 0x3fff != 0'"),
            shown("lookups time out", lost, weight=0.4),
            judged("what is fragmented is DNS, or lookups are in question", True if asked else (False if other else None), asked[:2] or other, weight=0.3, required=True, decide="tcpdump -nvi any 'udp port 53 or ip[6:2] & 0x1fff != 0'"),
        ),
        explains=("names with few records resolve, names with many do not",),
        fixes=(
            Fix(title="Keep UDP answers below the fragmentation limit", artifact="# Corefile\nbufsize 1232\n"),
            Fix(title="Track fragments in the datapath (Cilium)", artifact="kubectl -n kube-system patch configmap cilium-config --type merge -p '{\"data\":{\"enable-ipv4-fragment-tracking\":\"true\"}}'\n"),
        ),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="The later fragments of a large UDP DNS answer are dropped.",
    inputs=(CapturedPacket, FirewallRule, IptablesTable, CiliumEvent, Counter, SkbTrace, DnsLookup),
    needs=(CapturedPacket, CiliumEvent, Counter, SkbTrace, FirewallRule, IptablesTable),
    rivals=("path-mtu-drops-df-udp-dns-response", "fragments-reordered-dropped-by-datapath"),
    check=check,
)
