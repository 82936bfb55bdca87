"""A filter rule on the node discards fragmentation-needed, so senders behind it never lower their path MTU.

What happens
------------
The node's firewall accepts some ICMP types (often only echo) and drops the rest. A router's ICMP error arrives and is
discarded before the stack could learn from it; the sender repeats full-size segments for ever.

How to tell it from its neighbours
----------------------------------
The ICMP error is visible on the wire towards the sender, and host chains accept only echo, or no ICMP at all. A policy
engine or a cloud filter would record the deny in its own place.

Fix
---
Accept ICMP destination-unreachable (and ICMPv6 packet-too-big) in the node's filter chains.

References
----------
RFC 4890 §4.3.1; RFC 2923 §2.1; net/ipv4/icmp.c icmp_unreach.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.netfilter import IptablesRule, IptablesTable, NftRule, NftRuleset
from deadhop.model.observed.firewall import FirewallChain, FirewallRule
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.record import Record

SLUG = "icmp-frag-needed-dropped-by-node-firewall"
_ICMP_TYPES = re.compile(r"\bicmp(?:v6|x)? type (?:!= )?(?P<types>\{[^}]*\}|\S+)")
_ICMP = re.compile(
    r"\b(?:meta l4proto|ip protocol|ip6 nexthdr) (?:\{[^}]*)?\bicmp|\bicmp(?:v6)? code\b|^\s*icmp "
)
_RELATED = re.compile(r"\bct state (?:\{[^}]*|\S*)\brelated\b")
ECHO = ("echo-request", "echo-reply", "8", "0", "ping", "pong")
TOO_BIG = ("destination-unreachable", "fragmentation-needed", "3", "3/4", "packet-too-big", "2", "any", "255")


def check(view: View) -> Iterator[Hypothesis]:
    tables = [t for t in view.of(IptablesTable) if t.name == "filter"]
    echo_only: list[Record] = []
    lets_through: list[Record] = []
    for table in tables:
        icmp = [r for r in table.rules if r.option("-p", "--protocol") in ("icmp", "ipv6-icmp", "icmpv6")]
        accepted = {_type(r) for r in icmp if r.target == "ACCEPT"}
        ends = (
            any(r.target in ("DROP", "REJECT") and not _ports(r) for r in table.rules)
            or "DROP" in table.policies.values()
        )
        if any(_related(r) for r in table.rules):
            lets_through.append(table)  # conntrack marks the error of a tracked connection RELATED
            continue
        dropped = [r for r in icmp if r.target in ("DROP", "REJECT") and _type(r) not in ECHO]
        if (accepted and accepted <= set(ECHO) and ends) or dropped:
            echo_only.append(table)
        elif accepted & set(TOO_BIG) or "" in accepted:
            lets_through.append(table)
    for ruleset in view.of(NftRuleset):
        chains: dict[tuple[str, str, str], bool] = {}
        for (
            rule
        ) in ruleset.rules:  # in the order in which the chain is walked: the first that matches decides
            chain = (rule.family, rule.table, rule.chain)
            if chain not in chains and (end := _nft_ends(rule)):
                chains[chain] = end == "drop"
        if any(chains.values()):
            echo_only.append(ruleset)
        elif chains:
            lets_through.append(ruleset)
    for mine in _by_chain(view.of(FirewallRule)):
        decided = _decides(mine, view.of(FirewallChain))
        if decided is not None:
            (echo_only if decided[0] == "drop" else lets_through).append(decided[1])
    errors = [p for p in view.of(CapturedPacket) if p.icmp and p.icmp.too_big]
    if not echo_only and not (errors and lets_through):
        return
    repeats = [p for p in view.of(CapturedPacket) if p.proto == "tcp" and (p.payload or 0) > 1200]
    yield Hypothesis(
        subject="the node's filter chains",
        title="The node's firewall discards ICMP fragmentation-needed, so senders behind it never lower their path MTU.",
        checks=(
            judged("the chains accept no ICMP error (only echo, or nothing)", bool(echo_only), echo_only or lets_through, weight=1.9, required=True, decide="iptables-save; nft list ruleset   # icmp rules of INPUT and FORWARD"),
            shown("a fragmentation-needed error is on the wire", errors, weight=1.3, decide="tcpdump -nvi any 'icmp[0]=3 and icmp[1]=4'"),
            shown("the sender repeats full-size segments", repeats if len(repeats) > 1 else [], weight=0.5),
        ),
        explains=("the handshake and small exchanges work, the first large flight stalls",),
        fixes=(Fix(title="Accept the ICMP errors", artifact="iptables -I INPUT -p icmp --icmp-type destination-unreachable -j ACCEPT\niptables -I FORWARD -p icmp --icmp-type destination-unreachable -j ACCEPT\nip6tables -I INPUT -p ipv6-icmp --icmpv6-type packet-too-big -j ACCEPT\n"),),
        prior=-1.2,
    )  # fmt: skip


def _related(rule: IptablesRule) -> bool:
    """Whether a rule accepts whatever belongs to tracked connections, from and to everywhere."""
    states = rule.option("--ctstate", "--state").split(",")
    return (
        rule.target == "ACCEPT"
        and "RELATED" in states
        and not _ports(rule)
        and not rule.option("-p", "--protocol")
    )


def _by_chain(rules: list[FirewallRule]) -> list[list[FirewallRule]]:
    chains: dict[tuple[str, str, str], list[FirewallRule]] = {}
    for rule in rules:
        if rule.hook in ("", "input", "forward", "prerouting"):
            chains.setdefault((rule.where, rule.table, rule.chain), []).append(rule)
    return list(chains.values())


def _decides(rules: list[FirewallRule], chains: list[FirewallChain]) -> tuple[str, Record] | None:
    """What the first rule that meets an ICMP error does with it, or the chain's policy where only echoes are accepted."""
    echoes = False
    for rule in rules:
        text = rule.text
        if rule.verdict not in ("accept", "drop", "reject"):
            continue
        if (
            _RELATED.search(text)
            and rule.verdict == "accept"
            and not (rule.src or rule.dst or rule.in_dev or rule.out_dev)
        ):
            return "accept", rule
        if types := _ICMP_TYPES.search(text):
            named = set(re.findall(r"[a-z]+(?:-[a-z]+)*|\d+", types["types"]))
            if named & set(TOO_BIG):
                return ("drop" if rule.verdict != "accept" else "accept"), rule
            echoes = echoes or rule.verdict == "accept"
        elif _ICMP.search(text):
            return ("drop" if rule.verdict != "accept" else "accept"), rule
    first = rules[0]
    policy = next(
        (
            c
            for c in chains
            if (c.where, c.table, c.chain) == (first.where, first.table, first.chain) and c.policy
        ),
        None,
    )
    return ("drop", policy) if echoes and policy and policy.policy.lower() == "drop" else None


