"""A NAT rule masquerades loopback traffic of the node, and its stub resolver refuses the changed source.

What happens
------------
For hostPorts some components install a rule in POSTROUTING that masquerades packets from 127.0.0.0/8. Where it also
matches the loopback device, a query to the stub at 127.0.0.53 arrives with the node's own address as its source;
systemd-resolved answers loopback sources alone and drops or refuses it.

How to tell it from its neighbours
----------------------------------
On the loopback device a query to a loopback address has a source that is none, and it is the node's own lookups that
fail. In a pod with a loopback upstream the source stays 127.0.0.1 and the node resolves.

Fix
---
Except the stub's address from the masquerade, or let the node use real upstreams.

References
----------
systemd src/resolve/resolved-dns-stub.c; CNI portmap plugin; kubenet and CRI-O hostport manager.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.hops.dns.upstreams import kind
from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.netfilter import ConntrackEntry, IptablesRule, IptablesTable
from deadhop.model.observed.dns import DnsLookup, DnsServerError
from deadhop.model.observed.firewall import FirewallRule
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.message import Message
from deadhop.model.observed.packets import CapturedPacket

SLUG = "loopback-masquerade-breaks-stub-resolver"


def check(view: View) -> Iterator[Hypothesis]:
    tables = [t for t in view.of(IptablesTable) if any(_masquerades(r) for r in t.rules)]
    rules = [r for r in view.of(FirewallRule) if r.verdict in ("masquerade", "snat") and r.src.startswith("127.") and r.out_dev in ("", "lo")]  # fmt: skip
    changed = [
        p
        for p in view.of(CapturedPacket)
        if p.dport == 53 and kind(p.dst) == "loopback" and kind(p.src) not in ("loopback", "")
    ]
    tracked = [
        c
        for c in view.of(ConntrackEntry)
        if kind(c.original[1]) == "loopback" and c.original[3] == 53 and kind(c.reply[1]) != "loopback"
    ]
    refused = [m for m in view.of(Message) if m.kind == "stub-refuses-source"]
    dials = [d for d in view.of(DialFailure) if _changed_source(d.text)]
    lost = [
        *(k for k in view.of(DnsLookup) if kind(k.server) == "loopback" and k.failed),
        *(d for d in view.of(DialFailure) if kind(d.resolver) == "loopback"),
        *(
            e
            for e in view.of(DnsServerError)
            if kind(e.upstream) == "loopback" and e.error in ("timeout", "refused")
        ),
    ]
    arrived = [*changed, *tracked, *refused, *dials]
    on_lo = [
        t
        for t in tables
        if any(_masquerades(r) and r.option("-o", "--out-interface") == "lo" for r in t.rules)
    ]
    if not arrived and not on_lo and not ((tables or rules) and lost):
        return
    rule = next(
        (" ".join(r.args) for t in tables for r in t.rules if _masquerades(r)), rules[0].text if rules else ""
    )
    yield Hypothesis(
        subject="the node's stub resolver",
        title="Queries to the node's stub resolver are masqueraded and arrive with a source that it refuses.",
        checks=(
            shown("a query to a loopback address has a source that is no loopback address, or loopback sources are masqueraded", [*arrived, *tables, *rules], weight=1.4, required=True, decide="tcpdump -ni lo udp port 53"),
            shown("the stub gets packets from such a source", arrived, weight=1.0, decide="tcpdump -ni lo udp port 53"),
            shown(f"a rule masquerades sources in 127.0.0.0/8{': ' + rule if rule else ''}", [*tables, *rules], weight=1.2, decide="iptables-save -t nat | grep -n MASQUERADE"),
            shown("lookups through the stub fail", lost, weight=0.6, decide="resolvectl query example.org"),
        ),
        explains=("the node cannot resolve names any more, image pulls included", "a query straight to the upstream works"),
        fixes=(Fix(title="Let queries to the stub pass unchanged", artifact="iptables -t nat -I POSTROUTING 1 -o lo -d 127.0.0.53/32 -j RETURN\n", changed=("packets to the stub keep their loopback source",)),),
        prior=-1.3,
    )  # fmt: skip


def _masquerades(rule: IptablesRule) -> bool:
    source, out = rule.option("-s", "--source"), rule.option("-o", "--out-interface")
    return (
        rule.target in ("MASQUERADE", "SNAT")
        and source.startswith("127.")
        and out in ("", "lo")
        and "!" not in rule.args
    )


def _changed_source(text: str) -> bool:
    """``read udp A->127.0.0.53:53`` with an A that is no loopback address."""
    source, arrow, rest = text.rpartition("udp ")[2].partition("->")
    return bool(arrow) and kind(source) not in ("loopback", "") and kind(rest.split(": ")[0]) == "loopback"


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="Loopback traffic is masqueraded, so the node's stub resolver refuses the queries.",
    inputs=(
        IptablesTable,
        FirewallRule,
        CapturedPacket,
        ConntrackEntry,
        Message,
        DialFailure,
        DnsLookup,
        DnsServerError,
    ),
    rivals=(
        "loopback-upstream-inherited-from-host",
        "dns-forward-loop-stub-resolver",
        "dns-server-unreachable",
    ),
    check=check,
)
