"""The pod MTU is below the node MTU, which is safe and at most costs throughput.

What happens
------------
The CNI gives pods a smaller MTU than the node's NIC has, to leave room for encapsulation or by a default. Packets from
the pod always fit the node; packets to the pod are limited by the MSS that the pod announces.

How to tell it from its neighbours
----------------------------------
The smaller value is on the pod's side, and no size-dependent loss is seen. The other way round, a pod or bridge above
the NIC, is a fault. A forwarded answer with DF that is larger than the pod's MTU is a fault too.

Fix
---
None needed.

References
----------
RFC 9293 §3.7.1 (MSS); CNI MTU documentation.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Hypothesis, View, judged, shown
from deadhop.model.net import Link
from deadhop.model.observed.dns import DnsLookup
from deadhop.model.observed.http import DialFailure, HttpExchange, LocalReply
from deadhop.model.observed.node import Ping
from deadhop.model.observed.packets import CapturedPacket, SkbTrace
from deadhop.snapshot.sizes import ICMP4, ICMP6, devices

SLUG = "benign-pod-mtu-smaller-than-node"


def check(view: View) -> Iterator[Hypothesis]:
    sized = devices(view.of(Link))
    pods = [d for d in sized if d.role == "pod"]
    nics = [d for d in sized if d.role == "nic"]
    if not pods or not nics:
        return
    largest, smallest = max(pods, key=lambda d: d.mtu), max(nics, key=lambda d: d.mtu)
    trouble = [
        *(p for p in view.of(Ping) if p.ok is False and not _refused(p, largest.mtu)), *(r for r in view.of(DnsLookup) if r.failed), *(e for e in view.of(HttpExchange) if e.error or (e.status or 0) >= 500),
        *view.of(DialFailure), *view.of(LocalReply), *(p for p in view.of(CapturedPacket) if p.icmp and p.icmp.too_big), *view.of(SkbTrace),
    ]  # fmt: skip
    bridges = [d for d in sized if d.role == "bridge" and d.mtu > min(n.mtu for n in nics)]
    if largest.mtu >= smallest.mtu:
        return
    yield Hypothesis(
        subject=f"{largest.name} and {smallest.name}",
        title=f"Pods have MTU {largest.mtu}, the node {smallest.mtu}: the smaller value is on the pod's side, which is safe.",
        checks=(
            shown(
                "the pods' MTU is below the node's",
                [largest.record, smallest.record],
                weight=1.7,
                required=True,
            ),
            judged("no size-dependent loss is seen", not trouble, trouble[:4], weight=1.0, required=True),
            judged(
                "no bridge or tunnel is larger than what carries it",
                not bridges,
                [b.record for b in bridges],
                weight=0.6,
                required=bool(bridges),
            ),
        ),
        explains=("packets from pods always fit; at most throughput suffers",),
        prior=-1.2,
    )


def _refused(ping: Ping, mtu: int) -> bool:
    """Whether the sender's own stack refused a packet above its MTU: that is what the MTU is for."""
    headers = ICMP6 if ":" in ping.target else ICMP4
    return ping.error == "too-long" and ping.size is not None and ping.size + headers > mtu


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="The pod MTU is below the node MTU, which is safe.",
    severity="benign",
    inputs=(Link, Ping, DnsLookup, HttpExchange, DialFailure, LocalReply, CapturedPacket, SkbTrace),
    needs=(Link,),
    rivals=(
        "path-mtu-drops-df-udp-dns-response",
        "tunnel-mtu-exceeds-underlay",
        "dind-bridge-mtu-exceeds-pod-mtu",
    ),
    check=check,
)
