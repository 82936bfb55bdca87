"""Bridged packets bypass iptables, so a reply from a backend on the same bridge is not translated back and the client rejects it.

What happens
------------
The Service's address is translated on the way out, in the IP stack. The backend on the same bridge answers the
client directly over layer 2; with bridge netfilter off nobody translates the source back, and the client answers
with a reset.

How to tell it from its neighbours
----------------------------------
A Service fails only where the backend is on the client's node; the pod's address works. The sysctl is 0, or the
module is not loaded. Where guests suffer from the sysctl being 1, it is the opposite pattern.

Fix
---
Load br_netfilter and set the sysctl to 1, both persistently.

References
----------
Kubernetes network plugin requirements; Documentation/networking/ip-sysctl bridge-nf-call-iptables; kube-proxy
proxier.go.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.net import Link, Sysctl
from deadhop.model.observed.kube import Event
from deadhop.model.observed.message import Message
from deadhop.model.observed.node import SysctlSetting
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.shell import Attempt, CommandRun
from deadhop.snapshot.captures import untranslated
from deadhop.snapshot.firewall import within
from deadhop.snapshot.readings import standing
from deadhop.snapshot.said import said
from deadhop.snapshot.silence import silent

SLUG = "bridge-nf-call-iptables-disabled"

KEYS = ("net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables")


def check(view: View) -> Iterator[Hypothesis]:
    values = [s for s in view.of(Sysctl) if s.key in KEYS]
    off = [s for s in standing(values) if s.value == "0"]
    missing = [
        *said(view.of(Message), "bridge-nf-missing"),
        *(
            m
            for m in said(view.of(Message), "sysctl-missing", "preflight-file")
            if "net/bridge" in m.field("path").replace(".", "/")
        ),
        *view.where(Event, lambda e: "bridge-nf-call-iptables" in e.message and "no such file" in e.message),
        *(m for m in said(view.of(Message), "module-not-loaded") if m.field("module") == "br_netfilter"),
        *(
            c
            for c in silent(view.of(CommandRun))
            if c.program == "lsmod" and "br_netfilter" in " ".join(c.filters)
        ),
    ]
    replies = [p for p in untranslated(view.of(CapturedPacket)) if _one_bridge(p.src, p.dst)]
    forced = [s for s in view.of(SysctlSetting) if s.key in KEYS and s.value == "0"]
    guests = view.where(
        Link, lambda k: k.ifname.startswith(("virbr", "vnet", "vmbr", "lxdbr", "tap", "br-ex"))
    )
    if not off and not missing and not (replies and not values):
        if values and not forced:
            yield Hypothesis(
                subject=KEYS[0],
                title="Bridged packets bypass iptables.",
                checks=(judged("bridge netfilter is off", False, values, required=True),),
            )
        return
    unmatched = [p for p in view.of(CapturedPacket) if "R" in p.tcp_flags and p not in replies]
    same = [a for a in view.of(Attempt) if not a.ok]
    yield Hypothesis(
        subject=KEYS[0],
        title="Bridge netfilter is off: replies on the same bridge are not translated back.",
        checks=(
            shown("bridge netfilter is off or its module is not loaded", [*off, *missing], weight=1.5, required=True, decide=f"sysctl {KEYS[0]}; lsmod | grep br_netfilter"),
            judged("no guest bridge relies on it being off", False if guests and not missing else None, guests if not missing else (), weight=0.8),
            shown("the backend's reply comes untranslated to a client of its own network", replies, weight=1.2),
            shown("a client resets, or a Service fails", [*unmatched, *same], weight=0.5),
        ),
        explains=("a Service works only when its backend is on another node",),
        fixes=(Fix(title="Load the module and set the sysctl", artifact="echo br_netfilter > /etc/modules-load.d/k8s.conf\nmodprobe br_netfilter\nprintf 'net.bridge.bridge-nf-call-iptables = 1\\nnet.bridge.bridge-nf-call-ip6tables = 1\\n' > /etc/sysctl.d/k8s.conf\nsysctl --system\n"),),
        prior=-0.9,
    )  # fmt: skip


def _one_bridge(one: str, other: str) -> bool:
    """Whether two addresses are of one node's pods: of one /24, the usual share of a node (kube-controller-manager
    --node-cidr-mask-size)."""
    return ":" not in one and within(one, f"{other}/24")


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="Bridged packets bypass iptables, so same-node Service replies are not translated back.",
    inputs=(
        Sysctl,
        Message,
        Event,
        SysctlSetting,
        Link,
        CapturedPacket,
        Attempt,
        CommandRun,
    ),
    needs=(
        Sysctl,
        Message,
        CommandRun,
        CapturedPacket,
    ),
    rivals=(
        "bridge-nf-call-iptables-forced-on",
        "ip-forward-disabled-by-sysctl-file",
    ),
    check=check,
)
