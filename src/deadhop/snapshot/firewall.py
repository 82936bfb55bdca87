"""Netfilter rules of either tool as one list: who is matched, what is done, how often."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.firewall import FirewallChain, FirewallRule
from deadhop.model.record import Record


class Row(NamedTuple):
    """A rule. ``src``, ``dst``, ``in_dev`` and ``out_dev`` begin with ``!`` where negated; ``text`` is lower-case."""

    table: str
    chain: str
    target: str
    src: str
    dst: str
    in_dev: str
    out_dev: str
    dport: str
    to: str
    packets: int | None
    text: str
    record: Record

    @property
    def drops(self) -> bool:
        return self.target in ("DROP", "REJECT")


class Policy(NamedTuple):
    """The policy of a base chain; ``chain`` is upper-case and named for its hook."""

    table: str
    chain: str
    policy: str
    record: Record


def rules(tables: Iterable[IptablesTable], nft: Iterable[FirewallRule] = ()) -> list[Row]:
    """All rules, in the order of the evidence."""
    found = []
    for table in tables:
        for rule in table.rules:
            args = rule.args

            def said(*names: str, args: tuple[str, ...] = args) -> str:
                for k, word in enumerate(args[:-1]):
                    if word in names:
                        return ("!" if k and args[k - 1] == "!" else "") + args[k + 1]
                return ""

            target = rule.target
            if target == "CT" and "--notrack" in args:
                target = "NOTRACK"
            found.append(
                Row(table.name, rule.chain, target, said("-s", "--source"), said("-d", "--destination"), said("-i", "--in-interface"),
                     said("-o", "--out-interface"), said("--dport", "--dports", "--destination-port"), said("--to-destination", "--to-source", "--to"), rule.packets,
                     " ".join(args).lower(), table)
            )  # fmt: skip
    for row in nft:
        target = (
            row.verdict.split(" ")[-1].strip('"')
            if row.verdict.startswith(("jump", "goto", "xt"))
            else row.verdict.upper()
        )
        found.append(
            Row(
                row.table,
                row.chain,
                target,
                row.src,
                row.dst,
                row.in_dev,
                row.out_dev,
                row.dport,
                row.to,
                row.packets,
                row.text.lower(),
                row,
            )
        )
    return found


def policies(tables: Iterable[IptablesTable], chains: Iterable[FirewallChain] = ()) -> list[Policy]:
    """The policies of the base chains."""
    found = [Policy(t.name, name, policy, t) for t in tables for name, policy in t.policies.items()]
    return found + [Policy(c.table, c.hook.upper(), c.policy.upper(), c) for c in chains if c.policy]


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The network in ``text`` (a leading ``!`` is ignored), or None."""
    try:
        return ipaddress.ip_network(text.strip().lstrip("!").strip(), strict=False)
    except ValueError:
        return None


def within(address: str, *networks: str) -> bool:
    """Whether an address or network lies in one of ``networks``."""
    inner = network(address)
    return inner is not None and any(
        outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]
        for outer in map(network, networks)
        if outer is not None
    )


def fits(pattern: str, dev: str) -> bool:
    """Whether a device pattern (``eni+``, ``eni*``, negation ignored) covers ``dev``."""
    pattern = pattern.lstrip("!")
    return dev.startswith(pattern[:-1]) if pattern[-1:] in "+*" and pattern else dev == pattern
