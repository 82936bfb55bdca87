"""The NAT program in the datapath cannot parse non-first ICMP fragments and drops them on the sending host.

What happens
------------
A large ping is fragmented before it leaves. The second fragment has no ICMP header; the NAT program looks for one,
finds a protocol it does not know, and drops it. Nothing leaves the node.

How to tell it from its neighbours
----------------------------------
The drop counter or monitor names an unsupported protocol for NAT on the sender. Large pings fail while large TCP
transfers and pings below the MTU pass, so the path MTU is not involved.

Fix
---
Use a datapath release that handles ICMP fragments; measure the MTU with DF probes that fit.

References
----------
Cilium bpf/lib/nat.h DROP_NAT_UNSUPP_PROTO; pkg/monitor/api/drop.go.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.node import Ping
from deadhop.model.observed.policy import CiliumEvent

SLUG = "icmp-fragments-dropped-by-bpf-nat"


def _unparsed(event: CiliumEvent) -> bool:
    """An unsupported protocol for NAT; or an unknown one, where the packet is ICMP all the same: a fragment."""
    icmp = any(word in f"{event.proto} {event.text}".lower() for word in ("icmp", "echorequest", "echoreply"))
    return "nsupported protocol for NAT" in event.reason or (icmp and "nknown L4 protocol" in event.reason)


def check(view: View) -> Iterator[Hypothesis]:
    dropped = [e for e in view.of(CiliumEvent) if e.verdict == "DROPPED" and _unparsed(e)]
    counted = [
        c
        for c in view.of(Counter)
        if any("nsupported protocol for NAT" in v for _k, v in c.labels) and c.value > 0
    ]
    if not dropped and not counted:
        return
    large = [p for p in view.of(Ping) if (p.size or 0) > 1400 and p.ok is False]
    small = [p for p in view.of(Ping) if (p.size or 0) <= 1400 and p.ok]
    icmp = [e for e in dropped if any(w in (e.proto + e.text).lower() for w in ("icmp", "echore"))]
    yield Hypothesis(
        subject="the sending node's NAT program",
        title="The datapath's NAT cannot parse later ICMP fragments and drops them on the sender.",
        checks=(
            shown(
                "the datapath drops an unsupported protocol for NAT",
                [*dropped, *counted],
                weight=1.7,
                required=True,
            ),
            shown(
                "large pings fail",
                large,
                weight=0.8,
                decide="ping -s 2000 DESTINATION; ping -s 100 DESTINATION",
            ),
            shown("small pings pass", small, weight=0.4),
            shown("the dropped packet is ICMP", icmp, weight=0.4),
        ),
        explains=("large TCP transfers pass, so the path MTU is not involved",),
        fixes=(
            Fix(
                title="Measure with DF probes that fit, and upgrade the datapath",
                artifact="ping -M do -s 1372 DESTINATION\n",
            ),
        ),
        prior=-1.2,
    )


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="The datapath's NAT drops later ICMP fragments on the sending node.",
    inputs=(CiliumEvent, Counter, Ping),
    needs=(CiliumEvent, Counter),
    rivals=("udp-dns-response-fragments-dropped",),
    check=check,
)