def _type(rule: IptablesRule) -> str:
    return rule.option("--icmp-type", "--icmpv6-type")


def _ports(rule: IptablesRule) -> bool:
    return bool(rule.option("--dport", "--sport", "--dports", "-s", "-d", "-i", "-o"))


def _nft_ends(rule: NftRule) -> str:
    """What a rule does to ICMP errors about size, by their type or by the protocol: ``drop``, ``accept`` or nothing."""
    verdicts = {key for part in rule.expr if isinstance(part, dict) for key in part}
    ends = "drop" if verdicts & {"drop", "reject"} else "accept" if "accept" in verdicts else ""
    return ends if ends and _nft_matches(rule) else ""


def _nft_matches(rule: NftRule) -> bool:
    matches = [part["match"] for part in rule.expr if isinstance(part, dict) and "match" in part]
    text = str(matches)
    if "'type'" in text and "icmp" in text:
        return any(word in text for word in ("destination-unreachable", "frag-needed", "packet-too-big"))
    return any(
        str(m.get("right")) in ("icmp", "icmpv6", "ipv6-icmp", "1", "58")
        and m.get("op") in ("==", "in")
        and ("l4proto" in str(m.get("left")) or "'field': 'protocol'" in str(m.get("left")) or "'nexthdr'" in str(m.get("left")))
        for m in matches
        if isinstance(m, dict)
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="The node's firewall discards ICMP fragmentation-needed.",
    inputs=(IptablesTable, NftRuleset, FirewallRule, FirewallChain, CapturedPacket),
    needs=(IptablesTable, NftRuleset, FirewallRule),
    rivals=("icmp-frag-needed-dropped-by-networkpolicy", "icmp-frag-needed-dropped-by-security-group", "path-mtu-drops-df-udp-dns-response"),
    check=check,
)  # fmt: skip
