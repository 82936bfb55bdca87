"""Service rules seem absent because they live in the other iptables backend; packets do hit them.

What happens
------------
iptables comes with two backends, and each tool lists its own tables. kube-proxy picks the one that the host uses;
the tool at hand may be the other.

How to tell it from its neighbours
----------------------------------
The tool warns of tables in the other backend. A trace or counters show the Service chains in use, and traffic
works. Rules that are really missing leave no trace.

Fix
---
None needed; list the rules with the other backend's tool.

References
----------
iptables(8) nft and legacy variants; kubernetes-sigs/iptables-wrappers.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Hypothesis, View, judged, shown
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.firewall import FirewallTrace
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.kernel import NetfilterLog
from deadhop.model.observed.message import Message
from deadhop.model.observed.shell import Attempt, CommandRun, LineCount
from deadhop.snapshot.said import said

SLUG = "benign-rules-in-other-iptables-backend"


def check(view: View) -> Iterator[Hypothesis]:
    warned = said(view.of(Message), "other-backend")
    used = [
        log
        for log in view.of(NetfilterLog)
        if any(c in log.rule for c in (":KUBE-", ":CILIUM", ":cali-", ":CNI-"))
    ]
    traced = [t for t in view.of(FirewallTrace) if t.chain.startswith(("KUBE-", "CILIUM", "cali-"))]
    tables = view.of(IptablesTable)
    counted = [
        t
        for t in tables
        if any(r.packets and r.chain.startswith(("KUBE-", "CILIUM", "cali-")) for r in t.rules)
    ]
    two = [t for t in tables if any(c.startswith("KUBE-SERVICES") for c in t.chains)]
    bare = [
        t
        for t in tables
        if t.name == "nat"
        and not any(c.startswith("KUBE-") for c in t.chains)
        and not any(r.target.startswith("KUBE-") for r in t.rules)
    ]
    legacy = view.where(
        CommandRun,
        lambda c: c.program.startswith(
            ("iptables-legacy", "iptables-nft", "ip6tables-legacy", "ip6tables-nft")
        ),
    )
    full = [n for n in view.of(LineCount) if n.count and n.program.startswith(("iptables-legacy", "iptables-nft", "iptables-save")) and n.pattern.startswith(("KUBE", "CILIUM", "cali"))]  # fmt: skip
    empty = [n for n in view.of(LineCount) if n.count < 20 and not n.pattern and n.program.startswith("iptables") and any(f.program != n.program for f in full)]  # fmt: skip
    backends = said(view.of(Message), "backend")
    if not warned and not (bare and two and legacy) and not (full and empty):
        return
    works = [
        *used,
        *traced,
        *counted,
        *([*two] if bare else []),
        *view.where(Attempt, lambda a: a.ok),
        *view.where(HttpExchange, lambda x: x.status is not None and x.status < 500),
    ]
    broken = [
        *view.where(HttpExchange, lambda x: bool(x.error)),
        *view.where(Attempt, lambda a: not a.ok),
        *view.where(DialFailure, lambda d: d.error != ""),
    ]
    yield Hypothesis(
        subject="iptables backends",
        title="The Service rules live in the other iptables backend; nothing is missing.",
        checks=(
            shown("the tool warns of tables in the other backend, or the other tool lists them", warned or ([*legacy, *two] if bare and two else [*full, *empty]), weight=1.0, required=True, decide="iptables-legacy-save | grep -c KUBE; iptables-nft-save | grep -c KUBE"),
            shown("packets hit the Service chains, or calls work", works, weight=1.6, required=True, decide="nft monitor trace; curl SERVICE-IP"),
            judged("nothing fails", False if broken else None, broken, weight=1.2, required=bool(broken)),
            shown("the listing of this backend has no Service chain", bare, weight=0.4),
            shown("the tool names its backend", backends, weight=0.2),
        ),
        explains=("the chains seem absent although Services work",),
        prior=-1.0,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="Service rules seem absent because they live in the other iptables backend.",
    severity="benign",
    inputs=(
        Message,
        NetfilterLog,
        FirewallTrace,
        IptablesTable,
        CommandRun,
        LineCount,
        Attempt,
        HttpExchange,
        DialFailure,
    ),
    needs=(
        Message,
        IptablesTable,
        LineCount,
    ),
    rivals=("iptables-flush-lost-hostport-rules",),
    check=check,
)
