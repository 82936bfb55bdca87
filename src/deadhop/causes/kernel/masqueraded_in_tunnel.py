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
from deadhop.model.net import Address, Link, Route
from deadhop.model.netfilter import ConntrackEntry, IptablesTable
from deadhop.model.observed.kernel import Counter, MartianSource
from deadhop.model.observed.kube import Node
from deadhop.model.observed.node import RouteGet
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.shell import CommandRun
from deadhop.model.record import Record
from deadhop.snapshot.attribution import nodes_by_address
from deadhop.snapshot.captures import one_sided
from deadhop.snapshot.firewall import network, rules, within

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
    "kilo",
    "nebula",
    "wireguard",
    "antrea-tun",
    "antrea-wg",
    "ovn0",
    "vx-submariner",
    "zt",
    "nm-",
    "sit",
)
#: Kinds of link that encapsulate (ip-link(8), TYPE).
KINDS = (
    "vxlan",
    "geneve",
    "ipip",
    "gre",
    "gretap",
    "sit",
    "wireguard",
    "tun",
    "ip6tnl",
    "ip6gre",
    "xfrm",
    "vti",
)
NICS = ("eth", "en", "bond", "em", "team")


def check(view: View) -> Iterator[Hypothesis]:
    tunnels = (*TUNNELS, *sorted({link.ifname for link in view.of(Link) if link.kind in KINDS}))
    # A pod's packet to another node's pod may carry the tunnel's own address, which belongs into the tunnel.
    own = {a.local for a in view.of(Address) if a.ifname.startswith(tunnels)}
    packets = [
        p
        for p in view.of(CapturedPacket)
        if p.dev.startswith(tunnels) and p.src and p.dst and not {p.src, p.dst} & own
    ]
    pods = [r.dst for r in view.of(Route) if _tunnelled(r, tunnels) and _wide(r.dst)]
    nodes = {a.local for a in view.of(Address) if a.ifname.startswith(NICS)}
    nodes |= nodes_by_address(view.of(Node)).keys()
    nodes |= {r.to.partition(":")[0] for r in rules(view.of(IptablesTable)) if r.target == "SNAT" and r.to}
    routed: list[Record] = [
        r
        for r in view.of(Route)
        if _tunnelled(r, tunnels) and any(within(n, r.dst) for n in nodes) and r.dst != "default"
    ]
    routed += [
        r
        for r in view.of(Route)
        if _tunnelled(r, tunnels) and not _wide(r.dst) and any(r.dst in (p.src, p.dst) for p in packets)
    ]
    routed += [
        g
        for g in view.of(RouteGet)
        if g.dev.startswith(tunnels) and any(g.dst in (p.src, p.dst) for p in packets)
    ]
    elsewhere = [
        p
        for p in view.of(CapturedPacket)
        if p.dev
        and not p.dev.startswith(tunnels)
        and p.direction != "in"
        and any((p.dst, p.src) == (q.src, q.dst) for q in packets)
    ]
    sure = nodes | {p.src for p in elsewhere}
    hosts = [p for p in packets if not within(p.src, *pods) and not within(p.dst, *pods)]
    # Where a node's address is known, what other hosts send through the tunnel is the pods' own healthy traffic.
    outer = [p for p in hosts if {p.src, p.dst} & sure] or [
        p for p in hosts if _same(p.src, p.dst) and not (nodes and pods)
    ]
    forward = {(p.src, p.dst) for p in outer}
    runs = view.of(CommandRun)
    masked = [
        e for e in view.of(ConntrackEntry) if _masked(e) and any(e.reply[:2] == (p.dst, p.src) for p in outer)
    ]
    one_way = [
        p
        for p in outer
        if (p.dst, p.src) not in forward and _asks(p) and (elsewhere or not one_sided(p, runs))
    ]
    counted = [c for c in view.of(Counter) if c.name.endswith("IPReversePathFilter") and c.value > 0]
    if not packets:
        yield from _tracked(view, tunnels, nodes - own, own, counted)
    if not one_way or len(forward) != len({frozenset(pair) for pair in forward}):
        return
    yield Hypothesis(
        subject=f"{one_way[0].src} -> {one_way[0].dst} on {one_way[0].dev}",
        title=f"The tunnel {one_way[0].dev} carries packets between node addresses, and no answer comes back through it.",
        checks=(
            shown("the tunnel carries packets between node addresses, one way only", one_way, weight=1.6, required=True, decide="tcpdump -ni TUNNEL"),
            shown("the answer leaves on another device, or node addresses are routed into the tunnel", [*elsewhere, *routed], weight=1.0, decide=f"ip route get {one_way[0].dst}"),
            shown("the connection is a pod's, translated to the node's address and never answered", masked, weight=0.5, decide=f"conntrack -L -d {one_way[0].dst}"),
            shown("the kernel drops one side as martian", [*view.of(MartianSource), *counted], weight=0.5),
        ),
        explains=("pods cannot reach other nodes' addresses, while pod-to-pod traffic works",),
        fixes=(Fix(title="Keep node addresses out of the tunnel", artifact="ip rule show; ip route show table all | grep TUNNEL\n# restrict the tunnel's routes to pod networks\n"),),
        prior=-1.2,
    )  # fmt: skip


