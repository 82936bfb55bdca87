"""Pods send through an inner overlay into a gateway whose outgoing VPN interface has a smaller MTU.

What happens
------------
The overlay fits the node's underlay, but the gateway forwards into a VPN in series behind it, whose device has less
room. Full-size segments with DF end at the gateway.

How to tell it from its neighbours
----------------------------------
The narrow device is the gateway's VPN, not the device beneath the overlay. TCP connects, then the first large record
from either side stalls; only traffic through the gateway fails.

Fix
---
Set the inner overlay's MTU below the VPN's, or clamp the MSS at the gateway.

References
----------
net/ipv4/ip_forward.c ip_exceeds_mtu; net/netfilter/xt_TCPMSS.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.net import Link
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.node import Ping
from deadhop.snapshot.sizes import devices, limits, probes

SLUG = "inner-overlay-mtu-exceeds-vpn-egress-mtu"


def check(view: View) -> Iterator[Hypothesis]:
    sized = devices(view.of(Link))
    vpns = [d for d in sized if d.role == "vpn"]
    overlays = [d for d in sized if d.role == "tunnel" and d.name not in {v.name for v in vpns}]
    for vpn in vpns:
        larger = [d for d in overlays if d.mtu > vpn.mtu]
        if not larger:
            continue
        stalled = [
            *(e for e in view.of(HttpExchange) if e.error in ("timeout", "tls")),
            *(d for d in view.of(DialFailure) if d.error in ("timeout", "tls")),
        ]
        edges = limits(probes(view.of(Ping)))
        sharp = [p.record for e in edges if e[0].length <= vpn.mtu < e[1].length for p in e]
        yield Hypothesis(
            subject=f"{larger[0].name} into {vpn.name}",
            title=f"The overlay sends up to {larger[0].mtu} bytes, the gateway's {vpn.name} takes {vpn.mtu}.",
            checks=(
                judged(f"the overlay's MTU {larger[0].mtu} is above the VPN's {vpn.mtu}", True, [larger[0].record, vpn.record], weight=1.8, required=True),
                shown("sizes pass and fail around the VPN's MTU", sharp, weight=1.2, decide=f"ping -M do -s {vpn.mtu - 27} DESTINATION   # through the gateway"),
                shown("connections stall after the handshake", stalled, weight=0.5),
            ),
            explains=("TCP connects, the first large record stalls",),
            fixes=(
                Fix(title=f"Set the overlay's MTU to {vpn.mtu} or less", artifact=f"ip link set dev {larger[0].name} mtu {vpn.mtu}\n"),
                Fix(title="Clamp the MSS at the gateway", artifact=f"iptables -t mangle -A FORWARD -o {vpn.name} -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu\n"),
            ),
            prior=-1.0,
        )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="An inner overlay sends into a gateway whose VPN interface has a smaller MTU.",
    inputs=(Link, Ping, HttpExchange, DialFailure),
    needs=(Link,),
    rivals=("tunnel-mtu-exceeds-underlay", "mss-clamp-missing-on-tunnel-path"),
    check=check,
)
