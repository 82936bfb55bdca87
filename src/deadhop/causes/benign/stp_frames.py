"""Drops of an unsupported layer 2 protocol are spanning-tree or similar frames of the switch.

What happens
------------
The datapath handles Ethernet II. A switch's spanning tree, LLDP or a loop check sends 802.3/LLC frames to a link-local
multicast address; the datapath counts them as an unsupported L2 protocol. They were never meant for a pod.

How to tell it from its neighbours
----------------------------------
The destination is 01:80:c2:00:00:xx (or the frame is LLC), and no other reason is among the drops. An unknown L4
protocol concerns IP packets and is a fault.

Fix
---
None needed.

References
----------
IEEE 802.1D table 7-10; Cilium bpf/lib/drop_reasons.h DROP_UNSUPPORTED_L2.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Hypothesis, View, judged, shown
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.policy import CiliumEvent, Flow
from deadhop.model.record import Record

SLUG = "benign-stp-frames-dropped"
REASON = "nsupported L2 protocol"
#: Link-local multicast of IEEE 802.1D and 802.1AB, and Cisco's of PVST+, CDP, VTP and UDLD.
SWITCHES = ("01:80:c2:00:00:", "01:00:0c:cc:cc:c")


def check(view: View) -> Iterator[Hypothesis]:
    drops = [e for e in view.of(CiliumEvent) if e.verdict == "DROPPED"]
    frames = [e for e in drops if REASON in e.reason]
    if not frames:
        return
    link_local = [
        e for e in frames if any(mac in e.text.lower() for mac in SWITCHES) or e.text.rstrip().endswith("LLC")
    ]
    counted = [c for c in view.of(Counter) if c.name == "cilium_drop" and c.value > 0]
    other: list[Record] = [
        *(c for c in counted if REASON not in dict(c.labels)["reason"]),
        *(e for e in drops if REASON not in e.reason),
        *(f for f in view.of(Flow) if f.denied),
    ]
    yield Hypothesis(
        subject="the switch's own frames",
        title="The drops are link-local frames of the switch (spanning tree and the like), not traffic of pods.",
        checks=(
            shown("frames to a link-local multicast address are dropped", link_local, weight=1.8, required=True),
            judged("every unsupported frame is of this kind", len(link_local) == len(frames), [e for e in frames if e not in link_local], weight=0.8, required=True),
            judged("nothing else is dropped", not other, other[:3], weight=0.8, required=True),
        ),
        explains=("a drop counter rises although everything works",),
        prior=-1.0,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="The dropped frames are the switch's own; no pod is concerned.",
    severity="benign",
    inputs=(CiliumEvent, Flow, Counter),
    needs=(CiliumEvent,),
    rivals=("datapath-drops-unsupported-l4-protocol",),
    check=check,
)
