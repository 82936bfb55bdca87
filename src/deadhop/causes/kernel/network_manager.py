"""A host network manager treats CNI or secondary interfaces as its own, gives them addresses and rewrites their routes.

What happens
------------
NetworkManager, a DHCP client or wicked sees a new device and activates a profile on it. It sets a link-local or
leased address and flushes the routes that the CNI had made.

How to tell it from its neighbours
----------------------------------
The manager's log shows it activating a profile on a CNI's device, or its list shows the device as connected. Routes
are right just after creation and vanish soon after. Devices marked unmanaged keep working.

Fix
---
Mark the CNI's interfaces as unmanaged.

References
----------
NetworkManager.conf(5) unmanaged-devices; Calico, Troubleshooting: configure NetworkManager; dhcpcd.conf(5)
denyinterfaces.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.cni import device
from deadhop.model.net import Address
from deadhop.model.observed.message import Message
from deadhop.snapshot.said import said

SLUG = "networkmanager-manages-cni-interfaces"

ACTIVE = ("prepare", "config", "ip-config", "ip-check", "activated", "need-auth", "secondaries")


def check(view: View) -> Iterator[Hypothesis]:
    messages = view.of(Message)
    taken = [
        m
        for m in said(
            messages,
            "nm-activation",
            "nm-dhcp",
            "dhcp-client",
            "networkd-dhcp",
            "nm-device",
            "nm-device-state",
        )
        if _cni(m.field("dev"))
        and (
            m.kind not in ("nm-device", "nm-device-state")
            or (
                m.field("state").startswith(("connected", "connecting"))
                and "externally" not in m.field("state")
            )
            or m.field("state") in ACTIVE
        )
        and not (m.kind == "nm-activation" and "unmanaged" in m.text)
    ]
    external = [
        m
        for m in said(messages, "nm-device")
        if _cni(m.field("dev")) and ("externally" in m.field("state") or m.field("state") == "unmanaged")
    ]
    seen = [
        m
        for m in said(messages, "nm-log", "nm-new-device", "nm-device-state")
        if _cni(m.field("dev"))
        and m not in taken
        and "unmanaged" not in (m.field("before"), m.field("state"))
    ]
    linklocal = [
        a
        for a in view.of(Address)
        if _cni(a.ifname)
        and a.family == 4
        # An address of its own choice has the /16 of RFC 3927; node-local DNS and CNIs put single ones there.
        and ((a.local.startswith("169.254.") and a.prefixlen < 32) or "dynamic" in a.flags)
    ]
    if not taken and not linklocal and not external:
        return
    deleted = [
        m for m in said(messages, "route-deleted", "nm-route") if not m.field("dev") or _cni(m.field("dev"))
    ]
    devices = sorted({m.field("dev") for m in taken} | {a.ifname for a in linklocal})
    yield Hypothesis(
        subject=", ".join(devices) or "the CNI's interfaces",
        title=f"The host's network manager activates a profile on {', '.join(devices) or 'the CNI interfaces'}.",
        checks=(
            judged("the manager activates or leases on an interface of the CNI", bool(taken or linklocal), [*taken, *linklocal] or external, weight=2.0, required=True, decide="nmcli device; journalctl -u NetworkManager | grep -E 'cali|veth|lxc|eni'"),
            shown("it follows the CNI's devices as its own", seen, weight=0.3),
            shown("routes of those devices are removed", deleted, weight=0.7, decide="ip monitor route"),
        ),
        explains=("routes to pods appear and vanish soon after", "pods cannot be reached from their own node"),
        fixes=(Fix(title="Leave the CNI's devices unmanaged", artifact="# /etc/NetworkManager/conf.d/cni.conf\n[keyfile]\nunmanaged-devices=interface-name:cali*;interface-name:tunl*;interface-name:vxlan.calico;interface-name:veth*;interface-name:lxc*;interface-name:cilium*;interface-name:cni*;interface-name:flannel*;interface-name:eni*\n"),),
        prior=-1.0,
    )  # fmt: skip


def _cni(dev: str) -> bool:
    return bool(dev) and (
        device(dev) is not None
        or dev.startswith(("veth", "cni", "flannel", "tunl", "cilium", "kube-", "nodelocaldns", "dummy"))
    )


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="A host network manager treats the CNI's interfaces as its own.",
    inputs=(
        Message,
        Address,
    ),
    needs=(
        Message,
        Address,
    ),
    rivals=(
        "networkd-deletes-foreign-ip-rules",
        "udev-rewrites-veth-mac",
        "foreign-ip-rule-table-lacks-pod-routes",
    ),
    check=check,
)
