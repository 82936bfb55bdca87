"""Traffic of the hosts takes its size from a full-MTU route although encryption adds overhead later.

What happens
------------
With node encryption the CNI encrypts host traffic after routing. Pods have a route MTU that leaves room; host-network
senders use the underlay's full MTU, and the encrypted packet exceeds the wire.

How to tell it from its neighbours
----------------------------------
Pods have a reduced route MTU and are fine. Host routes carry none. No device limits it, since encryption comes after
routing; full-size DF probes from the host seem to pass only because the outer packet is fragmented.

Fix
---
Lower the MTU of host routes (or of the underlay device) for encrypted node-to-node traffic.

References
----------
Cilium encryption.nodeEncryption; drivers/net/wireguard; net/ipv4/esp4.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.net import Link, Route
from deadhop.model.observed.policy import CiliumOption
from deadhop.snapshot.sizes import devices

SLUG = "host-route-mtu-ignores-node-encryption"
NODE = ("encryption.nodeencryption", "encrypt-node", "nodeencryption")


def check(view: View) -> Iterator[Hypothesis]:
    on = [
        o for o in view.of(CiliumOption) if o.key.lower() in NODE or o.key.lower().endswith(".nodeencryption")
    ]
    enabled = [o for o in on if o.value.lower() == "true"]
    any_encryption = [
        o
        for o in view.of(CiliumOption)
        if o.key.lower() in ("encryption.enabled", "enable-wireguard", "enable-ipsec", "encryption.type")
        and o.value.lower() in ("true", "wireguard", "ipsec")
    ]
    routes = view.of(Route)
    # A tunnel device or a route that is smaller than the others holds the room that encryption takes.
    tunnels = [d for d in devices(view.of(Link)) if d.role == "tunnel" and d.mtu]
    limit = min((d.mtu for d in tunnels), default=0)
    reduced = [r for r in routes if r.mtu and not (limit and r.mtu > limit)]
    nics = [d for d in devices(view.of(Link)) if d.role == "nic"]
    full = [
        r
        for r in routes
        if (limit and r.mtu and r.mtu > limit)
        or (not r.mtu and r.legs and r.legs[0].dev and any(n.name == r.legs[0].dev for n in nics))
        or (not r.mtu and r.where.startswith(("host", "node")))
    ]
    if not (enabled or (any_encryption and reduced and full)):
        return
    yield Hypothesis(
        subject="routes of the host's own traffic",
        title="Host traffic is encrypted after routing, but its routes leave no room for the overhead.",
        checks=(
            shown("traffic between nodes is encrypted", [*enabled, *any_encryption], weight=1.0, required=True, decide="cilium-dbg encrypt status; kubectl -n kube-system get cm cilium-config -o yaml | grep encrypt"),
            shown("host traffic is included (node encryption)", enabled, weight=0.8),
            shown("routes or the encrypting device carry a reduced MTU", [*reduced, *(d.record for d in tunnels if full)], weight=0.7, decide="ip route show table all | grep mtu"),
            shown("the host's own routes carry none, or more than fits", full, weight=1.0, required=True, decide="ip route get OTHER-NODE-IP   # on the host"),
            judged("no device limits it: encryption is applied after routing", True, weight=0.0, inferred=True),
        ),
        explains=("host-network pods and the kubelet send full-size packets that do not fit once encrypted",),
        fixes=(Fix(title="Give the host routes an MTU that leaves room", artifact=f"ip route change OTHER-NODES via GATEWAY dev NIC mtu {limit or 1420}   # WireGuard needs 60 bytes over IPv4, 80 over IPv6\n"),),
        prior=-1.3,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="Host routes leave no room for the encryption that is applied after routing.",
    inputs=(CiliumOption, Route, Link),
    needs=(CiliumOption,),
    rivals=("tunnel-mtu-exceeds-underlay", "wireguard-padding-exceeds-underlay-mtu"),
    check=check,
)
