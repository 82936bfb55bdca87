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
from deadhop.snapshot.sizes import Probe, Sized, devices, limits, probes, route_mtus

SLUG = "wireguard-padding-exceeds-underlay-mtu"


def check(view: View) -> Iterator[Hypothesis]:
    sized = devices(view.of(Link))
    nics = [d for d in sized if d.role == "nic"]
    # A note of a ping names no target: its headers may be those of either family.
    unknown = [p for p in view.of(Ping) if not p.target]
    edges = [*limits(probes(view.of(Ping))), *limits(probes(unknown, v6=True))]
    for tunnel in sized:
        if tunnel.encapsulation is None or tunnel.encapsulation.kind != "wireguard":
            continue
        routes = [r for r in route_mtus(view.of(Route)) if (r.mtu or 0) <= tunnel.mtu]
        ceiling = min([tunnel.mtu, *(r.mtu for r in routes if r.mtu)])
        under = [n for n in nics if tunnel.rests_on(n)]
        padded = [e for e in edges if _on_boundary(e, ceiling) or _only_padding(e, ceiling, tunnel, under)]
        edge = padded[0] if padded else (edges[0] if edges else None)
        if edge is None and not routes:
            continue
        lower = ceiling // WIREGUARD_PADDING * WIREGUARD_PADDING - WIREGUARD_PADDING
        limited = f"its MTU is {tunnel.mtu}" if ceiling == tunnel.mtu else f"routes allow {ceiling}"
        yield Hypothesis(
            subject=f"{tunnel.name}, MTU {ceiling}",
            title=f"Packets above {edge[0].length if edge else '?'} bytes do not pass {tunnel.name} although {limited}: WireGuard pads to {WIREGUARD_PADDING} bytes.",
            checks=(
                judged("the largest size that passes lies on a 16-byte boundary below the MTU, or only padding makes the first lost one too large", True if padded else (False if edges else None), [edge[0].record, edge[1].record] if edge else [], weight=2.4, required=True, decide="ping -M do -s SIZE REMOTE-POD-IP   # find the largest size that passes"),
                judged(f"the tunnel's MTU is {tunnel.mtu}", True, [tunnel.record], weight=0.3, required=True),
                shown("routes into the tunnel carry an MTU above what passes", routes, weight=0.6),
            ),
            explains=("the next byte is padded by a whole block and no longer fits outside",),
            fixes=(Fix(title=f"Lower the MTU to {lower}", artifact=artifact.table(artifact.seen({tunnel.name}), lower)),),
            prior=-1.2,
        )  # fmt: skip


def _on_boundary(edge: tuple[Probe, Probe], ceiling: int) -> bool:
    """Probed to the byte: the last size that passes is a whole number of blocks, and the MTU allows more."""
    passed, lost = edge[0].length, edge[1].length
    return passed < ceiling and lost == passed + 1 and passed % WIREGUARD_PADDING == 0


def _only_padding(edge: tuple[Probe, Probe], ceiling: int, tunnel: Sized, nics: list[Sized]) -> bool:
    """By the numbers: what was lost fits the underlay with its headers, and does not once it is padded."""
    row = tunnel.encapsulation
    passed, lost = edge[0].length, edge[1].length
    if row is None or lost > ceiling or edge[1].record.error != "lost":
        return False
    overheads = (row.over_v4, row.over_v6)
    return any(
        _blocks(passed) + over <= nic.mtu and lost + over <= nic.mtu < _blocks(lost) + over
        for nic in nics
        for over in overheads
    )


def _blocks(length: int) -> int:
    return -(-length // WIREGUARD_PADDING) * WIREGUARD_PADDING


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="WireGuard's padding makes packets inside the tunnel's MTU too large outside.",
    inputs=(Link, Route, Ping),
    needs=(Link,),
    rivals=("tunnel-mtu-exceeds-underlay", "host-route-mtu-ignores-node-encryption"),
    check=check,
)
