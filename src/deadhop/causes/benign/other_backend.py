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

import re
from collections.abc import Iterator, Sequence

from deadhop.model.cause import Cause, Hypothesis, View, judged, shown
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.dns import DnsLookup
from deadhop.model.observed.firewall import FirewallRule, FirewallTrace
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.kernel import NetfilterLog
from deadhop.model.observed.message import Message
from deadhop.model.observed.shell import Attempt, CommandRun, LineCount
from deadhop.model.record import Record
from deadhop.snapshot.said import said
from deadhop.snapshot.silence import silent

SLUG = "benign-rules-in-other-iptables-backend"


#: Chains of kube-proxy and of network plugins that use iptables.
OURS = ("KUBE-", "CILIUM", "cali-", "CNI-")
#: A Service's or an endpoint's own chain: that one is missing is no word on the others.
_ONE = re.compile(r"KUBE-(?:SVC|SEP|FW|EXT|XLB)-\w+")
_MENTIONED = re.compile(r"KUBE|CILIUM|cali-|CNI-")


def check(view: View) -> Iterator[Hypothesis]:
    warned = said(view.of(Message), "other-backend")
    used = [log for log in view.of(NetfilterLog) if any(f":{c}" in log.rule for c in OURS)]
    traced = [t for t in view.of(FirewallTrace) if t.chain.startswith(OURS)]
    tables = view.of(IptablesTable)
    counted: list[Record] = [
        t for t in tables if any(r.packets and r.chain.startswith(OURS) for r in t.rules)
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
    absent = _absent(view)
    elsewhere = _elsewhere(view, [*bare, *absent])
    counted += [r for r in elsewhere if isinstance(r, FirewallRule) and r.packets]
    full = [n for n in view.of(LineCount) if n.count and n.program.startswith(("iptables-legacy", "iptables-nft", "iptables-save")) and n.pattern.startswith(("KUBE", "CILIUM", "cali"))]  # fmt: skip
    empty = [n for n in view.of(LineCount) if n.count < 20 and not n.pattern and n.program.startswith("iptables") and any(f.program != n.program for f in full)]  # fmt: skip
    backends = said(view.of(Message), "backend")
    if not warned and not (bare and two and legacy) and not (full and empty) and not elsewhere:
        return
    works = [
        *used,
        *traced,
        *counted,
        *([*two] if bare else []),
        *view.where(Attempt, lambda a: a.ok),
        *view.where(HttpExchange, lambda x: x.status is not None and x.status < 500),
        *view.where(DnsLookup, lambda d: bool(d.answers)),
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
            shown("the tool warns of tables in the other backend, or the other tool lists them", warned or ([*legacy, *two] if bare and two and legacy else elsewhere[:4] or [*full, *empty]), weight=1.0, required=True, decide="iptables-legacy-save | grep -c KUBE; iptables-nft-save | grep -c KUBE"),
            shown("packets hit the Service chains, or calls work", works, weight=1.6, required=True, decide="nft monitor trace; curl SERVICE-IP"),
            judged("nothing fails", False if broken else None, broken, weight=1.2, required=bool(broken)),
            shown("the listing of this backend has no Service chain", [*bare, *absent], weight=0.4),
            shown("the tool names its backend", backends, weight=0.2),
        ),
        explains=("the chains seem absent although Services work",),
        prior=-1.0,
    )  # fmt: skip


def _backend(program: str) -> str:
    """The tables that a program shows: those of nft, those of the legacy backend, or those that the host's choice makes."""
    return "nft" if "nft" in program else "legacy" if "legacy" in program else "host" if program.startswith("iptables") else ""  # fmt: skip


def _absent(view: View) -> list[Record]:
    """Where a tool shows none of our chains: counted as 0, printed as nothing, or asked for by name and not there."""
    known = {r.chain for r in view.of(FirewallRule)} | {c for t in view.of(IptablesTable) for c in t.chains}
    runs = [
        r
        for r in view.of(CommandRun)
        if _backend(r.program) and _MENTIONED.search(r.line) and known.issuperset(_ONE.findall(r.line))
    ]
    found: list[Record] = [
        n
        for n in view.of(LineCount)
        if not n.count and _backend(n.program) and _MENTIONED.search(n.command or n.pattern)
    ]
    found += [r for r in silent(view.of(CommandRun)) if r in runs]
    missing = {(m.source.file, m.source.line) for m in said(view.of(Message), "no-chain")}
    return found + [r for r in runs if (r.source.file, r.source.line + 1) in missing]


def _elsewhere(view: View, none: list[Record]) -> list[Record]:
    """What the other backend's tool shows of our chains on the machine where a first tool shows none of them."""
    runs = view.of(CommandRun)
    seen: list[Record] = [t for t in view.of(IptablesTable) if any(c.startswith(OURS) for c in t.chains)]
    seen += [r for r in view.of(FirewallRule) if r.chain.startswith(OURS)]
    seen += [n for n in view.of(LineCount) if n.count and _backend(n.program) and _MENTIONED.search(n.pattern)]  # fmt: skip
    lacking = {(n.where, b) for n in none if (b := _tool(n, runs))}
    return [
        r
        for r in seen
        if (mine := _tool(r, runs))
        and any(b != mine and (w == r.where or not w or not r.where) for w, b in lacking)
        and not any(b == mine for _w, b in lacking)
    ]


def _tool(record: Record, runs: Sequence[CommandRun]) -> str:
    """The backend of the tool that printed a record: its own words, else the last command above it."""
    if isinstance(record, LineCount):
        return _backend(record.program)
    if isinstance(record, FirewallRule):
        return "nft"
    if isinstance(record, CommandRun):
        return _backend(record.program)
    above = [r for r in runs if not r.quoted and r.source.file == record.source.file and r.source.line < record.source.line]  # fmt: skip
    last = max(above, key=lambda r: r.source.line, default=None)
    named = record.backend if isinstance(record, IptablesTable) else None
    return named or (_backend(last.program) if last else "")


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="Service rules seem absent because they live in the other iptables backend.",
    severity="benign",
    inputs=(
        Message,
        NetfilterLog,
        FirewallTrace,
        FirewallRule,
        IptablesTable,
        CommandRun,
        LineCount,
        Attempt,
        HttpExchange,
        DnsLookup,
        DialFailure,
    ),
    needs=(
        Message,
        IptablesTable,
        LineCount,
        FirewallRule,
    ),
    rivals=("iptables-flush-lost-hostport-rules",),
    check=check,
)
