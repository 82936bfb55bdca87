"""The tunnel accepts packets which, once encapsulated, are larger than what has to carry them.

What happens
------------
The overlay device's MTU plus the bytes of encapsulation exceed the MTU of the underlay interface or path. Packets that
fit the tunnel are dropped or fragmented outside; the inner sender learns nothing, or of a limit nobody told it.

How to tell it from its neighbours
----------------------------------
Tunnel MTU plus overhead is greater than the underlay's MTU. Failure depends on size with a sharp limit, between pods of
different nodes only. If host-to-host traffic fails by size as well, the NIC's own MTU is wrong.

Fix
---
Set the tunnel MTU to the underlay's MTU minus the overhead, and restart what derives from it.

References
----------
drivers/net/vxlan, geneve, net/ipv4/ipip; CNI MTU settings.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.artifacts import mtu as artifact
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.finding import Check
from deadhop.model.net import Link, Route
from deadhop.model.observed.kube import Node
from deadhop.model.observed.message import Message
from deadhop.model.observed.node import Ping, RouteGet
from deadhop.model.observed.policy import CiliumOption
from deadhop.snapshot.attribution import nodes_by_address
from deadhop.snapshot.sizes import Sized, devices, limits, probes

SLUG = "tunnel-mtu-exceeds-underlay"
CILIUM = ("cilium_", "lxc")


def check(view: View) -> Iterator[Hypothesis]:
    sized = devices(view.of(Link), view.of(CiliumOption))
    tunnels = [d for d in sized if d.role in ("tunnel", "vpn") and d.encapsulation]
    nics = [d for d in sized if d.role == "nic"]
    too_big = [m for m in view.of(Message) if m.kind == "overlay-frame-too-big"]
    for tunnel in tunnels:
        row = tunnel.encapsulation
        assert row is not None
        for nic in nics:
            # WireGuard's padding is a cause of its own; an MTU that leaves no room even without padding is this one.
            padded = row.kind == "wireguard" and tunnel.mtu + row.over_v4 <= nic.mtu
            if not padded and tunnel.rests_on(nic) and not _routes_decide(view, tunnel):
                yield _hypothesis(view, tunnel, nic, row.over_v4)
        yield from _over_path(view, tunnel, nics)
    if too_big:
        yield _from_messages(too_big)


def _routes_decide(view: View, tunnel: Sized) -> bool:
    """Cilium leaves its tunnel's device at the underlay's MTU and puts the lower one on routes (pkg/mtu): without those
    routes the device says nothing."""
    routes = [r for r in view.of(Route) if any(leg.dev and leg.dev.startswith(CILIUM) for leg in r.legs)]
    return tunnel.name.startswith(CILIUM) and not any(r.mtu is None for r in routes)


def _hypothesis(view: View, tunnel: Sized, nic: Sized, overhead: int) -> Hypothesis:
    fits = tunnel.mtu + overhead <= nic.mtu
    edge = next(
        (e for e in limits(probes(view.of(Ping))) if e[0].length <= nic.mtu - overhead < e[1].length), None
    )
    return Hypothesis(
        subject=f"{tunnel.name} over {nic.name}",
        title=f"{tunnel.name} has MTU {tunnel.mtu}; with {overhead} bytes of encapsulation its packets exceed the {nic.mtu} of {nic.name}.",
        checks=(
            judged(f"{tunnel.mtu} and {overhead} bytes of encapsulation exceed {nic.mtu}", not fits, [tunnel.record, nic.record], weight=2.2, required=True),
            shown("probes pass and fail around the size that the underlay leaves", [edge[0].record, edge[1].record] if edge else [], weight=1.0, decide="ping -M do -s SIZE REMOTE-POD-IP   # find the sharp limit"),
        ),
        explains=("small packets between pods of different nodes pass, large ones do not", "pods of one node are not affected"),
        fixes=_fixes(nic.mtu - overhead, {tunnel.name}),
        prior=-1.2,
    )  # fmt: skip


def _over_path(view: View, tunnel: Sized, nics: list[Sized]) -> Iterator[Hypothesis]:
    """The tunnel fits the device beneath it, and not the path to other nodes, as the host itself measured it."""
    row = tunnel.encapsulation
    info = tunnel.record.info if isinstance(tunnel.record, Link) else None
    if row is None or (info or {}).get("pmtudisc") is False:
        return
    if any(tunnel.mtu + row.over_v4 > n.mtu for n in nics if tunnel.rests_on(n)):
        return
    nodes = set(nodes_by_address(view.of(Node)))
    for path in view.of(RouteGet):
        from_host = path.where.startswith("host ") and path.where == (tunnel.where or path.where)
        if not path.mtu or path.dev == tunnel.name or tunnel.mtu + row.over_v4 <= path.mtu:
            continue
        if not (from_host or path.dst in nodes) or path.mtu <= tunnel.mtu - row.over_v4:
            continue
        room = path.mtu - row.over_v4
        edge = next((e for e in limits(probes(view.of(Ping))) if e[0].length <= room < e[1].length), None)
        yield Hypothesis(
            subject=f"{tunnel.name} towards {path.dst or 'another node'}",
            title=f"{tunnel.name} has MTU {tunnel.mtu}; with {row.over_v4} bytes of encapsulation its packets exceed the {path.mtu} of the path to {path.dst or 'another node'}.",
            checks=(
                judged(f"{tunnel.mtu} and {row.over_v4} bytes of encapsulation exceed the measured path MTU of {path.mtu}", True, [tunnel.record, path], weight=1.7, required=True),
                shown("probes pass and fail around the size that the path leaves", [edge[0].record, edge[1].record] if edge else [], weight=1.0, decide="ping -M do -s SIZE REMOTE-POD-IP   # find the sharp limit"),
            ),
            explains=("small packets between pods of different nodes pass, large ones do not",),
            fixes=_fixes(room, {tunnel.name}),
            prior=-1.2,
        )  # fmt: skip


def _from_messages(too_big: list[Message]) -> Hypothesis:
    mtu = min(int(m.field("mtu") or 1500) for m in too_big)
    smaller = [m for m in too_big if m.field("length") and int(m.field("length")) > int(m.field("mtu"))]
    return Hypothesis(
        subject=f"the overlay, effective path MTU {mtu}",
        title=f"The overlay drops frames that are larger than the {mtu} bytes that its path carries.",
        checks=(
            Check(
                text=f"the overlay itself drops frames above its effective path MTU of {mtu}",
                holds=True,
                weight=2.4,
                required=True,
                records=tuple(too_big),
            ),
            shown("the frames' length is above it", smaller, weight=0.5),
        ),
        explains=("datagrams with DF and large segments are lost between nodes",),
        fixes=_fixes(mtu - 14, {"weave"} if any("weave" in m.text for m in too_big) else set()),
        prior=-1.0,
    )


def _fixes(mtu: int, names: set[str]) -> tuple[Fix, ...]:
    return (
        Fix(
            title=f"Set the tunnel's MTU to {mtu}",
            artifact=artifact.table(artifact.seen(names), mtu),
            note="Pods keep their old MTU until they are recreated.",
        ),
    )


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="The tunnel's MTU plus its encapsulation exceeds what the underlay carries.",
    inputs=(Link, CiliumOption, Message, Ping, Route, RouteGet, Node),
    needs=(Link, Message),
    rivals=("node-nic-mtu-higher-than-underlay", "wireguard-padding-exceeds-underlay-mtu", "inner-overlay-mtu-exceeds-vpn-egress-mtu", "benign-route-mtu-below-link-mtu"),
    check=check,
)  # fmt: skip
