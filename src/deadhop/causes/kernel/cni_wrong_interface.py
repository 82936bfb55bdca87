"""On a node with several interfaces the CNI's detection picked an address that its peers cannot reach.

What happens
------------
The CNI takes the first address it finds: that of a bridge, of a NAT card that every virtual machine has alike, or
of another network. Peering and tunnels then go to or from an address that is of no use.

How to tell it from its neighbours
----------------------------------
Peers or tunnel ends are of another network than the node addresses, or two nodes claim the same one. The port is
open on the right address, which excludes a firewall.

Fix
---
Configure the detection explicitly: by interface, by network or by what it must reach.

References
----------
Calico IP autodetection methods; flannel --iface and --iface-can-reach; kubelet --node-ip.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.net import Address, Link
from deadhop.model.observed.kube import Node, mapping, mappings
from deadhop.model.observed.message import Message
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.record import Record
from deadhop.snapshot.attribution import nodes_by_address
from deadhop.snapshot.firewall import within
from deadhop.snapshot.said import said

SLUG = "cni-selected-wrong-node-interface"

#: Devices whose address no peer can reach.
INNER = (
    "docker",
    "br-",
    "virbr",
    "lxdbr",
    "cni",
    "cali",
    "flannel",
    "tunl",
    "veth",
    "lxc",
    "kube-",
    "nodelocaldns",
    "vxlan",
    "dummy",
    "podman",
    "vmnet",
    "tailscale",
    "wg",
)
#: The first card of VirtualBox and QEMU user networking has this address on every guest.
SAME = ("10.0.2.15", "172.17.0.1", "172.18.0.1", "192.168.122.1", "127.0.0.1", "127.0.1.1")


def check(view: View) -> Iterator[Hypothesis]:
    messages = view.of(Message)
    picked = [m for m in said(messages, "node-address") if m.field("address")]
    conflict: list[Record] = [*said(messages, "node-address-conflict"), *_shared(view.of(Node))]
    broken = [
        m
        for m in said(messages, "bgp-not-established", "bgp-peer")
        if m.kind == "bgp-not-established" or m.field("state") != "up" or "Established" not in m.field("info")
    ]
    claimed = {a: n for n in view.of(Node) for a in [_claimed(n)] if a}
    # One listing may show the annotation of a node, another its address.
    own: dict[str, list[str]] = {}
    for node in view.of(Node):
        own.setdefault(node.name, []).extend(node.internal_ips)
    peers = {
        a: m
        for m in broken
        for a in re.findall(r"\d+\.\d+\.\d+\.\d+", m.field("peers") or m.field("address"))
    }
    nodes = nodes_by_address(view.of(Node))
    inner = [m for m in picked if m.field("dev").startswith(INNER) or m.field("address") in SAME]
    inner_peers = [m for a, m in peers.items() if a in SAME]
    foreign = [m for m in picked if nodes and m.field("address") not in nodes]
    matching = [m for m in picked if m.field("address") in nodes]
    tunnelled = [
        p
        for p in view.of(CapturedPacket)
        if p.dport in (4789, 8472, 6081, 51820, 179) and (p.src in SAME or p.dst in SAME)
    ]
    elsewhere = [
        p
        for p in view.of(CapturedPacket)
        if nodes and p.dport in (4789, 8472, 6081, 51820, 179) and not ({p.src, p.dst} & set(nodes))
    ]
    cards = sorted(
        {
            a.ifname
            for a in view.of(Address)
            if a.family == 4 and a.ifname.startswith(("eth", "en", "bond", "ib"))
        }
    )
    several = [a for a in view.of(Address) if a.ifname in cards] if len(cards) > 1 else []
    inner_addresses = {a.local for a in view.of(Address) if a.ifname.startswith(INNER)}
    astray: list[Record] = [
        n
        for a, n in claimed.items()
        if own[n.name]
        and a not in own[n.name]
        and (a in SAME or a in inner_addresses or not _near(a, own[n.name]))
    ]
    ends = _ends(view, nodes)
    signs = [*astray, *ends, *inner, *inner_peers, *foreign, *tunnelled, *elsewhere, *conflict]
    if not picked and not signs:
        return
    broken_at = [
        m for m in broken if set(re.findall(r"\d+\.\d+\.\d+\.\d+", m.field("address"))) & set(claimed)
    ]
    shown_address = (
        next((m.field("address") for m in (*inner, *foreign)), "")
        or next((a for a, n in claimed.items() if n in astray), "")
        or next((_end(r) for r in ends), "")
        or next((a for a in peers if a in SAME), "")
        or next((_claimed(n) or n.internal_ips[0] for n in conflict if isinstance(n, Node)), "an address")
    )
    yield Hypothesis(
        subject=f"node address {shown_address}",
        title=f"The CNI picked {shown_address}, which peers cannot reach.",
        checks=(
            judged("the address is of an inner device or of another network than the node's", True if signs else (False if matching and not signs else None), signs or matching, weight=1.5, required=True, decide="kubectl get nodes -o wide; kubectl describe node | grep -E 'public-ip|IPv4Address'"),
            shown("peering or tunnels with it fail", [*broken, *tunnelled], weight=0.6, decide="calicoctl node status"),
            shown("the address is of a device inside the node", [a for a in view.of(Address) if a.local in claimed and a.ifname.startswith(INNER)] if astray else [], weight=0.6),
            shown("the broken peering is with that address", broken_at if astray else [], weight=0.5),
            shown("the node has several interfaces", several, weight=0.4, decide="ip -br addr"),
            shown("two nodes claim one address", [*conflict, *_twice(ends, view.of(Address))], weight=0.6),
        ),
        explains=("pods of different nodes cannot reach each other",),
        fixes=(Fix(title="Name the interface", artifact="# Calico: kubectl -n kube-system set env ds/calico-node IP_AUTODETECTION_METHOD=cidr=NODE-NETWORK\n# flannel: --iface=DEVICE\n# kubelet: --node-ip=ADDRESS\n"),),
        prior=-1.2,
    )  # fmt: skip


def _ends(view: View, nodes: dict[str, Node]) -> list[Record]:
    """Tunnel ends, of peers and of the node itself, that are no address of a node: the same on every guest, the node's own
    for a peer, or of another network than all nodes."""
    mine = {(a.where, a.local) for a in view.of(Address)}
    outer = [str(a.get("address")) for n in view.of(Node) for a in mappings(n.raw, "status", "addresses")]
    outer += [str(mapping(n.raw, "cells").get("EXTERNAL-IP")) for n in view.of(Node)]
    ends: list[Record] = [*said(view.of(Message), "tunnel-peer"), *(d for d in view.of(Link) if _end(d))]
    return [
        r
        for r in ends
        if _end(r) in SAME
        or (isinstance(r, Message) and (r.where, _end(r)) in mine)
        or (nodes and _end(r) not in outer and not _near(_end(r), list(nodes)))
    ]


def _end(record: Record) -> str:
    """The outer address of a peer's tunnel end, or of a VXLAN device's own one."""
    if isinstance(record, Message):
        return record.field("dst")
    info = record.info if isinstance(record, Link) and record.kind == "vxlan" else None
    return str((info or {}).get("local") or "")


def _twice(ends: list[Record], addresses: list[Address]) -> list[Record]:
    """Peers behind the address that the node itself has."""
    mine = {(a.where, a.local) for a in addresses}
    return [r for r in ends if isinstance(r, Message) and (r.where, _end(r)) in mine]


#: Annotations in which CNIs publish the address that they picked.
PICKED = ("projectcalico.org/IPv4Address", "flannel.alpha.coreos.com/public-ip")


def _claimed(node: Node) -> str:
    """The address that the CNI picked for a node, by the annotation it leaves there."""
    annotations = mapping(node.raw, "metadata", "annotations")
    return next((str(annotations[k]).partition("/")[0] for k in PICKED if annotations.get(k)), "")


def _shared(nodes: list[Node]) -> list[Record]:
    """Nodes of different names that have one address: the one that the CNI picked, or the kubelet for it."""
    by_address: dict[str, dict[str, Node]] = {}
    for node in nodes:
        for address in {_claimed(node), *node.internal_ips} - {""}:
            by_address.setdefault(address, {})[node.name] = node
    return [n for named in by_address.values() if len(named) > 1 for n in named.values()]


def _near(address: str, addresses: list[str]) -> bool:
    """Whether an address lies in the same /16 as one of the node's: two cards of one site, which may reach each other."""
    return any(within(address, f"{own}/16") for own in addresses if ":" not in own)


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="The CNI's detection picked a node address that its peers cannot reach.",
    inputs=(
        Message,
        Node,
        CapturedPacket,
        Address,
        Link,
    ),
    needs=(
        Message,
        Node,
        Link,
        CapturedPacket,
    ),
    rivals=(
        "node-firewall-rejects-pod-traffic",
        "foreign-ip-rule-table-lacks-pod-routes",
    ),
    check=check,
)
