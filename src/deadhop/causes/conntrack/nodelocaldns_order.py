"""A foreign rule in the raw table accepts packets before the node-local cache's no-track rules.

What happens
------------
NodeLocal DNSCache exempts its address from tracking in both directions, with rules in raw PREROUTING and OUTPUT. An accept
rule above them ends the walk: one direction is tracked and the other is not. UDP survives that; the TCP handshake is
invalid to the tracker and breaks.

How to tell it from its neighbours
----------------------------------
The raw table has an accept above the NOTRACK rules for the link-local DNS address. TCP DNS to the cache times out while
UDP works; the cache itself answers and reaches its upstream.

Fix
---
Order the raw table so that the no-track rules come first.

References
----------
kubernetes/dns cmd/node-cache/app (iptables rules); iptables-extensions(8), CT and NOTRACK.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.netfilter import ConntrackEntry, IptablesRule, IptablesTable
from deadhop.model.observed.dns import DnsLookup
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.shell import CommandRun
from deadhop.model.record import Record

SLUG = "nodelocaldns-notrack-bypassed-by-rule-order"


def check(view: View) -> Iterator[Hypothesis]:
    typed = [c for c in view.of(CommandRun) if _typed(c)]
    seen = False
    for table in view.of(IptablesTable):
        for chain in ("PREROUTING", "OUTPUT"):
            rules = [r for r in table.rules if r.chain == chain]
            untracked = [k for k, r in enumerate(rules) if _untracks_dns(r)]
            if untracked:
                seen = True
                first = rules[untracked[0]]
                called = {r.target for r in rules[: untracked[0]]}
                inner = [r for r in table.rules if r.chain in called and _accepts(r, first)]
                above = [r for r in rules[: untracked[0]] if _accepts(r, first)] or inner
                yield _hypothesis(
                    view, chain, first, [table] if above or not typed else list(typed), bool(above or typed)
                )
    if seen:
        return
    listed = [
        t for t in view.of(IptablesTable) if t.name == "raw" and any(r.target == "ACCEPT" for r in t.rules)
    ]
    server = next((k.server for k in view.of(DnsLookup) if k.server.startswith("169.254.")), "")
    if (typed or listed) and server and any(k.transport == "tcp" and k.failed for k in view.of(DnsLookup)):
        rule = IptablesRule(
            chain="PREROUTING", args=("-d", server, "-p", "tcp", "--dport", "53", "-j", "NOTRACK")
        )
        yield _hypothesis(view, "PREROUTING", rule, [*typed, *listed], True, 1.6)


def _typed(command: CommandRun) -> bool:
    """Whether a command line puts an accept rule at the top of the raw table."""
    argv = command.argv
    inserted = any(a in ("-I", "--insert") and b in ("PREROUTING", "OUTPUT") for a, b in pairwise(argv))
    return command.program.startswith("iptables") and "raw" in argv and inserted and argv[-1] == "ACCEPT"


def _hypothesis(
    view: View, chain: str, rule: IptablesRule, cited: Sequence[Record], above: bool, weight: float = 2.6
) -> Hypothesis:
    address = rule.option("-d", "--destination", "-s", "--source").partition("/")[0]
    tracked = [c for c in view.of(ConntrackEntry) if address in (c.original[1], c.reply[0])]
    lost: list[Record] = [
        k for k in view.of(DnsLookup) if k.transport == "tcp" and k.status in ("TIMEOUT", "UNREACHABLE")
    ]
    lost += [d for d in view.of(DialFailure) if d.proto == "tcp" and d.ip == address and d.error == "timeout"]
    good = [
        k
        for k in view.of(DnsLookup)
        if k.transport in ("", "udp") and k.answers and k.server in ("", address)
    ]
    syns = [p for p in view.of(CapturedPacket) if p.tcp_flags == "S" and p.dst == address]
    return Hypothesis(
        subject=f"raw {chain}, {address}",
        title=f"A rule in raw {chain} accepts packets before the no-track rule for {address}.",
        checks=(
            judged(f"an accept rule stands above the no-track rule for {address}", above, cited, weight=weight, required=True, decide="iptables -t raw -nvL --line-numbers"),
            shown("connections to that address are tracked", tracked, weight=0.7, decide=f"conntrack -L -d {address}"),
            shown("DNS over TCP to the cache times out", [*lost, *(syns if len(syns) > 1 else [])], weight=0.7, decide=f"dig +tcp @{address} kubernetes.default.svc.cluster.local"),
            shown("DNS over UDP to the cache works", good, weight=0.4),
        ),
        explains=("large answers and TCP lookups through the node-local cache time out",),
        fixes=(Fix(title="The no-track rules first", artifact=f"iptables -t raw -D {chain} {' '.join(rule.args)}\niptables -t raw -I {chain} 1 {' '.join(rule.args)}\n", changed=("packets of the cache are untracked in both directions",)),),
        prior=-1.2,
    )  # fmt: skip


def _untracks_dns(rule: IptablesRule) -> bool:
    address = rule.option("-d", "--destination", "-s", "--source")
    port = rule.option("--dport", "--sport", "--destination-port", "--source-port")
    none = rule.target == "NOTRACK" or (rule.target == "CT" and "--notrack" in rule.args)
    return none and bool(address) and (port in ("53", "domain", "8080") or address.startswith("169.254."))


def _accepts(rule: IptablesRule, dns: IptablesRule) -> bool:
    """Whether a rule above ends the walk for packets that the no-track rule is for."""
    if rule.target != "ACCEPT":
        return False
    for names in (("-d", "--destination"), ("-s", "--source")):
        own, wanted = rule.option(*names), dns.option(*names).partition("/")[0]
        if own.partition("/")[0] not in ("", wanted) and wanted:
            return False
    proto = rule.option("-p", "--protocol")
    negated = "!" in rule.args and rule.args[rule.args.index("!") + 1 : rule.args.index("!") + 2] == ("-p",)
    fits = proto not in ("tcp", "udp") if negated else proto in ("", "all", "tcp", "udp", dns.option("-p"))
    return fits and rule.option("--dport", "--sport") in ("", "53", "domain")


CAUSE = Cause(
    slug=SLUG,
    family="conntrack",
    title="A rule in the raw table accepts packets before the node-local cache's no-track rules.",
    inputs=(IptablesTable, ConntrackEntry, DnsLookup, DialFailure, CapturedPacket, CommandRun),
    needs=(IptablesTable, CommandRun),
    rivals=("conntrack-race-on-parallel-udp-dns", "dns-server-unreachable"),
    check=check,
)
