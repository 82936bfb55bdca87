"""DNS hands out AAAA records although pods have no IPv6 route, and clients that dial them fail.

What happens
------------
Upstream names carry IPv6 addresses, and cluster DNS passes them on. A client that prefers IPv6, or draws an address at
random, dials one; the pod has no route, and the kernel says at once that the network is unreachable.

How to tell it from its neighbours
----------------------------------
The error names a global IPv6 destination. The same host works over IPv4, and clients with a good fallback never notice.
Resolution is right, unlike NXDOMAIN for AAAA. An unreachable IPv4 destination is another fault.

Fix
---
Suppress AAAA with an empty success answer, or provide IPv6 connectivity.

References
----------
RFC 6724, RFC 8305; CoreDNS plugin/template; net/ipv6/route.c (ENETUNREACH).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.net import Address, Route
from deadhop.model.observed.dns import DnsLookup
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.shell import Attempt

SLUG = "aaaa-without-ipv6-route"


def check(view: View) -> Iterator[Hypothesis]:
    refused = [d for d in view.of(DialFailure) if d.error in ("unreachable", "other") and _global(d.ip)]
    waiting = [d for d in view.of(DialFailure) if d.error == "timeout" and _global(d.ip)]
    sessions = [
        e
        for e in view.of(HttpExchange)
        if "unreachable" in (e.error, *e.error_text.lower().split())
        and any(_global(w) for w in (e.dialled, *e.error_text.split()))
    ]
    answered = [k for k in view.of(DnsLookup) if any(a.type == "AAAA" and _global(a.data) for a in k.answers)]
    over4 = [
        *(
            e
            for e in view.of(HttpExchange)
            if (e.status is not None or not e.error) and e.dialled and ":" not in e.dialled
        ),
        *(a for a in view.of(Attempt) if a.ok and " -4" in f" {a.command}"),
    ]
    routes = [r for r in view.of(Route) if r.family == 6 and r.dst == "default" and r.type == "unicast"]
    only_local = [a for a in view.of(Address) if a.family == 6 and not a.local.startswith(("fe80", "::1"))]
    blind = (
        [d for d in view.of(DialFailure) if d.error == "unreachable" and not d.ip and d.proto == "tcp"]
        if answered
        else []
    )
    failed = [*refused, *sessions]
    six = [r for r in view.of(Route) if r.family == 6]
    timed_out = waiting if answered or len(waiting) > 1 or (six and not routes) else []
    if not failed and not blind and not timed_out:
        return
    address = next((d.ip for d in (*refused, *waiting)), "") or "an IPv6 address"
    yield Hypothesis(
        subject=address,
        title=f"Clients dial {address}, which DNS handed out, and pods have no IPv6 route.",
        checks=(
            shown("a dial to a global IPv6 address finds no route, or no answer", [*failed, *blind, *timed_out], weight=1.9 if failed else 1.0 if blind else 0.8, required=True, decide="ip -6 route get 2001:4860:4860::8888"),
            shown("the address was handed out as AAAA", answered, weight=1.0, decide="dig AAAA NAME"),
            shown("the same host works over IPv4", over4, weight=0.7, decide="curl -4 -sv https://NAME/"),
            shown("the routes that are listed hold no IPv6 default", [] if routes else six, weight=0.8),
            shown("several dials to IPv6 addresses fail", failed[1:], weight=0.4),
        ),
        contradictions=tuple(f"{r.source}: there is an IPv6 default route" for r in routes[:1] if not only_local),
        explains=("some clients fail now and then, others never notice",),
        fixes=(Fix(title="Answer AAAA with success and no records", artifact="template IN AAAA . {\n    rcode NOERROR\n}\n", changed=("names resolve to IPv4 addresses alone",)),),
        prior=-1.1,
    )  # fmt: skip


def _global(text: str) -> bool:
    """Whether a text is an IPv6 address of the global unicast range (2000::/3)."""
    text = text.strip("[](),;").partition("%")[0]
    text = text if text.endswith("::") else text.rstrip(":")
    if text.count(":") < 2:
        return False
    for candidate in (text, text.rpartition(":")[0]):
        try:
            return ipaddress.ip_address(candidate) in ipaddress.ip_network("2000::/3")
        except ValueError:
            continue
    return False


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="DNS hands out IPv6 addresses although pods have no IPv6 route.",
    inputs=(DialFailure, HttpExchange, DnsLookup, Attempt, Route, Address),
    needs=(DialFailure, HttpExchange),
    rivals=("aaaa-nxdomain-poisons-a-lookup",),
    check=check,
)
