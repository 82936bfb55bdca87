"""A sysctl file sets IP forwarding to 0 and undoes, at boot or when it is applied again, what the container runtime had enabled.

What happens
------------
The runtime enables forwarding when it starts. A hardening file with ip_forward = 0 is applied after it, by
systemd-sysctl, by sysctl -p or by a package update.

How to tell it from its neighbours
----------------------------------
A file or a run of sysctl -p sets it to 0. Containers lose everything beyond the host while the host is fine. With a
DROP policy in FORWARD the value is 1.

Fix
---
Remove the entry, or add a later file that enables forwarding.

References
----------
sysctl.d(5); Kubernetes, container runtimes: prerequisites; moby daemon warnings.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.net import Listing, Sysctl
from deadhop.model.observed.message import Message
from deadhop.model.observed.node import SysctlSetting
from deadhop.model.observed.shell import CommandRun
from deadhop.snapshot.said import said

SLUG = "ip-forward-disabled-by-sysctl-file"

KEYS = ("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding", "net.ipv6.conf.all.forwarding")


def check(view: View) -> Iterator[Hypothesis]:
    live = [s for s in view.of(Sysctl) if s.key in KEYS]
    off = [s for s in live if s.value == "0"]
    files = [s for s in view.of(SysctlSetting) if s.key in KEYS and s.value == "0"]
    applied = view.where(
        CommandRun,
        lambda c: (
            c.program == "sysctl" and any(a.startswith(("-p", "--system", "--load")) for a in c.argv[1:])
        ),
    )
    by_file = [
        s
        for s in off
        if any(c.source.file == s.source.file and 0 < s.source.line - c.source.line <= 40 for c in applied)
    ]
    warned = [
        *said(view.of(Message), "forwarding-disabled"),
        *(
            m
            for m in said(view.of(Message), "preflight-file")
            if "ip_forward" in m.field("path") and "not set" in m.field("what")
        ),
    ]
    if not (off or files or warned):
        if live:
            yield Hypothesis(
                subject=KEYS[0],
                title="IP forwarding is off.",
                checks=(judged("forwarding is off", False, live, required=True),),
            )
        return
    if not (files or warned or by_file):
        # 0 is the kernel's default, and right for a pod and for a host without pods: in a whole listing it says
        # nothing, while somebody who asks for this one key has a reason.
        whole = {listing.source.file for listing in view.of(Listing) if listing.what == "sysctls"}
        off = [s for s in off if s.source.file not in whole]
        if not off:
            return
    on = [s for s in live if s.value == "1"] if not off else []
    yield Hypothesis(
        subject=KEYS[0],
        title="IP forwarding is off: a sysctl file sets it to 0.",
        checks=(
            judged("forwarding is off", not on, on or [*off, *warned, *files], weight=1.1, required=True, decide="sysctl net.ipv4.ip_forward"),
            shown("a file sets it to 0", [*files, *by_file], weight=1.2, decide="grep -rs ip_forward /etc/sysctl.conf /etc/sysctl.d /usr/lib/sysctl.d"),
            shown("the container engine warns of it", warned if off or files else (), weight=0.8),
        ),
        explains=("containers reach nothing beyond the host, while the host itself has network",),
        fixes=(Fix(title="Enable forwarding in a late file", artifact="# /etc/sysctl.d/99-forwarding.conf\nnet.ipv4.ip_forward = 1\n"),),
        prior=-0.9,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="A sysctl file sets IP forwarding to 0 and undoes what the container runtime had enabled.",
    inputs=(
        Sysctl,
        Listing,
        SysctlSetting,
        CommandRun,
        Message,
    ),
    needs=(
        Sysctl,
        SysctlSetting,
        Message,
    ),
    rivals=(
        "docker-sets-forward-policy-drop",
        "bridge-nf-call-iptables-disabled",
    ),
    check=check,
)
