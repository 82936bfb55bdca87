"""The node's connection tracking table is full, and packets of new flows are dropped.

What happens
------------
Every tracked flow takes an entry until its timeout. When the count reaches the maximum, the kernel drops the first packet
of each new flow. Established connections go on; probes, lookups and new requests on that node fail at random.

How to tell it from its neighbours
----------------------------------
The kernel logs "table full", or the count stands at the maximum. A DNS race raises insert_failed and leaves the table
half empty; a stale entry concerns one client.

Fix
---
Raise the maximum and the hash size, shorten timeouts, or track fewer flows.

References
----------
net/netfilter/nf_conntrack_core.c (__nf_conntrack_alloc); kube-proxy ``--conntrack-max-per-core``; Cilium bpf-ct-global-*-max.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.net import Sysctl
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.kube import ProbeFailure
from deadhop.model.observed.message import Message
from deadhop.model.observed.policy import CiliumEvent, Flow
from deadhop.model.record import Record

SLUG = "conntrack-table-full"
FULL = 0.97


def check(view: View) -> Iterator[Hypothesis]:
    logged: list[Record] = [m for m in view.of(Message) if m.kind == "nf-conntrack-table-full"]
    bpf: list[Record] = [
        e for e in view.of(CiliumEvent) if "Map insertion failed" in e.reason and "CT" in e.reason
    ]
    bpf += [
        f
        for f in view.of(Flow)
        if "CT_MAP_INSERTION_FAILED" in f.drop_reason.upper() or "CT: Map insertion failed" in f.drop_reason
    ]
    count, most, pair = _levels(view)
    full = count / most >= FULL if count is not None and most else None
    dropped = [
        c
        for c in view.of(Counter)
        if c.value > 0 and c.name in ("conntrack_early_drop", "node_nf_conntrack_stat_early_drop")
    ]
    failing = [*view.of(ProbeFailure), *(d for d in view.of(DialFailure) if d.error == "timeout")]
    if not logged and not bpf and full is None:
        return
    room = pair if full is False and not logged and not bpf else []
    yield Hypothesis(
        subject="the node's connection tracking table",
        title=f"The connection tracking table is full{f' ({count:.0f} of {most:.0f})' if full and most else ''}; packets of new flows are dropped.",
        checks=(
            judged("the table is full: the kernel says so, or the count stands at the maximum", not room, [*logged, *bpf, *(pair if full else [])] or room, weight=2.4, required=True, decide="sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max; dmesg | grep 'table full'"),
            shown("the count stands at the maximum, and the kernel says so too", pair if full and (logged or bpf) else [], weight=0.7),
            shown("entries were evicted early", dropped, weight=0.4),
            shown("probes and new connections fail meanwhile", failing, weight=0.4),
        ),
        explains=("new connections on that node fail at random, established ones go on",),
        fixes=(Fix(title="A larger table", artifact="# /etc/sysctl.d/90-conntrack.conf\nnet.netfilter.nf_conntrack_max = 1048576\n# and /etc/modprobe.d/conntrack.conf: options nf_conntrack hashsize=262144\n", changed=("about 320 bytes of kernel memory for each entry",)),),
        prior=-0.9,
    )  # fmt: skip


def _levels(view: View) -> tuple[float | None, float | None, list[Record]]:
    """Count and maximum of the fullest table where both are shown, and their records. Each namespace has a table of
    its own (net/netfilter/nf_conntrack_core.c __nf_conntrack_alloc); one maximum holds for all."""
    counts: list[tuple[str, float, Record]] = []
    most: dict[str, tuple[float, Record]] = {}
    for sysctl in view.of(Sysctl):
        name = sysctl.key.rpartition(".")[2].removeprefix("nf_").removeprefix("ip_")
        if name == "conntrack_count" and sysctl.value.isdigit():
            counts.append((sysctl.where, float(sysctl.value), sysctl))
        elif name == "conntrack_max" and sysctl.value.isdigit():
            most[sysctl.where] = (float(sysctl.value), sysctl)
    for counter in view.of(Counter):
        if counter.name in ("node_nf_conntrack_entries", "conntrack_entries"):
            counts.append((counter.where, counter.value, counter))
        elif counter.name == "node_nf_conntrack_entries_limit":
            most.setdefault(counter.where, (counter.value, counter))
    if not counts or not most:
        return None, None, []
    last = next(reversed(most.values()))
    levels = [(count, *most.get(where, last), record) for where, count, record in counts]
    count, limit, limited, counted = max(levels, key=lambda level: level[0] / level[1] if level[1] else 0.0)
    return count, limit, [counted, limited]


CAUSE = Cause(
    slug=SLUG,
    family="conntrack",
    title="The connection tracking table is full, so packets of new flows are dropped.",
    inputs=(Message, CiliumEvent, Flow, Sysctl, Counter, ProbeFailure, DialFailure),
    needs=(Message, CiliumEvent, Flow, Sysctl, Counter),
    rivals=(
        "conntrack-race-on-parallel-udp-dns",
        "conntrack-invalid-drop-asymmetric-routing",
        "dns-server-unreachable",
    ),
    check=check,
)
