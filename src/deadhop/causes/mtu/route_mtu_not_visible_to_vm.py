"""The CNI limits packets by a route MTU inside the pod; a guest bridged onto the link sees only the link MTU.

What happens
------------
The pod's link stays at 1500 and its route says less. Containers obey the route. A virtual machine or a nested stack
attached to the link (tap, bridge, macvtap) reads the link's MTU, announces an MSS from it and sends too much.

How to tell it from its neighbours
----------------------------------
Containers on the node work, guests stall. The guest's SYN announces the link's MSS. The tunnel's MTU itself is right.

Fix
---
Set an explicit smaller link MTU for the pod network, or configure the MTU in the guest.

References
----------
Cilium route MTU; KubeVirt bridge binding; virtio-net VIRTIO_NET_F_MTU.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.net import Link, Route
from deadhop.model.observed.kube import KubeObject
from deadhop.model.observed.packets import CapturedPacket

SLUG = "route-mtu-not-visible-to-nested-vm"
GUEST = ("tap", "k6t-", "vnet", "macvtap", "qbr", "kvm", "virbr")
HEADERS = 40


def check(view: View) -> Iterator[Hypothesis]:
    reduced = [r for r in view.of(Route) if r.mtu]
    links = [
        link
        for link in view.of(Link)
        if link.mtu
        and any(r.mtu and r.mtu < link.mtu for r in reduced)
        and (link.ifname.startswith(("eth", *GUEST)) or link.kind in ("macvtap", "tun"))
    ]
    guests = [
        link for link in view.of(Link) if link.ifname.startswith(GUEST) or link.kind in ("macvtap", "tun")
    ]
    machines = [
        o for o in view.of(KubeObject) if o.kind in ("VirtualMachine", "VirtualMachineInstance", "KubeVirt")
    ]
    syns = [
        p
        for p in view.of(CapturedPacket)
        if p.mss and "S" in p.tcp_flags and any(r.mtu and p.mss + HEADERS > r.mtu for r in reduced)
    ]
    if not reduced or not (guests or machines or syns):
        return
    mtu = min(r.mtu or 1500 for r in reduced)
    yield Hypothesis(
        subject=f"the pod's link and its route (mtu {mtu})",
        title=f"The pod's route says MTU {mtu}, its link more: a guest bridged onto the link never sees the limit.",
        checks=(
            shown("the route carries a smaller MTU", reduced, weight=0.7, required=True),
            shown("the link's own MTU stays larger", links, weight=0.7, decide="ip link; ip route   # inside the pod"),
            shown("a virtual machine or nested stack is attached to the link", [*guests, *machines], weight=1.3, required=not syns),
            shown("its SYN announces an MSS from the link's MTU", syns, weight=1.3, required=not (guests or machines)),
        ),
        explains=("containers on the node work",),
        fixes=(Fix(title="Set the MTU inside the guest, or on the link", artifact=f"ip link set dev eth0 mtu {mtu}   # in the guest; or the CNI's explicit MTU setting\n"),),
        prior=-1.3,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="A nested guest sees the link MTU and not the pod's smaller route MTU.",
    inputs=(Route, Link, KubeObject, CapturedPacket),
    needs=(Route,),
    rivals=("mss-clamp-missing-on-tunnel-path", "benign-route-mtu-below-link-mtu"),
    check=check,
)
