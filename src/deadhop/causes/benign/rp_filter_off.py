"""Reverse-path filtering is off on a node whose CNI needs it off.

What happens
------------
CNIs that route answers over another device than requests set rp_filter to 0 on their devices and on conf.all. A scanner
calls that a hardening fault; turning it on breaks pods.

How to tell it from its neighbours
----------------------------------
Every value is zero, those of the CNI's devices among them, no martian line is logged and nothing fails. One value above
zero on conf.all or on such a device is a fault.

Fix
---
None needed.

References
----------
Documentation/networking/ip-sysctl.rst rp_filter; Cilium daemon sysctl setup of rp_filter.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model import cni
from deadhop.model.cause import Cause, Hypothesis, View, judged, shown
from deadhop.model.net import Listing, Sysctl
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.kernel import MartianSource
from deadhop.model.observed.kube import ProbeFailure
from deadhop.model.observed.node import SysctlSetting

SLUG = "benign-rp-filter-disabled-as-intended"


def check(view: View) -> Iterator[Hypothesis]:
    values = {
        s.key.split(".")[3]: s
        for s in view.of(Sysctl)
        if s.key.startswith("net.ipv4.conf.") and s.key.endswith(".rp_filter")
    }
    # Somebody who lists every setting does not suspect this one.
    whole = {listing.source.file for listing in view.of(Listing) if listing.what == "sysctls"}
    values = {dev: s for dev, s in values.items() if s.source.file not in whole}
    # A tally says what every device has; which of them are the CNI's, its own drop-in file says.
    tally = values.pop("*", None)
    own: list[Sysctl | SysctlSetting] = [
        s for dev, s in values.items() if (row := cni.device(dev)) and row.rp_filter == 0
    ]
    files = [s for s in view.of(SysctlSetting) if s.key == "net.ipv4.conf.all.rp_filter" and not s.exclude]
    every = [values["all"]] if "all" in values else [s for s in files if s.value == "0"]
    if tally is not None:
        own = own or [s for s in view.of(SysctlSetting) if _of_cni(s) and s.value == "0"]
        every = [tally]
        values["*"] = tally
    if not own or not every:
        return
    on = [s for s in values.values() if s.value != "0"]
    rules = [t for t in view.of(IptablesTable) if any("rpfilter" in r.args for r in t.rules)]
    trouble = [*view.of(MartianSource), *view.of(ProbeFailure), *view.of(DialFailure)]
    yield Hypothesis(
        subject="net.ipv4.conf.*.rp_filter",
        title="Reverse-path filtering is off on every device, as this CNI needs it.",
        checks=(
            judged("every value is 0", not on, on[:3] or every, weight=1.6, required=True),
            judged("no netfilter rule does the same check", not rules, rules, weight=0.5, required=True),
            shown("the CNI's own devices are among them", own[:3], weight=1.0, required=True),
            judged("no packet is logged as martian, and nothing fails", not trouble, trouble[:3], weight=0.8, required=True),
        ),
        explains=("nothing fails; turning the filter on would break pods",),
        prior=-1.2,
    )  # fmt: skip


def _of_cni(setting: SysctlSetting) -> bool:
    parts = setting.key.split(".")
    if len(parts) < 5 or parts[-1] != "rp_filter":
        return False
    row = cni.device(parts[3].rstrip("*"))
    return row is not None and row.rp_filter == 0


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="Reverse-path filtering is off, as the CNI needs it.",
    severity="benign",
    inputs=(Sysctl, SysctlSetting, Listing, IptablesTable, MartianSource, ProbeFailure, DialFailure),
    needs=(Sysctl,),
    rivals=("rp-filter-enabled-globally-on-node", "rp-filter-overwritten-by-systemd-sysctl"),
    check=check,
)
