"""A component's init step writes a sysctl that the running kernel does not have, and fails.

What happens
------------
The component was built against newer kernels and writes a file below /proc/sys that this kernel lacks, because of
its age or its configuration. The init step ends with an error before any network is set up.

How to tell it from its neighbours
----------------------------------
The log says that the file does not exist, and not that permission is denied. Only nodes with that kernel are
affected. A missing bridge netfilter file only needs its module.

Fix
---
Use a release of the component that tolerates the missing sysctl, or update the kernel.

References
----------
proc(5); Documentation/admin-guide/sysctl/net.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.net import KernelRelease
from deadhop.model.observed.kube import Pod
from deadhop.model.observed.message import Message
from deadhop.snapshot.said import said

SLUG = "sysctl-missing-on-old-kernel"


def check(view: View) -> Iterator[Hypothesis]:
    missing = [
        m
        for m in said(view.of(Message), "sysctl-missing")
        if "net/bridge" not in m.field("path").replace(".", "/") and "nf_conntrack" not in m.field("path")
    ]
    denied = said(view.of(Message), "sysctl-denied")
    if not missing:
        if denied:
            yield Hypothesis(
                subject="sysctl",
                title="A sysctl is missing.",
                checks=(judged("the sysctl does not exist", False, denied, required=True),),
            )
        return
    path = missing[0].field("path")
    old = list(view.of(KernelRelease))
    restarting = [p for p in view.of(Pod) if any(w in p.phase for w in ("CrashLoop", "Init:", "Error"))]
    yield Hypothesis(
        subject=path or "sysctl",
        title=f"{path or 'A sysctl'} does not exist on this kernel, and the step that writes it fails.",
        checks=(
            shown("a program finds the sysctl's file missing", missing, weight=1.9, required=True),
            shown("the kernel's release is known", old, weight=0.3, decide="uname -r"),
            shown("the container restarts before any network set-up", restarting, weight=0.5, decide="kubectl get pods -A -o wide | grep -v Running"),
        ),
        explains=("the component restarts on nodes with this kernel only",),
        fixes=(Fix(title="Use a release that tolerates it, or update the kernel", artifact="uname -r\nls /proc/sys/net/ipv4 /proc/sys/net/core\n"),),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="An init step writes a sysctl that the running kernel does not have.",
    inputs=(
        Message,
        KernelRelease,
        Pod,
    ),
    needs=(Message,),
    rivals=(
        "bridge-nf-call-iptables-disabled",
        "ip-forward-disabled-by-sysctl-file",
    ),
    check=check,
)
