"""Drops of an unsupported layer 2 protocol are spanning-tree or similar frames of the switch.

What happens
------------
The datapath handles Ethernet II. A switch's spanning tree, LLDP or a loop check sends 802.3/LLC frames to a link-local
multicast address; the datapath counts them as an unsupported L2 protocol. They were never meant for a pod.

How to tell it from its neighbours
----------------------------------
The destination is 01:80:c2:00:00:xx (or the frame is LLC), in the drop itself or in a capture of the device whose drops
are counted, and no other reason is among the drops. An unknown L4
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
from deadhop.model.observed.packets import SwitchFrame
from deadhop.model.observed.policy import CiliumEvent, Flow
from deadhop.model.record import Record

SLUG = "benign-stp-frames-dropped"
REASON = "nsupported L2 protocol"
#: Link-local multicast of IEEE 802.1D and 802.1AB, and Cisco's of PVST+, CDP, VTP and UDLD.
SWITCHES = ("01:80:c2:00:00:", "01:00:0c:cc:cc:c")


def check(view: View) -> Iterator[Hypothesis]:
    drops = [e for e in view.of(CiliumEvent) if e.verdict == "DROPPED"]
    frames = [e for e in drops if REASON in e.reason]
    counted = [c for c in view.of(Counter) if c.name == "cilium_drop" and c.value > 0]
    counts = [c for c in counted if REASON.lower() in dict(c.labels)["reason"].replace("_", " ").lower()]
    flows = [f for f in view.of(Flow) if f.denied]
    without_ip = [
        f for f in flows if REASON.lower() in f"{f.drop_reason} {f.event}".replace("_", " ").lower()
    ]
    captured: list[Record] = [s for s in view.of(SwitchFrame) if not s.dst or s.dst.startswith(SWITCHES)]
    captured += [f for f in without_ip if any(f"-> {mac}" in f.summary.lower() for mac in SWITCHES)]
    if not frames and not ((counts or without_ip) and captured):
        return
    link_local: list[Record] = [
        e for e in frames if any(mac in e.text.lower() for mac in SWITCHES) or e.text.rstrip().endswith("LLC")
    ]
    shown_: list[Record] = link_local or ([*captured[:3], *counts, *without_ip[:3]] if not frames else [])
    other: list[Record] = [
        *(c for c in counted if c not in counts and not _little(c, counts)),
        *(e for e in drops if REASON not in e.reason),
        *(f for f in flows if f not in without_ip),
    ]
    yield Hypothesis(
        subject="the switch's own frames",
        title="The drops are link-local frames of the switch (spanning tree and the like), not traffic of pods.",
        checks=(
            shown("frames to a link-local multicast address arrive and are dropped", shown_, weight=1.8, required=True),
            judged("every unsupported frame is of this kind", len(link_local) == len(frames), [e for e in frames if e not in link_local], weight=0.8, required=True),
            judged("nothing else is dropped", not other, other[:3], weight=0.8, required=True),
        ),
        explains=("a drop counter rises although everything works",),
        prior=-1.0,
    )  # fmt: skip


def _little(counter: Counter, counts: list[Counter]) -> bool:
    """Whether drops for another reason are a thousandth of these, and no policy's: what every node loses now and then."""
    reason = dict(counter.labels)["reason"].lower()
    return "policy" not in reason and counter.value * 1000 <= sum(c.value for c in counts)


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="The dropped frames are the switch's own; no pod is concerned.",
    severity="benign",
    inputs=(CiliumEvent, Flow, Counter, SwitchFrame),
    needs=(CiliumEvent, Counter, Flow),
    rivals=("datapath-drops-unsupported-l4-protocol",),
    check=check,
)
