"""WireGuard pads the inner packet to a block, so one inside the tunnel's MTU still becomes too large outside.

What happens
------------
WireGuard rounds the inner packet up to a multiple of 16 bytes before it encrypts (never above the tunnel's MTU where
it knows it). Where the MTU is enforced by a route and not by the device that pads, or over IPv6 with its larger outer
header, the padded packet no longer fits the underlay.

How to tell it from its neighbours
----------------------------------
The limit found by probing is a few bytes below the tunnel's MTU and lies on a padding boundary. Tunnel MTU plus headers
looks exact on paper. A tunnel that is simply too large has its limit at the underlay's MTU minus the overhead.

Fix
---
Lower the tunnel's and the pods' route MTU so that the padded packet fits.

References
----------
drivers/net/wireguard/send.c calculate_skb_padding; MESSAGE_PADDING_MULTIPLE 16.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.artifacts import mtu as artifact
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.encapsulation import WIREGUARD_PADDING
from deadhop.model.net import Link, Route
from deadhop.model.observed.node import Ping
from deadhop.snapshot.sizes import devices, limit, probes, route_mtus

SLUG = "wireguard-padding-exceeds-underlay-mtu"


def check(view: View) -> Iterator[Hypothesis]:
    tunnels = [d for d in devices(view.of(Link)) if d.encapsulation and d.encapsulation.kind == "wireguard"]
    for tunnel in tunnels:
        edges = [e for v6 in (False, True) if (e := limit(probes(view.of(Ping), v6)))]
        padded = [
            e
            for e in edges
            if e[0].length < tunnel.mtu
            and e[1].length == e[0].length + 1
            and e[0].length % WIREGUARD_PADDING == 0
        ]
        routes = [r for r in route_mtus(view.of(Route)) if r.mtu == tunnel.mtu]
        edge = padded[0] if padded else (edges[0] if edges else None)
        if edge is None and not routes:
            continue
        yield Hypothesis(
            subject=f"{tunnel.name}, MTU {tunnel.mtu}",
            title=f"Packets above {edge[0].length if edge else '?'} bytes do not pass {tunnel.name} although its MTU is {tunnel.mtu}: WireGuard pads to {WIREGUARD_PADDING} bytes.",
            checks=(
                judged("the largest size that passes lies on a 16-byte boundary below the tunnel's MTU", True if padded else (False if edges else None), [edge[0].record, edge[1].record] if edge else [], weight=2.4, required=True, decide="ping -M do -s SIZE REMOTE-POD-IP   # find the largest size that passes"),
                judged(f"the tunnel's MTU is {tunnel.mtu}", True, [tunnel.record], weight=0.3, required=True),
                shown("pods' routes use the tunnel's whole MTU", routes, weight=0.6),
            ),
            explains=("the next byte is padded by a whole block and no longer fits outside",),
            fixes=(Fix(title=f"Lower the MTU to {tunnel.mtu // WIREGUARD_PADDING * WIREGUARD_PADDING - WIREGUARD_PADDING}", artifact=artifact.table(artifact.seen({tunnel.name}), tunnel.mtu // WIREGUARD_PADDING * WIREGUARD_PADDING - WIREGUARD_PADDING)),),
            prior=-1.2,
        )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="WireGuard's padding makes packets inside the tunnel's MTU too large outside.",
    inputs=(Link, Route, Ping),
    needs=(Link,),
    rivals=("tunnel-mtu-exceeds-underlay", "host-route-mtu-ignores-node-encryption"),
    check=check,
)