def _tracked(
    view: View, tunnels: tuple[str, ...], nodes: set[str], own: set[str], counted: list[Counter]
) -> Iterator[Hypothesis]:
    """The same without a capture: the sender's connection tracker has the translation and no answer, and its lookup for the
    other node, as the pod's packet makes it, leaves by the tunnel."""
    lookups = [g for g in view.of(RouteGet) if g.dev.startswith(tunnels)]
    plain = {g.dst for g in view.of(RouteGet) if g.dev.startswith(NICS) and not (g.from_ or g.iif)}
    for entry in view.of(ConntrackEntry):
        pod, node = entry.original[:2]
        if not _masked(entry) or entry.reply[1] in own or node not in nodes | plain:
            continue
        here = [g for g in lookups if g.dst == node and (g.from_ in ("", pod) or within(pod, g.from_))]
        ways: list[Record] = [*here]
        ways += [r for r in view.of(Route) if _tunnelled(r, tunnels) and r.dst.removesuffix("/32") == node]
        if not ways:
            continue
        yield Hypothesis(
            subject=f"{entry.reply[1]} -> {node}",
            title=f"A pod's packet to the node {node} is translated to this node's address and leaves by the tunnel; no answer comes.",
            checks=(
                shown("the node's address is routed into the tunnel for a pod's packet", ways, weight=1.6, required=True, decide=f"ip route get {node} from {pod} iif BRIDGE"),
                shown("the connection is translated to the node's address and never answered", [entry], weight=1.0, required=True),
                shown("the kernel drops one side as martian", [*view.of(MartianSource), *counted], weight=0.5),
            ),
            explains=("pods cannot reach other nodes' addresses, while pod-to-pod traffic works",),
            fixes=(Fix(title="Keep node addresses out of the tunnel", artifact="ip rule show; ip route show table all | grep TUNNEL\n# restrict the tunnel's routes to pod networks\n"),),
            prior=-1.2,
        )  # fmt: skip
        return


def _masked(entry: ConntrackEntry) -> bool:
    """Whether a connection's source is translated, and no packet of the other direction came back."""
    return (
        entry.reply[1] != entry.original[0]
        and entry.reply[0] == entry.original[1]
        and "UNREPLIED" in entry.status
    )


def _tunnelled(route: Route, tunnels: tuple[str, ...]) -> bool:
    return any(leg.dev and leg.dev.startswith(tunnels) for leg in route.legs)


def _wide(dst: str) -> bool:
    """Whether a route's destination is a network, and not one host (which iproute2 writes without a length)."""
    return "/" in dst and not dst.endswith(("/32", "/128")) and dst != "0.0.0.0/0"


def _asks(packet: CapturedPacket) -> bool:
    """Whether a packet demands an answer: an echo request, the first of a connection, a DNS query."""
    if packet.icmp:
        return packet.icmp.type in (8, 128)
    return packet.tcp_flags == "S" or bool(packet.dns and not packet.dns.response)


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
        ConntrackEntry,
        Route,
        Address,
        Link,
        RouteGet,
        Counter,
        MartianSource,
        Node,
        IptablesTable,
        CommandRun,
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
