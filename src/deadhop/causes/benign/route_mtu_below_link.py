"""The link MTU looks too large, but the route MTU already leaves room for the encapsulation.

What happens
------------
The CNI leaves the link at the underlay's MTU and limits packets by a smaller MTU on the route to peers. The kernel takes
the route's value, so nothing too large is ever sent.

How to tell it from its neighbours
----------------------------------
The route to the peer carries a smaller MTU than the link. A DF probe above it fails locally with "message too long"
and never reaches the wire; probes up to it pass. A guest that bridges onto the link would not see the route: then it
is a fault.

Fix
---
None needed.

References
----------
ip-route(8) mtu; net/ipv4/route.c ip_dst_mtu_maybe_forward.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Hypothesis, View, judged, shown
from deadhop.model.net import Link, Route
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.node import Ping

SLUG = "benign-route-mtu-below-link-mtu"


def check(view: View) -> Iterator[Hypothesis]:
    routes = [r for r in view.of(Route) if r.mtu]
    links = [link for link in view.of(Link) if link.mtu and any(r.mtu and r.mtu < link.mtu for r in routes)]
    if not routes or not links:
        return
    local = [p for p in view.of(Ping) if p.error == "too-long"]
    lost = [p for p in view.of(Ping) if p.error == "lost"]
    failed = [
        *(e for e in view.of(HttpExchange) if e.error in ("timeout", "tls")),
        *(d for d in view.of(DialFailure) if d.error in ("timeout", "tls")),
        *lost,
    ]
    guests = [
        link for link in view.of(Link) if link.ifname.startswith(("tap", "k6t-", "vnet", "cilium_wg", "wg"))
    ]
    passed = [p for p in view.of(Ping) if p.ok]
    yield Hypothesis(
        subject=f"{links[0].ifname}, route {routes[0].dst}",
        title=f"The link says {links[0].mtu}, the route {routes[0].mtu}: the smaller one counts, and it leaves room.",
        checks=(
            shown(
                "the route carries a smaller MTU than the link",
                [routes[0], links[0]],
                weight=1.1,
                required=True,
            ),
            shown(
                "a probe above it fails locally, before the wire",
                local,
                weight=1.6,
                required=not passed,
                decide="ping -M do -s 1472 PEER   # message too long, mtu=…",
            ),
            shown("probes up to it pass", passed, weight=0.9, required=not local),
            judged("nothing is lost on the way", not failed, failed, weight=1.0, required=True),
            judged(
                "no guest or tunnel is attached that cannot see the route", not guests, guests, weight=0.8
            ),
        ),
        explains=("packets above the route's MTU are never sent",),
        prior=-1.4,
    )


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="The link MTU looks too large, but the route MTU already leaves room.",
    severity="benign",
    inputs=(Route, Link, Ping, HttpExchange, DialFailure),
    needs=(Route,),
    rivals=("tunnel-mtu-exceeds-underlay", "route-mtu-not-visible-to-nested-vm"),
    check=check,
)
