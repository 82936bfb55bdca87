"""The policy or connection-tracking layer drops a transport protocol that it does not know.

What happens
------------
The datapath tracks TCP, UDP, ICMP and, where it is enabled, SCTP. Packets of another protocol (VRRP, IGMP, GRE, OSPF)
have no place in its maps and are dropped as unknown before any policy is asked.

How to tell it from its neighbours
----------------------------------
The drop reason names an unknown L4 protocol, not a denied policy. TCP and UDP between the same hosts work. Layer 2
frames in the same list (spanning tree) are harmless: their reason is an unsupported L3 protocol.

Fix
---
Enable support for the protocol or take it out of the host firewall, or use a mode that runs over TCP or UDP.

References
----------
Cilium bpf/lib/conntrack.h DROP_CT_UNKNOWN_PROTO, bpf/lib/drop_reasons.h DROP_UNKNOWN_L4; pkg/monitor/api/drop.go.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.policy import CiliumEvent, Flow

SLUG = "datapath-drops-unsupported-l4-protocol"
REASON = "unknown l4 protocol"
#: Protocols that the datapath knows: a packet of theirs meets this reason as a fragment without a header.
KNOWN = ("echorequest", "echoreply", "icmp", "tcp", "udp")


def check(view: View) -> Iterator[Hypothesis]:
    events = [e for e in view.of(CiliumEvent) if e.verdict == "DROPPED" and REASON in e.reason.lower()]
    flows = [
        f
        for f in view.of(Flow)
        if f.denied
        and (f.drop_reason == "137" or REASON in (f.drop_reason.replace("_", " ") + " " + f.event).lower())
    ]
    counted = [c for c in view.of(Counter) if c.value > 0 and any(REASON in v.lower() for _k, v in c.labels)]
    if not (events or flows or counted):
        return
    other = [
        f for f in view.of(Flow) if not f.denied and f.proto in ("TCP", "UDP") and f.verdict == "FORWARDED"
    ]
    known = [e for e in events if any(w in f"{e.proto} {e.text}".lower() for w in KNOWN)]
    yield Hypothesis(
        subject=f"{events[0].src} to {events[0].dst}" if events and events[0].src else "the datapath",
        title="The datapath drops packets of a transport protocol that it does not know.",
        checks=(
            shown("packets are dropped as an unknown L4 protocol", [*events, *flows, *counted], weight=2.6, required=True),
            judged("the packets are neither TCP, UDP nor ICMP", False if known and not flows and not counted else None, known[:3], weight=2.0, required=bool(known)),
            shown("TCP and UDP are forwarded", other[:4], weight=0.4, decide="hubble observe --verdict FORWARDED --node NODE"),
        ),
        explains=("a cluster service on the hosts loses its peers, TCP and UDP between them work",),
        fixes=(
            Fix(
                title="Use a mode over TCP or UDP, or take the protocol out of the host firewall",
                artifact="# keepalived: unicast_peer does not help, VRRP stays protocol 112; exempt the interface instead\n# cilium-config\nenable-host-firewall: \"false\"   # or: sctp.enabled=true where the protocol is SCTP\n",
                conditional=True,
            ),
        ),
        prior=-1.0,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="The datapath drops a transport protocol that it does not know.",
    inputs=(CiliumEvent, Flow, Counter),
    needs=(CiliumEvent, Flow, Counter),
    rivals=("benign-stp-frames-dropped", "icmp-fragments-dropped-by-bpf-nat"),
    check=check,
)
