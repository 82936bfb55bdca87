"""A link policy of udev changes the MAC address of new veth interfaces after the CNI recorded the old one.

What happens
------------
Since systemd 242 the default link file has MACAddressPolicy=persistent, which also covers virtual devices. The CNI
reads the host end's address and writes it into the pod as a static neighbour; udev then sets another, and frames go
to an address that no longer exists.

How to tell it from its neighbours
----------------------------------
A link monitor shows the host end's MAC changing between creation and link up, or the pod's static neighbour entry
differs from the real MAC. Addresses, routes and rules are right. A network manager would change routes instead.

Fix
---
Install a link file that leaves the MAC address of veth devices alone.

References
----------
systemd.link(5) MACAddressPolicy; systemd 242 NEWS; Cilium system requirements; AWS VPC CNI troubleshooting.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.net import Link, Neighbour
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "udev-rewrites-veth-mac"


def check(view: View) -> Iterator[Hypothesis]:
    links = [
        k
        for k in view.of(Link)
        if k.address and k.ifname.startswith(("veth", "cali", "lxc", "eni", "azv", "gke", "dummy", "cilium"))
    ]
    first: dict[str, Link] = {}
    changed: list[Record] = []
    for link in links:
        known = first.setdefault(f"{link.where} {link.ifname} {link.ifindex}", link)
        if known.address != link.address:
            changed += [known, link]
    host = {k.address for k in links}
    # A tunnel's permanent neighbours are the remote ends of the tunnel, and no veth of this node.
    tunnels = {
        (k.where, k.ifname) for k in view.of(Link) if k.kind in ("vxlan", "geneve", "wireguard", "ipip")
    }
    static = [
        n
        for n in view.of(Neighbour)
        if n.lladdr and "PERMANENT" in (n.state or ()) and (n.where, n.dev) not in tunnels
    ]
    stale = [n for n in static if host and n.lladdr not in host and n.lladdr != "ee:ee:ee:ee:ee:ee"]
    policy = [m for m in said(view.of(Message), "link-file") if m.field("value") in ("persistent", "random")]
    left = [m for m in said(view.of(Message), "link-file") if m.field("value") == "none"]
    told = [
        m
        for m in said(view.of(Message), "udev-mac")
        if not m.field("dev") or m.field("dev").startswith(("veth", "cali", "lxc", "eni", "azv", "gke"))
    ]
    if not (changed or stale or told or policy or left):
        return
    yield Hypothesis(
        subject="veth MAC addresses",
        title="udev gives new veth devices another MAC address than the one that the CNI recorded.",
        checks=(
            shown("the MAC of a host end changed, or a pod's static neighbour differs from it", [*changed, *stale] or (told if policy else ()), weight=1.7, required=True, decide="ip monitor link; ip netns exec POD ip neigh; ip link show VETH"),
            judged("udev's link policy applies to virtual devices", False if left and not policy else (True if policy or told else None), left if left and not policy else [*policy, *told], weight=0.9, required=bool(left and not policy), decide="grep -r MACAddressPolicy /etc/systemd/network /usr/lib/systemd/network"),
            shown("the link came up with the new address", changed[1:], weight=0.1),
        ),
        explains=("pods made after the operating system's update have no network, older ones work",),
        fixes=(Fix(title="Leave the MAC of veths alone", artifact="# /etc/systemd/network/98-veth.link\n[Match]\nDriver=veth\n\n[Link]\nMACAddressPolicy=none\n"),),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="A udev link policy changes the MAC address of new veth interfaces.",
    inputs=(
        Link,
        Neighbour,
        Message,
    ),
    needs=(
        Link,
        Message,
        Neighbour,
    ),
    rivals=(
        "networkmanager-manages-cni-interfaces",
        "neighbour-table-overflow",
        "networkd-deletes-foreign-ip-rules",
    ),
    check=check,
)
