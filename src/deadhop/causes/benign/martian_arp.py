"""Martian lines come from broadcast ARP on a bridged interface, not from dropped pod traffic.

What happens
------------
An ARP request asks the FIB about its sender too. On a device that sees other subnets' broadcasts the sender fails the
source check and is logged as martian. The line is worded like that of a dropped packet.

How to tell it from its neighbours
----------------------------------
The link-layer header says so: broadcast as the destination and type 0806. A reverse-path drop that matters shows unicast
and type 0800, and a connection that fails.

Fix
---
None needed; log_martians may be lowered.

References
----------
net/ipv4/arp.c arp_process; net/ipv4/route.c ip_handle_martian_source.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Hypothesis, View, judged, shown
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.kernel import MartianSource
from deadhop.model.observed.kube import ProbeFailure

SLUG = "benign-martian-log-broadcast-arp"
BROADCAST = "ff:ff:ff:ff:ff:ff"
ARP = 0x0806


def check(view: View) -> Iterator[Hypothesis]:
    martians = view.of(MartianSource)
    arp = [m for m in martians if m.ethertype == ARP and m.ll_dst in ("", BROADCAST)]
    if not arp:
        return
    other = [m for m in martians if m.ethertype not in (None, ARP)]
    failed = [*view.of(ProbeFailure), *view.of(DialFailure)]
    yield Hypothesis(
        subject=f"broadcast ARP on {arp[0].dev}",
        title=f"The martian lines on {arp[0].dev} are broadcast ARP requests: no IP packet was dropped.",
        checks=(
            shown("the link-layer header is a broadcast of type 0806", arp[:4], weight=1.8, required=True),
            judged("no martian line is an IP packet", not other, other[:4], weight=1.2, required=True),
            judged("no connection is seen to fail", not failed, failed[:4], weight=0.6),
        ),
        explains=("the log fills up and nothing fails",),
        prior=-1.0,
    )


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="The martian lines are broadcast ARP, not dropped traffic.",
    severity="benign",
    inputs=(MartianSource, ProbeFailure, DialFailure),
    needs=(MartianSource,),
    rivals=("rp-filter-overwritten-by-systemd-sysctl", "rp-filter-enabled-globally-on-node"),
    check=check,
)
