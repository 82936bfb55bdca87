"""A forwarder between a large-MTU network and a smaller tunnel does not clamp the TCP MSS.

What happens
------------
Each side announces an MSS from its own interface. A forwarder in between sends into a tunnel with less room and should
lower the MSS in passing SYNs. Where it does not, in one direction at least, the first full-size segment is lost.

How to tell it from its neighbours
----------------------------------
A SYN or SYN-ACK seen at or beyond the forwarder still carries the large side's MSS. Interface MTUs are each right for
their own network; only the clamp is absent.

Fix
---
Clamp the MSS to the path MTU on forwarded SYNs in both directions.

References
----------
net/netfilter/xt_TCPMSS.c; nft "tcp option maxseg size set rt mtu"; RFC 9293 §3.7.1.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.net import Link
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.firewall import FirewallRule
from deadhop.model.observed.message import Message
from deadhop.model.observed.packets import CapturedPacket
from deadhop.snapshot.captures import never_established, pair, sent_again, unheard_acks
from deadhop.snapshot.firewall import rules
from deadhop.snapshot.sizes import devices, role

SLUG = "mss-clamp-missing-on-tunnel-path"
HEADERS = 40
ETHERNET = (1460, 1440)
"""What a host on plain Ethernet announces (IPv4, IPv6): a peer with a smaller MTU, and no sign of a tunnel or a clamp."""


def check(view: View) -> Iterator[Hypothesis]:
    syns = [p for p in view.of(CapturedPacket) if p.mss and "S" in p.tcp_flags]
    if not syns:
        return
    narrow = [d for d in devices(view.of(Link)) if d.role in ("tunnel", "vpn")]
    smallest = min([*(d.mtu - HEADERS for d in narrow), *(p.mss for p in syns if p.mss)])
    large = [p for p in syns if p.mss and p.mss > smallest + 20]
    clamped = [p for p in syns if p.mss and p.mss <= smallest + 20 and p.mss not in ETHERNET]
    # Who takes the same way and announces less by itself was not clamped: its MTU is right, the other's is not.
    beside = [
        p
        for p in clamped
        if p.tcp_flags == "S" and any(q.tcp_flags == "S" and p.src != q.src and p.dst == q.dst for q in large)
    ]
    beyond = [p for p in large if p.ttl is not None and p.ttl not in (64, 128, 255)]
    # Without any, the two ends announce what each has of its own, and use the smaller (RFC 9293 §3.7.1).
    within = [p for p in large if role(p.dev) in ("tunnel", "vpn")]
    said = [m for m in view.of(Message) if m.kind == "mss-clamp"]
    clamps = [
        r
        for r in rules(view.of(IptablesTable), view.of(FirewallRule))
        if "tcpmss" in r.text or "maxseg size set" in r.text
    ]
    # A rule for one way out leaves what comes back through the tunnel as the far side announced it.
    one_way = [r.record for r in clamps if r.out_dev and not r.out_dev.startswith("!")]
    both = len({r.out_dev for r in clamps}) > 1 or len(one_way) < len(clamps)
    again = sent_again(view.of(CapturedPacket), smallest)
    tunnels = [d.record for d in narrow]
    packets = view.of(CapturedPacket)
    stuck = [
        p
        for p in (*never_established(packets), *unheard_acks(packets))
        if pair(p) in {pair(q) for q in large}
    ]
    if not large:
        return
    yield Hypothesis(
        subject=f"SYN of {large[0].src} to {large[0].dst}",
        title=f"A SYN still announces MSS {large[0].mss} on a path that carries {smallest}: nothing clamps it.",
        checks=(
            judged("a SYN carries an MSS of the large side", True, large, weight=1.0, required=True),
            shown("the other direction (or the tunnel) allows less", [*clamped, *tunnels], weight=1.2, required=True, decide="ip -d link; iptables -t mangle -S | grep TCPMSS"),
            shown("the SYN has already passed a forwarder", beyond, weight=0.6),
            shown("a forwarder or a tunnel lies on the way", [] if beyond or tunnels else within, weight=0.2, required=not (beyond or tunnels), decide="ip -d link; tcpdump -vni TUNNEL 'tcp[tcpflags] & tcp-syn != 0'"),
            judged("the handshake completes", False if stuck else None, stuck, weight=1.5, required=bool(stuck)),
            judged("nobody else on that way announces less of its own accord", False if beside else None, beside, weight=1.5, required=bool(beside)),
            judged("no rule clamps the MSS of both directions", False if said or both else (True if one_way else None), one_way if one_way and not both else [*said, *(r.record for r in clamps)], weight=0.5),
            shown("full-size segments are sent again and again", again[:4], weight=1.0),
        ),
        explains=("the handshake completes and the first full-size segment is lost",),
        fixes=(
            Fix(
                title="Clamp the MSS in both directions",
                artifact="iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu\n# or nft: tcp flags syn / syn,rst tcp option maxseg size set rt mtu\n",
            ),
        ),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="A forwarder into a smaller tunnel does not clamp the TCP MSS.",
    inputs=(CapturedPacket, Link, Message, IptablesTable, FirewallRule),
    needs=(CapturedPacket,),
    rivals=("inner-overlay-mtu-exceeds-vpn-egress-mtu", "route-mtu-not-visible-to-nested-vm"),
    check=check,
)
