"""A node component turns bridge netfilter on although bridged guests rely on it being off.

What happens
------------
kube-proxy, Docker or a CNI writes 1 at each start. The layer 2 traffic of virtual machines and other bridged guests
then passes through the host's iptables and meets a FORWARD chain that does not know it.

How to tell it from its neighbours
----------------------------------
The sysctl is 1 against a persisted 0. Guests on a bridge lose traffic while pods are fine. Where Services on the
same node fail and the value is 0, it is the opposite pattern.

Fix
---
Keep the component from setting it, reset it after start, or accept bridged traffic in iptables.

References
----------
libvirt wiki, net.bridge-nf-call and sysctl.conf; kube-proxy proxier.go; moby bridge driver.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.net import Link, Sysctl
from deadhop.model.observed.kernel import NetfilterLog
from deadhop.model.observed.message import Message
from deadhop.model.observed.node import Ping, SysctlSetting
from deadhop.model.observed.shell import CommandRun
from deadhop.snapshot.readings import standing
from deadhop.snapshot.said import said

SLUG = "bridge-nf-call-iptables-forced-on"

KEYS = (
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.bridge.bridge-nf-call-arptables",
)


def check(view: View) -> Iterator[Hypothesis]:
    values = [s for s in view.of(Sysctl) if s.key in KEYS]
    on = [s for s in standing(values) if s.value == "1"]
    persisted = [s for s in view.of(SysctlSetting) if s.key in KEYS and s.value == "0"]
    forced = [
        m
        for m in said(view.of(Message), "sysctl-set")
        if "bridge-nf-call" in m.field("key") and m.field("value") == "1"
    ]
    reset = [
        c
        for c in view.of(CommandRun)
        if re.search(r"bridge-nf-call-iptables\s*=\s*0|echo 0 ?>.*bridge-nf-call", c.line)
    ]
    changes = [
        (off, now)
        for now in on
        for off in values
        if off.value == "0" and off.source.file == now.source.file and off.source < now.source
    ]
    changed = list(dict.fromkeys(now for _off, now in changes))
    restarted = [
        c
        for c in view.of(CommandRun)
        if c.program in ("systemctl", "service") and "restart" in c.argv
        if any(off.source < c.source < now.source for off, now in changes)
    ]
    lost = [
        p for p in view.of(Ping) if p.ok is False and any(_answered_before(view, p, now) for now in changed)
    ]
    guests = [
        *view.where(Link, lambda k: k.ifname.startswith(("virbr", "vnet", "vmbr", "lxdbr", "tap", "br-"))),
        *view.where(CommandRun, lambda c: c.program in ("virsh", "lxc", "incus", "qm", "brctl")),
    ]
    bridged = view.where(
        NetfilterLog, lambda n: n.in_dev == n.out_dev != "" or n.in_dev.startswith(("br", "virbr"))
    )
    if not (on or forced) or not (persisted or guests or reset or changed or bridged):
        return
    yield Hypothesis(
        subject=KEYS[0],
        title="Bridge netfilter is switched on although bridged guests rely on it being off.",
        checks=(
            shown("bridge netfilter is on", [*on, *forced], weight=0.8, required=True, decide=f"sysctl {KEYS[0]}"),
            shown("it is meant to be off: persisted as 0, or set back by hand", [*persisted, *reset, *changed], weight=1.0, required=not ((guests and forced) or bridged), decide="grep -rs bridge-nf-call /etc/sysctl.d /etc/sysctl.conf"),
            shown("bridged guests are on the host", [*guests, *bridged], weight=0.8, decide="ip -d link show type bridge"),
            shown("a component sets it at its start", [*forced, *restarted] if on else (), weight=0.8, decide="journalctl -u docker -u kubelet | grep bridge-nf"),
            shown("what answered before it was switched on does not any more", lost, weight=0.8),
        ),
        explains=("virtual machines on a bridge lose their network after a component's restart, pods do not",),
        fixes=(Fix(title="Accept bridged traffic", artifact="iptables -I FORWARD -m physdev --physdev-is-bridged -j ACCEPT\n"),),
        prior=-1.2,
    )  # fmt: skip


def _answered_before(view: View, lost: Ping, change: Sysctl) -> bool:
    """Whether the same end answered the same ping before ``change``, in the transcript that ``lost`` stands in behind it."""
    return any(
        before.source < change.source < lost.source
        for before in view.of(Ping)
        if before.ok and before.source.file == lost.source.file
        if (before.where, before.target) == (lost.where, lost.target)
    )


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="A node component turns bridge netfilter on although bridged guests rely on it being off.",
    inputs=(
        Sysctl,
        SysctlSetting,
        Message,
        CommandRun,
        Link,
        NetfilterLog,
        Ping,
    ),
    needs=(
        Sysctl,
        SysctlSetting,
        Message,
    ),
    rivals=(
        "bridge-nf-call-iptables-disabled",
        "docker-sets-forward-policy-drop",
    ),
    check=check,
)
