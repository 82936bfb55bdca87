"""Pod packets that were masqueraded to the node's address go through the tunnel, while the answer takes the physical path.

What happens
------------
A tunnel route also covers node addresses. The pod's packet is translated to the node's address and still goes into
the tunnel; the other node answers to a node address, by its card. One side drops the flow as asymmetric.

How to tell it from its neighbours
----------------------------------
The tunnel carries packets whose source and destination are node addresses. The request is seen on the remote tunnel
device, and no reply is sent or it leaves elsewhere. Pod-to-pod traffic through the tunnel works.

Fix
---
Do not route node addresses through the tunnel; restrict tunnel routes to pod networks.

References
----------
kube-router overlay; Calico IPIP; ip-sysctl rp_filter.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.net import Address, Route
from deadhop.model.observed.kernel import MartianSource
from deadhop.model.observed.node import RouteGet
from deadhop.model.observed.packets import CapturedPacket
from deadhop.snapshot.firewall import network, within

SLUG = "masqueraded-pod-traffic-in-tunnel-asymmetric"

TUNNELS = (
    "tun",
    "tunl",
    "flannel.",
    "vxlan",
    "cilium_vxlan",
    "cilium_geneve",
    "kube-tun",
    "ipip",
    "gre",
    "geneve",
    "wg",
    "genev_sys",
    "weave",
)


def check(view: View) -> Iterator[Hypothesis]:
    packets = [p for p in view.of(CapturedPacket) if p.dev.startswith(TUNNELS) and p.src and p.dst]
    pods = [
        r.dst
        for r in view.of(Route)
        if r.dst not in ("default", "0.0.0.0/0")
        and any(leg.dev and leg.dev.startswith(TUNNELS) for leg in r.legs)
        and not r.dst.endswith("/32")
    ]
    routed = [
        *(
            r
            for r in view.of(Route)
            if any(leg.dev and leg.dev.startswith(TUNNELS) for leg in r.legs)
            and any(
                within(n.local, r.dst) for n in view.of(Address) if n.ifname.startswith(("eth", "en", "bond"))
            )
        ),
        *(
            g
            for g in view.of(RouteGet)
            if g.dev.startswith(TUNNELS) and any(g.dst in (p.src, p.dst) for p in packets)
        ),
    ]
    nodes = {a.local for a in view.of(Address) if a.ifname.startswith(("eth", "en", "bond"))}
    outer = [
        p
        for p in packets
        if not within(p.src, *pods)
        and not within(p.dst, *pods)
        and _same(p.src, p.dst)
        and (not nodes or {p.src, p.dst} & nodes or not pods)
    ]
    forward = {(p.src, p.dst) for p in outer}
    one_way = [
        p
        for p in outer
        if (p.dst, p.src) not in forward and not (p.icmp and p.icmp.type == 0) and p.tcp_flags in ("", "S")
    ]
    if not one_way or len({(p.src, p.dst) for p in outer}) != len({frozenset((p.src, p.dst)) for p in outer}):
        return
    elsewhere = [
        p
        for p in view.of(CapturedPacket)
        if not p.dev.startswith(TUNNELS) and p.dev and (p.dst, p.src) in forward
    ]
    yield Hypothesis(
        subject=f"{one_way[0].src} -> {one_way[0].dst} on {one_way[0].dev}",
        title=f"The tunnel {one_way[0].dev} carries packets between node addresses, and no answer comes back through it.",
        checks=(
            shown("the tunnel carries packets between node addresses, one way only", one_way, weight=1.6, required=True, decide="tcpdump -ni TUNNEL"),
            shown("the answer leaves on another device, or node addresses are routed into the tunnel", [*elsewhere, *routed], weight=1.0, decide=f"ip route get {one_way[0].dst}"),
            shown("the kernel drops one side as martian", view.of(MartianSource), weight=0.4),
        ),
        explains=("pods cannot reach other nodes' addresses, while pod-to-pod traffic works",),
        fixes=(Fix(title="Keep node addresses out of the tunnel", artifact="ip rule show; ip route show table all | grep TUNNEL\n# restrict the tunnel's routes to pod networks\n"),),
        prior=-1.2,
    )  # fmt: skip


def _same(a: str, b: str) -> bool:
    """Whether both look like addresses of one node network: the same /16."""
    one = network(a + "/16") if ":" not in a else None
    return one is not None and within(b, str(one))


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="Masqueraded pod packets go through the tunnel while the answer takes the physical path.",
    inputs=(
        CapturedPacket,
        Route,
        Address,
        RouteGet,
        MartianSource,
    ),
    needs=(
        CapturedPacket,
        Route,
        RouteGet,
    ),
    rivals=(
        "rp-filter-drops-asymmetric-pod-reply",
        "masquerade-exclusion-cidr-wrong",
    ),
    check=check,
)
