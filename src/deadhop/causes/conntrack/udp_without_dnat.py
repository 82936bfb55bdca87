"""A UDP entry made while the Service had no endpoints holds no translation, and its client keeps it alive.

What happens
------------
Without endpoints there is no DNAT rule (or a REJECT that comes too late for it), and the first packet makes an entry to
the Service address itself. The client sends on, each packet renews the entry, and the rules that appear with the first
endpoint are never asked: NAT is decided once per flow.

How to tell it from its neighbours
----------------------------------
The entry's reply source is the Service address itself. An entry to a removed backend has a pod's address there.

Fix
---
Flush UDP entries for the Service address when endpoints appear, or upgrade the proxy.

References
----------
kubernetes pkg/proxy/conntrack/cleanup.go (stale services); net/netfilter/nf_nat_core.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.evidence.fields import host_port
from deadhop.hops.dns.upstreams import kind
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.netfilter import ConntrackEntry, IptablesTable
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

SLUG = "udp-conntrack-without-dnat-outlives-empty-service"


def check(view: View) -> Iterator[Hypothesis]:
    known = service_addresses(view.of(Service), view.of(IptablesTable))
    pods = live_addresses(view.of(Endpoints), view.of(Pod))
    plain = [
        e
        for e in view.of(ConntrackEntry)
        if e.proto == UDP and unreplied(e) and not translated(e) and e.original[1] not in pods
        and kind(e.original[1]) == "private" and e.original[3] < 32768
        and (e.original[1] in known or e.original[1].split(".")[:2] != e.original[0].split(".")[:2])
    ]  # fmt: skip
    likely = [e for e in plain if e.original[1] in known or looks_like_service(e.original[1], e.original[3])]
    moved = [e for e in view.of(ConntrackEntry) if e.proto == UDP and unreplied(e) and translated(e)]
    failed = [m for m in view.of(Message) if m.kind == "service-conntrack-not-deleted"]
    ready = [
        e for e in view.of(Endpoints) if e.ready and _of(e, view.of(Service), {p.original[1] for p in plain})
    ]
    rules = [
        t
        for t in view.of(IptablesTable)
        if any(
            r.target == "DNAT"
            or r.option("-d", "--destination").partition("/")[0] in {p.original[1] for p in plain}
            for r in t.rules
        )
    ]
    if not plain and not failed and not moved:
        return
    vip = plain[0].original[1] if plain else (failed[0].field("vip") if failed else moved[0].original[1])
    only = moved if moved and not plain and not failed else []
    yield Hypothesis(
        subject=f"UDP {vip}",
        title=f"A UDP conntrack entry to the Service address {vip} holds no translation and outlives the time without endpoints.",
        checks=(
            judged("an unreplied UDP entry to a Service address has that address as its reply source", not only, only or [*plain, *failed], weight=2.0 if likely else 1.5, required=True, decide=f"conntrack -L -p udp -d {vip}"),
            shown("the Service has endpoints now", ready, weight=0.8, decide="kubectl get endpointslices -A -o wide"),
            shown("the address is a Service's", [e for e in plain if e.original[1] in known], weight=0.6, decide=f"kubectl get services -A | grep {vip}"),
            shown("a rule translates it for new flows", rules, weight=0.5),
            shown("the proxy could not delete the Service's entries", failed, weight=0.5),
        ),
        explains=("a client that was there first never gets an answer, a new one does at once",),
        fixes=(Fix(title="Delete the entries without translation", artifact=f"conntrack -D -p udp --orig-dst {vip}\n", changed=("the next packet of each client is translated anew",)),),
        prior=-1.3,
    )  # fmt: skip


def _of(endpoints: Endpoints, services: list[Service], addresses: set[str]) -> bool:
    """Whether endpoints belong to a Service at one of the addresses, as far as the records say."""
    own = [s for s in services if s.cluster_ip in addresses]
    if own:
        return any(s.name == endpoints.service for s in own)
    return bool(addresses) and any(host_port(e)[1] for e in endpoints.ready)


CAUSE = Cause(
    slug=SLUG,
    family="conntrack",
    title="A UDP entry made while the Service had no endpoints keeps a client from being translated.",
    inputs=(ConntrackEntry, IptablesTable, Endpoints, Pod, Service, Message),
    needs=(ConntrackEntry, Message),
    rivals=("stale-udp-conntrack-to-removed-endpoint", "conntrack-race-on-parallel-udp-dns"),
    check=check,
)
