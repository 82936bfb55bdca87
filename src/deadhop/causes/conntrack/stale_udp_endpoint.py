"""A UDP conntrack entry still translates to a Service backend that was removed, and its client keeps it alive.

What happens
------------
NAT is decided by the first packet of a flow. A client that sends from one socket refreshes the entry with every packet,
so that all of them go to the address of a pod that is gone. kube-proxy deletes such entries when a backend goes; where
that fails, or comes too early, they stay.

How to tell it from its neighbours
----------------------------------
The entry is UDP and unreplied, and its reply source is an address that is no longer an endpoint. If the reply source is
the Service address itself, no translation took place. A new socket works; rules and endpoints are right.

Fix
---
Delete the entries for that Service address, or restart the client; use a proxy release that cleans them up.

References
----------
kubernetes pkg/proxy/conntrack/cleanup.go; net/netfilter/nf_nat_core.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.netfilter import ConntrackEntry, IptablesTable
from deadhop.model.observed.dns import DnsLookup
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.kube import Endpoints, Pod, Service
from deadhop.model.observed.message import Message
from deadhop.snapshot.tracked import (
    UDP,
    live_addresses,
    looks_like_service,
    service_addresses,
    translated,
    unreplied,
)

SLUG = "stale-udp-conntrack-to-removed-endpoint"


def check(view: View) -> Iterator[Hypothesis]:
    live = live_addresses(view.of(Endpoints), view.of(Pod))
    known = service_addresses(view.of(Service), view.of(IptablesTable))
    failed = [
        m
        for m in view.of(Message)
        if m.kind == "endpoint-conntrack-not-deleted" and m.field("proto").upper() in ("UDP", "")
    ]
    entries = [e for e in view.of(ConntrackEntry) if e.proto == UDP and translated(e) and (unreplied(e) or (live and e.reply[0] not in live))]  # fmt: skip
    stale = [e for e in entries if live and e.reply[0] not in live]
    fresh = [e for e in entries if e.reply[0] in live]
    lost = [
        *(k for k in view.of(DnsLookup) if k.status == "TIMEOUT"),
        *(d for d in view.of(DialFailure) if d.error in ("lookup-timeout", "timeout")),
    ]
    if not failed and not entries:
        return
    entry = next(iter(stale or entries), None)
    vip = entry.original[1] if entry else failed[0].field("vip")
    target = entry.reply[0] if entry else failed[0].field("endpoint")
    only = fresh if fresh and not stale and not failed else []
    rows = [*failed, *(stale or ([] if live else entries))]
    yield Hypothesis(
        subject=f"UDP {vip or 'Service'} -> {target or 'a removed backend'}",
        title=f"A UDP conntrack entry for {vip or 'a Service'} still translates to {target or 'a removed backend'}.",
        checks=(
            judged("a UDP entry translates a Service address (unreplied, or to no endpoint), or the proxy could not delete the entries of a removed backend", not only, only or rows, weight=1.1, required=True, decide=f"conntrack -L -p udp -d {vip or 'SERVICE-IP'}"),
            shown("its target is no endpoint any more", stale, weight=1.6, decide="kubectl get endpointslices -A -o wide"),
            shown("the proxy failed to delete the entries of a removed backend", failed, weight=1.2, decide="kubectl -n kube-system logs -l k8s-app=kube-proxy | grep -i conntrack"),
            shown("the entry's destination is a Service address", [e for e in entries if (e.original[1] in known or looks_like_service(e.original[1], e.original[3])) and e not in fresh], weight=0.5),
            shown("its clients get no answer", lost, weight=0.4),
        ),
        explains=("only clients that reuse one socket fail, and only until they restart",),
        fixes=(Fix(title="Delete the stale entries", artifact=f"conntrack -D -p udp --orig-dst {vip or 'SERVICE-IP'}{' --reply-src ' + target if target else ''}\n", changed=("the next packet of each client is translated anew",)),),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="conntrack",
    title="A UDP conntrack entry still translates to a Service backend that was removed.",
    inputs=(ConntrackEntry, Message, Endpoints, Pod, Service, IptablesTable, DnsLookup, DialFailure),
    needs=(ConntrackEntry, Message),
    rivals=(
        "udp-conntrack-without-dnat-outlives-empty-service",
        "conntrack-race-on-parallel-udp-dns",
        "stale-tcp-conntrack-to-removed-endpoint",
    ),
    check=check,
)
