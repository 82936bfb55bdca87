"""Pod traffic is marked as untracked, so NAT rules that depend on connection tracking never apply.

What happens
------------
The CNI installs NOTRACK rules for the pod network in the raw table, to save connection tracking. iptables'
MASQUERADE needs a tracked connection, so packets leave with the pod's own address and no reply comes.

How to tell it from its neighbours
----------------------------------
No-track rules and MASQUERADE rules exist together, the latter with counters at zero. The exclusion network is
right, which separates it from a wrong exclusion.

Fix
---
Masquerade in the datapath instead of iptables, or do not install the no-track rules.

References
----------
Cilium installNoConntrackIptablesRules; net/netfilter/nf_nat_core.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.firewall import FirewallRule
from deadhop.model.observed.policy import CiliumOption
from deadhop.snapshot.firewall import rules

SLUG = "notrack-disables-iptables-masquerade"

FLAGS = ("installNoConntrackIptablesRules", "install-no-conntrack-iptables-rules")
BPF = ("bpf.masquerade", "enable-bpf-masquerade", "bpfMasquerade")


def check(view: View) -> Iterator[Hypothesis]:
    every = rules(view.of(IptablesTable), view.of(FirewallRule))
    untracked = [
        r
        for r in every
        if r.target == "NOTRACK"
        and not r.dport
        and "--dport" not in r.text
        and "--sport" not in r.text
        and "lo" not in (r.in_dev, r.out_dev)
    ]
    flag = [o for o in view.of(CiliumOption) if o.key in FLAGS and o.value == "true"]
    if not untracked and not flag:
        return
    masquerade = [r for r in every if r.target in ("MASQUERADE", "masquerade")]
    idle = [r for r in masquerade if r.packets == 0]
    off = [o for o in view.of(CiliumOption) if o.key in BPF and o.value == "false"]
    on = [o for o in view.of(CiliumOption) if o.key in BPF and o.value == "true"]
    iptables = [*(r.record for r in masquerade), *off]
    yield Hypothesis(
        subject="no-track rules",
        title="Pod traffic is untracked, so the MASQUERADE rules never apply.",
        checks=(
            shown("rules mark pod traffic as untracked", [*(r.record for r in untracked), *flag], weight=1.2, required=True, decide="iptables -t raw -S | grep -iE 'notrack'"),
            judged("masquerading is left to iptables", False if on else (True if iptables else None), on or iptables, weight=1.2, required=True, decide="iptables -t nat -nvL | grep MASQUERADE"),
            shown("the MASQUERADE rules count nothing", [r.record for r in idle], weight=0.6),
        ),
        explains=("packets leave the node with the pod's own address and get no reply",),
        fixes=(Fix(title="Masquerade in the datapath", artifact="helm upgrade cilium cilium/cilium -n kube-system --reuse-values --set bpf.masquerade=true\n# or: --set installNoConntrackIptablesRules=false\n"),),
        prior=-1.1,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="Pod traffic is untracked, so iptables masquerading never applies.",
    inputs=(
        IptablesTable,
        FirewallRule,
        CiliumOption,
    ),
    needs=(
        IptablesTable,
        FirewallRule,
        CiliumOption,
    ),
    rivals=("masquerade-exclusion-cidr-wrong",),
    check=check,
)
