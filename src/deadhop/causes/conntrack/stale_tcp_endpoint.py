"""A TCP entry of a client with a fixed source port still translates to a removed backend.

What happens
------------
The client dials from the same source port again and again. Its SYN matches an entry of an earlier try that translates to
a backend which is gone; each retransmission renews the entry (120 s in SYN_SENT), and the Service's new rules are never
asked. Proxies clean up UDP entries, not those of TCP.

How to tell it from its neighbours
----------------------------------
The entry is TCP, in SYN_SENT and unreplied, and points to an address that is no endpoint any more. A client with a new
source port connects at once. A backend that is there and does not answer is another fault.

Fix
---
Delete the entry, or let the client use a new source port or wait longer than the timeout.

References
----------
net/netfilter/nf_conntrack_proto_tcp.c; kubernetes pkg/proxy/conntrack/cleanup.go (UDP and SCTP only).
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.netfilter import ConntrackEntry, IptablesTable
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.kube import Endpoints, Pod, Service
from deadhop.model.observed.packets import CapturedPacket
from deadhop.snapshot.tracked import (
    TCP,
    live_addresses,
    looks_like_service,
    service_addresses,
    translated,
    unreplied,
)

SLUG = "stale-tcp-conntrack-to-removed-endpoint"


def check(view: View) -> Iterator[Hypothesis]:
    live = live_addresses(view.of(Endpoints), view.of(Pod))
    known = service_addresses(view.of(Service), view.of(IptablesTable))
    entries = [
        e
        for e in view.of(ConntrackEntry)
        if e.proto == TCP and translated(e) and unreplied(e) and e.state in ("SYN_SENT", None)
    ]
    if not entries:
        return
    stale = [e for e in entries if live and e.reply[0] not in live]
    fresh = [e for e in entries if e.reply[0] in live]
    rows = stale or ([] if live else entries)
    keys = {(e.original[0], e.original[2], e.original[1]) for e in rows}
    syns = [
        p
        for p in view.of(CapturedPacket)
        if p.tcp_flags == "S" and (p.src, p.sport) in {(a, b) for a, b, _c in keys}
    ]
    tally = Tally((e.original[0], e.original[2]) for e in entries)
    again = syns if len(syns) > 1 else [e for e in rows if tally[(e.original[0], e.original[2])] > 1]
    low = [e for e in rows if e.original[2] < 32768]
    lost = [
        d
        for d in view.of(DialFailure)
        if d.error in ("timeout", "unreachable") and d.ip in {c for _a, _b, c in keys}
    ]
    entry = (rows or fresh)[0]
    yield Hypothesis(
        subject=f"TCP {entry.original[0]}:{entry.original[2]} -> {entry.original[1]}",
        title=f"A TCP entry of {entry.original[0]}:{entry.original[2]} still translates {entry.original[1]} to {entry.reply[0]}, which is gone.",
        checks=(
            judged("an unreplied TCP entry in SYN_SENT translates a Service address to a backend that is gone", bool(rows), rows or fresh, weight=1.4, required=True, decide=f"conntrack -L -p tcp -d {entry.original[1]}"),
            shown("its target is no endpoint any more", stale, weight=1.3, decide="kubectl get endpointslices -A -o wide"),
            shown("the entry's destination is a Service address", [e for e in rows if e.original[1] in known or looks_like_service(e.original[1], e.original[3])], weight=0.5),
            shown("the client comes back with the same source port", [*again, *low], weight=0.6),
            shown("its dials time out", lost, weight=0.4),
        ),
        explains=("that client cannot connect for as long as it tries, others can",),
        fixes=(Fix(title="Delete the entry", artifact=f"conntrack -D -p tcp --orig-src {entry.original[0]} --sport {entry.original[2]} --orig-dst {entry.original[1]}\n", changed=("the client's next SYN is translated anew",)),),
        prior=-1.3,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="conntrack",
    title="A TCP entry of a client with a fixed source port still translates to a removed backend.",
    inputs=(ConntrackEntry, Endpoints, Pod, Service, IptablesTable, CapturedPacket, DialFailure),
    needs=(ConntrackEntry,),
    rivals=("stale-udp-conntrack-to-removed-endpoint", "conntrack-invalid-drop-asymmetric-routing"),
    check=check,
)
