"""Non-first fragments overtake the first, and a datapath that needs its ports drops them.

What happens
------------
The datapath attributes fragments by the first one, which alone carries ports. Where a later fragment arrives before it
(another queue, another path, after decapsulation), it has no entry yet and is dropped; the datagram is lost.

How to tell it from its neighbours
----------------------------------
Both fragments reach the receiving node, the portless one first. Loss is frequent but not total, and concerns only
datagrams above the MTU. The underlay shows no loss.

Fix
---
Avoid fragmentation (smaller datagrams, a larger underlay MTU), or keep fragments in order.

References
----------
Cilium bpf/lib/ipv4.h ipv4_handle_fragmentation; RFC 8900 §3.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.policy import CiliumEvent
from deadhop.model.record import Record

SLUG = "fragments-reordered-dropped-by-datapath"


def check(view: View) -> Iterator[Hypothesis]:
    packets = view.of(CapturedPacket)
    early: list[Record] = []
    for i, packet in enumerate(packets):
        if packet.fragment_offset:
            first = next(
                (
                    p
                    for p in packets[i + 1 : i + 6]
                    if p.more_fragments
                    and not p.fragment_offset
                    and (p.src, p.dst) == (packet.src, packet.dst)
                ),
                None,
            )
            before = [
                p
                for p in packets[max(0, i - 5) : i]
                if p.more_fragments and not p.fragment_offset and (p.src, p.dst) == (packet.src, packet.dst)
            ]
            if first and not before:
                early += [packet, first]
    dropped = [e for e in view.of(CiliumEvent) if e.verdict == "DROPPED" and "ragment" in e.reason]
    if not early:
        return
    yield Hypothesis(
        subject="fragments of large datagrams",
        title="Later fragments arrive before the first one, and the datapath cannot attribute them.",
        checks=(
            shown(
                "a fragment without ports arrives before the first fragment of its datagram",
                early,
                weight=1.9,
                required=True,
            ),
            shown(
                "the datapath drops fragments",
                dropped,
                weight=1.3,
                decide="cilium-dbg monitor -t drop   # fragment not found",
            ),
        ),
        explains=("datagrams above the MTU are lost often but not always",),
        fixes=(
            Fix(
                title="Keep datagrams below the MTU",
                artifact="# for DNS: bufsize 1232; for others: a larger underlay MTU or smaller writes\n",
            ),
        ),
        prior=-1.2,
    )


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="Fragments that overtake the first one are dropped by the datapath.",
    inputs=(CapturedPacket, CiliumEvent),
    needs=(CapturedPacket,),
    rivals=("udp-dns-response-fragments-dropped",),
    check=check,
)
