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

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.policy import CiliumEvent, Flow
from deadhop.model.record import Record

SLUG = "fragments-reordered-dropped-by-datapath"


def check(view: View) -> Iterator[Hypothesis]:
    packets = view.of(CapturedPacket)
    early = _early(packets)
    dropped = [e for e in view.of(CiliumEvent) if e.verdict == "DROPPED" and "ragment" in e.reason]
    flows = [f for f in view.of(Flow) if f.denied and "ragment not found" in f.event]
    # Without a capture, the datapath's own word: it met a later fragment before it knew of a first one.
    alone = [*(e for e in dropped if "not found" in e.reason), *flows] if not packets else []
    if not early and not alone:
        return
    yield Hypothesis(
        subject="fragments of large datagrams",
        title="Later fragments arrive before the first one, and the datapath cannot attribute them.",
        checks=(
            shown(
                "a later fragment comes before the first of its datagram, on the wire or by the datapath's own word",
                [*early, *dropped, *flows],
                weight=1.9,
                required=True,
                decide="tcpdump -nvi any 'ip[6:2] & 0x3fff != 0'   # which fragment comes first",
            ),
            judged(
                "the wire shows it and the datapath drops it",
                True if early and (dropped or flows) else None,
                [*dropped, *flows] if early else [],
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


def _early(packets: list[CapturedPacket]) -> list[Record]:
    """Fragments that stand before the first one of their datagram, each with that first one."""
    found: list[Record] = []
    for i, packet in enumerate(packets):
        if not packet.fragment_offset:
            continue
        behind = [p for p in packets[i + 1 : i + 6] if _leads(p, packet)]
        if behind and not any(_leads(p, packet) for p in packets[max(0, i - 5) : i]):
            found += [packet, behind[0]]
    return found


def _leads(first: CapturedPacket, later: CapturedPacket) -> bool:
    """Whether ``first`` is the first fragment of the datagram of ``later``, on the same device."""
    same = first.id == later.id if first.id is not None and later.id is not None else True
    ends = (first.src, first.dst, first.dev) == (later.src, later.dst, later.dev)
    return first.more_fragments and not first.fragment_offset and ends and same


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="Fragments that overtake the first one are dropped by the datapath.",
    inputs=(CapturedPacket, CiliumEvent, Flow),
    needs=(CapturedPacket, CiliumEvent, Flow),
    rivals=("udp-dns-response-fragments-dropped",),
    check=check,
)
