"""Something flushed or rewrote the NAT table, and the hostPort rules, written only when a pod is made, were not restored.

What happens
------------
kube-proxy and the CNI put their Service rules back within seconds. The portmap plugin writes a pod's hostPort rules
once, at ADD. A firewall restart, a restored file or an agent's clean-up removes the chains or the jumps to them.

How to tell it from its neighbours
----------------------------------
The hostPort chains, or the jumps to them from PREROUTING and OUTPUT, are missing while Service rules are there. A
stale rule is present and wrong instead. Recreating the pod restores its port.

Fix
---
Recreate the hostPort pods, and do not flush or restart the firewall under them.

References
----------
containernetworking/plugins portmap (CNI-HOSTPORT-DNAT); firewalld reload.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.kube import Pod
from deadhop.model.observed.message import Message
from deadhop.model.observed.shell import CommandRun, LineCount
from deadhop.model.record import Record
from deadhop.snapshot.firewall import rules
from deadhop.snapshot.said import said
from deadhop.snapshot.silence import silent

SLUG = "iptables-flush-lost-hostport-rules"


def check(view: View) -> Iterator[Hypothesis]:
    tables = [t for t in view.of(IptablesTable) if t.name == "nat"]
    every = rules(tables)
    service = [
        r
        for r in every
        if r.chain.startswith(("KUBE-SERVICES", "KUBE-SVC", "KUBE-SEP", "CILIUM_"))
        or r.target == "KUBE-SERVICES"
    ]
    chains = [
        r
        for r in every
        if r.chain.startswith(("CNI-DN", "CNI-SN", "CNI-HOSTPORT")) or "hostport" in r.chain.lower()
    ]
    jumps = [
        r
        for r in every
        if r.target in ("CNI-HOSTPORT-DNAT", "KUBE-HOSTPORTS") and r.chain in ("PREROUTING", "OUTPUT")
    ]
    flushed = [
        c
        for c in view.of(CommandRun)
        if re.search(
            r"iptables\S* .*(?:-F\b|--flush|-X\b)|iptables-restore|nft flush|(?:systemctl|service) .*(?:restart|reload|stop|start).*(?:firewalld|iptables|nftables|ufw)|(?:firewalld|iptables|ufw) (?:restart|reload)|firewall-cmd --(?:complete-)?reload|rollout restart .*(?:cilium|calico|flannel|kube-proxy)",
            c.line,
        )
    ]
    missing = [m for m in said(view.of(Message), "no-chain") if _about_hostports(m, view.of(CommandRun))]
    base = [r for r in every if r.chain in ("PREROUTING", "OUTPUT")]
    declared = [
        t for t in tables if any(c.startswith(("CNI-HOSTPORT-DNAT", "KUBE-HOSTPORTS")) for c in t.chains)
    ]
    looked: list[Record] = [
        c for c in silent(view.of(CommandRun)) if re.search(r"iptables.*grep.*(?i:hostport|CNI-DN)", c.line)
    ]
    looked += [c for c in view.of(LineCount) if not c.count and re.search(r"(?i:hostport|CNI-DN)", c.pattern)]
    flushed_by = said(view.of(Message), "firewall-running", "firewall-rewritten")
    flushed_by = [
        m
        for m in flushed_by
        if m.field("unit") in ("iptables", "nftables", "firewalld", "ufw", "netfilter-persistent")
    ]
    yield from _beside(view, tables, looked, [*flushed, *flushed_by])
    wanted = view.where(Pod, lambda p: "hostPort" in str(p.raw))
    gone = (
        (service or base) and not jumps and not chains and (flushed or (base and wanted and flushed_by))
    ) or (declared and flushed and not jumps)
    unjumped = chains and base and not jumps
    if not (chains or service or missing or declared) or not (
        flushed or flushed_by or unjumped or missing or chains
    ):
        return
    counted = [
        c for c in view.of(LineCount) if c.pattern.lstrip("-A ").startswith(("KUBE-S", "KUBE-N")) and c.count
    ]
    yield Hypothesis(
        subject="hostPort rules",
        title="The hostPort rules, or the jumps to them, are gone from the NAT table.",
        checks=(
            judged("the hostPort chains or the jumps to them are missing", False if jumps and not missing else (True if gone or unjumped or missing else None), [r.record for r in jumps] if jumps and not missing else [*(r.record for r in chains or service), *missing], weight=1.4, required=True, decide="iptables -t nat -S | grep -E 'HOSTPORT|CNI-DN'"),
            shown("Service rules are there", [*(r.record for r in service), *counted], weight=0.4),
            shown("the firewall was restarted, flushed or restored", [*flushed, *flushed_by], weight=1.0, decide="journalctl -u firewalld -u iptables --since today"),
            shown("pods ask for hostPort", wanted, weight=0.3),
        ),
        explains=("host ports refuse connections, while Services and pod addresses work",),
        fixes=(Fix(title="Recreate the pods", artifact="kubectl -n NAMESPACE delete pod -l APP  # the CNI writes the rules at ADD\n"),),
        prior=-1.2,
    )  # fmt: skip


def _about_hostports(message: Message, runs: list[CommandRun]) -> bool:
    """Whether the chain that is missing is one of the hostPorts', by the message or by the command that asked for it."""
    before = [r for r in runs if r.source.file == message.source.file and r.source.line < message.source.line]
    asked = before[-1].line if before else ""
    return not asked or bool(re.search(r"hostport|CNI-DN", message.text + asked, re.I))


def _beside(
    view: View, tables: list[IptablesTable], looked: list[Record], flushed: list[Record]
) -> Iterator[Hypothesis]:
    """One node's table beside another's: the other has the chains, and here a search for them printed nothing."""
    for empty in looked:
        here = [t for t in tables if t.where == empty.where]
        there = [t for t in tables if t.where != empty.where and any("HOSTPORT" in c for c in t.chains)]
        services = [t for t in here if any("KUBE-SERVICES" in r.args for r in t.rules)]
        counts = [c for c in view.of(LineCount) if c.where == empty.where and "KUBE" in c.pattern and c.count]
        ports = view.where(Pod, lambda p: "hostPort" in str(p.raw))
        if any("HOSTPORT" in c for t in here for c in t.chains) or not (there or flushed or ports):
            continue
        yield Hypothesis(
            subject="hostPort rules",
            title="This node's NAT table has no hostPort rules, although Services' rules are there.",
            checks=(
                shown("a search for the hostPort chains prints nothing", [empty], weight=1.0, required=True),
                shown("Service rules are there", [*services, *counts], weight=0.7, required=True, decide="iptables-save -t nat | grep -c KUBE-SVC"),
                shown("another node has them", there, weight=0.9, decide="ssh OTHER-NODE iptables-save -t nat | grep HOSTPORT"),
                shown("the firewall was restarted, flushed or restored", flushed, weight=1.0, decide="journalctl -u firewalld -u iptables --since today"),
                shown("pods ask for hostPort", ports if flushed or there else [], weight=0.4),
            ),
            explains=("host ports refuse connections, while Services and pod addresses work",),
            fixes=(Fix(title="Recreate the pods", artifact="kubectl -n NAMESPACE delete pod -l APP  # the CNI writes the rules at ADD\n"),),
            prior=-1.3,
        )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="The NAT table was flushed or rewritten and the hostPort rules were not restored.",
    inputs=(
        IptablesTable,
        CommandRun,
        Message,
        Pod,
        LineCount,
    ),
    needs=(
        IptablesTable,
        CommandRun,
        Message,
    ),
    rivals=(
        "stale-hostport-dnat-rule",
        "node-firewall-rejects-pod-traffic",
    ),
    check=check,
)
