"""The kernel's neighbour table has reached its limit and new entries are refused.

What happens
------------
Every address on a link needs an entry. Beyond gc_thresh3 the kernel refuses new ones; packets to addresses without
one are dropped. Large flat pod networks reach the default of 1024.

How to tell it from its neighbours
----------------------------------
The kernel logs a neighbour table overflow, or counts the entries that it refused (table_fulls). New destinations fail
while known ones work. A count that stands still between two looks is an old one. A full connection tracker logs its own
message.

Fix
---
Raise the neighbour table's thresholds.

References
----------
net/core/neighbour.c neigh_alloc; /proc/net/stat/arp_cache, lnstat(8); arp(7) gc_thresh.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.net import Sysctl
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.message import Message
from deadhop.model.observed.node import Ping
from deadhop.model.observed.shell import LineCount
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "neighbour-table-overflow"
#: Gauges of the table's size: node_exporter, /proc/net/stat.
ENTRIES = ("node_arp_entries", "arp_entries", "arp_cache.entries", "ndisc_cache.entries")


def check(view: View) -> Iterator[Hypothesis]:
    logged = list(said(view.of(Message), "neighbour-table-overflow"))
    limit = [
        s
        for s in view.of(Sysctl)
        if s.key.endswith("gc_thresh3") and s.value.isdigit() and int(s.value) <= 4096
    ]
    counted = [
        c
        for c in view.of(Counter)
        if ("neigh" in c.name or "arp" in c.name or "ndisc" in c.name)
        and ("overflow" in c.name or "full" in c.name)
        and c.value > 0
    ]
    counted = [c for c in counted if not _rests(c, counted)]
    room = min((int(s.value) for s in limit), default=1024)
    entries = [c for c in view.of(Counter) if c.name in ENTRIES and c.value >= room - 24]
    entries_: list[Record] = list(entries)
    for line in view.of(LineCount):
        if line.program == "ip" and any(int(s.value) <= line.count + 8 for s in limit):
            entries_.append(line)
    no_buffer = view.where(Ping, lambda p: p.error == "no-buffer" or "No buffer space" in p.text)
    if not (logged or counted or (limit and (entries_ or no_buffer))):
        return
    yield Hypothesis(
        subject="neighbour table",
        title="The neighbour table is full: the kernel refuses entries for new destinations.",
        checks=(
            shown("the kernel refuses new entries", logged or counted or [*entries_, *no_buffer], weight=2.2, required=True, decide="dmesg | grep -i 'table overflow'"),
            shown("the limit is small", limit, weight=0.8, decide="sysctl net.ipv4.neigh.default.gc_thresh3"),
            shown("a packet is refused for want of a buffer, or the table holds as many entries as by default it may", [*entries_, *no_buffer] if logged or counted else [], weight=0.4),
            judged("the connection tracker is not full", False if said(view.of(Message), "nf-conntrack-table-full") else None, said(view.of(Message), "nf-conntrack-table-full"), weight=0.6),
        ),
        explains=("new destinations fail at scale, while known ones work",),
        fixes=(Fix(title="Raise the thresholds", artifact="# /etc/sysctl.d/90-neigh.conf\nnet.ipv4.neigh.default.gc_thresh1 = 80000\nnet.ipv4.neigh.default.gc_thresh2 = 90000\nnet.ipv4.neigh.default.gc_thresh3 = 100000\n"),),
        prior=-0.9,
    )  # fmt: skip


def _rests(counter: Counter, others: list[Counter]) -> bool:
    """Whether a counter was read twice in one place and stood still: the table was full once, and is not now."""
    values = [
        c.value
        for c in others
        if (c.name, c.where, c.labels) == (counter.name, counter.where, counter.labels)
    ]
    return len(values) > 1 and len(set(values)) == 1


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="The kernel's neighbour table is full and new entries are refused.",
    inputs=(
        Message,
        Sysctl,
        Counter,
        Ping,
        LineCount,
    ),
    needs=(Message, LineCount, Counter),
    rivals=(
        "conntrack-table-full",
        "udev-rewrites-veth-mac",
    ),
    check=check,
)
