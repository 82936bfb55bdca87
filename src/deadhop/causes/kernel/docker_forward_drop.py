"""The container engine sets the policy of the filter FORWARD chain to DROP, and no rule accepts forwarded pod traffic.

What happens
------------
Since 1.13 Docker sets the policy to DROP when it enables forwarding. Packets of pods that no CNI rule accepts fall
through to it, silently.

How to tell it from its neighbours
----------------------------------
The policy is DROP and the chain names no pod network or CNI chain. A firewall service rejects with an ICMP error
from a rule of its own; a policy drops without a word. With forwarding switched off nothing passes at all.

Fix
---
Accept the pod network in FORWARD (most CNIs can insert the rule), or set the policy to ACCEPT.

References
----------
moby libnetwork/iptables (FORWARD policy); flannel --iptables-forward-rules.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.firewall import FirewallChain, FirewallRule
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.message import Message
from deadhop.model.observed.node import Ping
from deadhop.model.observed.shell import Attempt, CommandRun
from deadhop.snapshot.firewall import policies, rules

SLUG = "docker-sets-forward-policy-drop"

CNI = (
    "KUBE-FORWARD",
    "FLANNEL-FWD",
    "CILIUM_FORWARD",
    "cali-FORWARD",
    "CNI-FORWARD",
    "WEAVE-NPC",
    "KUBE-ROUTER-FORWARD",
    "ANTREA-FORWARD",
    "KUBE-POD-FW",
)


#: Devices of the container engine itself: what it accepts for them says nothing of pods.
ENGINE = ("docker", "br-", "podman", "virbr", "lo")


def check(view: View) -> Iterator[Hypothesis]:
    tables = view.of(IptablesTable)
    forward = [
        p
        for p in policies(tables, view.of(FirewallChain))
        if p.chain in ("FORWARD", "forward") and p.table in ("filter", "")
    ]
    dropped = [p for p in forward if p.policy == "DROP"]
    said = [m for m in view.of(Message) if m.kind == "forward-policy-set" and m.field("policy") == "DROP"]
    if not forward and not said:
        return
    every = [
        r
        for r in rules(tables, view.of(FirewallRule))
        if r.chain in ("FORWARD", "FLANNEL-FWD", "CNI-FORWARD")
    ]
    docker = [
        r
        for r in rules(tables)
        if r.chain.startswith("DOCKER") or r.target.startswith("DOCKER") or "docker0" in (r.in_dev, r.out_dev)
    ]
    docker_chains = [t for t in tables if any(c.startswith("DOCKER") for c in t.chains)]
    accepting = [
        r
        for r in every
        if (r.target == "ACCEPT" and (r.src or r.dst) and not r.src.startswith("!"))
        or r.target in CNI[1:]
        or (
            r.target == "ACCEPT"
            and (r.in_dev or r.out_dev)
            and not any(d.startswith(ENGINE) for d in (r.in_dev.strip("! "), r.out_dev.strip("! ")))
        )
    ]
    rejecting = [r for r in every if r.target == "REJECT"]
    yield Hypothesis(
        subject="filter FORWARD",
        title="The policy of FORWARD is DROP, and no rule accepts forwarded pod traffic.",
        checks=(
            judged("the policy of FORWARD is DROP", bool(dropped or said), [p.record for p in dropped or forward] + [*said], weight=1.2, required=True, decide="iptables -S FORWARD"),
            judged("no rule of FORWARD accepts the pod network", False if accepting else (True if every or dropped else None), [r.record for r in accepting], weight=0.5, required=bool(accepting)),
            judged("no rule rejects before the policy", False if rejecting else None, [r.record for r in rejecting], weight=1.2, required=bool(rejecting)),
            shown("a container engine's chains are in the same table", [*(r.record for r in docker), *docker_chains], weight=0.7, decide="iptables -S | grep DOCKER"),
            shown("connections to pods time out", [*view.where(DialFailure, lambda d: d.error == "timeout"), *view.where(Ping, lambda p: p.ok is False), *view.where(Attempt, lambda a: not a.ok), *view.where(CommandRun, lambda c: "-P FORWARD ACCEPT" in c.line)], weight=0.5),
        ),
        explains=("pods of other nodes cannot be reached, while node to node works",),
        fixes=(Fix(title="Accept the pod network", artifact="iptables -I FORWARD -s POD-CIDR -j ACCEPT\niptables -I FORWARD -d POD-CIDR -j ACCEPT\n# or: iptables -P FORWARD ACCEPT\n"),),
        prior=-1.3,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="The policy of FORWARD is DROP and no rule accepts forwarded pod traffic.",
    inputs=(
        IptablesTable,
        FirewallChain,
        Message,
        FirewallRule,
        DialFailure,
        Ping,
        Attempt,
        CommandRun,
    ),
    needs=(
        IptablesTable,
        FirewallChain,
        Message,
    ),
    rivals=(
        "node-firewall-rejects-pod-traffic",
        "ip-forward-disabled-by-sysctl-file",
        "bridge-nf-call-iptables-forced-on",
    ),
    check=check,
)
