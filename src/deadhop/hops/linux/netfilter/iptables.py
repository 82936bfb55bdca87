"""iptables and ip6tables tables compiled (ipt_do_table), from what ``iptables-save`` prints.

Both backends have the same rules and the same meaning; they differ in where they register (specification "Linux
forwarding" §3: both may be present at once, then both run).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from deadhop.hops.linux.errors import Unknown
from deadhop.hops.linux.netfilter.iptables_matches import Test, compile_matches
from deadhop.hops.linux.netfilter.iptables_targets import TERMINAL, compile_target
from deadhop.hops.linux.netfilter.verdicts import (
    ACCEPT,
    DROP,
    NEXT,
    RETURN,
    STOP,
    Operation,
    Rejected,
    Verdict,
)
from deadhop.hops.linux.packet import Packet
from deadhop.model.netfilter import IptablesRule, IptablesTable

if TYPE_CHECKING:
    from deadhop.hops.linux.netfilter.state import HookState

#: Priorities at which the tables register (enum nf_ip_hook_priorities).
PRIORITIES = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}
NAT_DST, NAT_SRC = -100, 100
#: Words in a rule that make the kernel load connection tracking.
TRACKING = {
    "conntrack",
    "state",
    "connmark",
    "CONNMARK",
    "ctstate",
    "NOTRACK",
    "CT",
    "connbytes",
    "connlimit",
    "helper",
}
STACK = 64


class _Rule:
    """A rule: all tests hold, then the target acts."""

    __slots__ = ("jump", "rule", "target", "tests", "text")

    def __init__(
        self, table: str, number: int, rule: IptablesRule, chains: frozenset[str], version: int
    ) -> None:
        self.rule = rule
        self.text = (
            f"iptables {table} {rule.chain} rule {number}"
            if version == 4
            else f"ip6tables {table} {rule.chain} rule {number}"
        )
        tests, rest = compile_matches(rule.args, version)
        self.tests: list[Test] = tests
        self.jump: tuple[str, str] | None = None
        self.target: Operation = lambda _p, _s: NEXT
        if rest and rest[0] in ("-j", "-g", "--jump", "--goto") and len(rest) > 1:
            kind = "goto" if rest[0] in ("-g", "--goto") else "jump"
            if rest[1] in chains and rest[1] not in TERMINAL:
                self.jump = (kind, rest[1])
            else:
                self.target = compile_target(rest[1], rest[2:], version)


class LegacyTable:
    """One table of iptables-save, compiled."""

    def __init__(self, table: IptablesTable) -> None:
        self.table = table
        self.name = table.name
        self.version = table.family
        self.backend = table.backend
        self.nft_family = "ip" if table.family == 4 else "ip6"
        names = frozenset(table.chains)
        self.chains: dict[str, list[_Rule]] = {name: [] for name in table.chains}
        for rule in table.rules:
            chain = self.chains.setdefault(rule.chain, [])
            chain.append(_Rule(table.name, len(chain) + 1, rule, names, table.family))
        words = {word for rule in table.rules for word in rule.args}
        self.tracks = bool(words & TRACKING) or table.name == "nat"

    def has(self, hook: str) -> bool:
        return hook.upper() in self.table.policies

    def priority(self, hook: str) -> int:
        if self.name == "nat":
            return NAT_SRC if hook in ("input", "postrouting") else NAT_DST
        return PRIORITIES.get(self.name, 0)

    def runner(self, hook: str) -> Callable[[Packet, HookState], Verdict]:
        """The run of a packet through the built-in chain of ``hook``, policy included."""
        name = hook.upper()

        def run(packet: Packet, state: HookState) -> Verdict:
            result = self._chain(name, packet, state, 0)
            if result is NEXT or result is RETURN:
                policy = self.table.policies.get(name, "ACCEPT")
                if policy != "DROP":
                    return ACCEPT
                by = f"iptables {self.name} {name} policy"
                state.walk.step(by, "drop", "ipt_do_table", (self.table.source,), ok=False, hook=hook)
                return DROP
            return result

        return run

    def _chain(self, name: str, packet: Packet, state: HookState, depth: int) -> Verdict:
        if depth > STACK:
            raise Unknown(f"iptables chain {name} jumps too deep")
        for rule in self.chains.get(name, ()):
            if not all(test(packet, state) for test in rule.tests):
                continue
            if rule.jump is not None:
                kind, target = rule.jump
                result = self._chain(target, packet, state, depth + 1)
                if result.kind in ("accept", "drop"):
                    return result
                if kind == "goto":
                    return RETURN
                continue
            result = rule.target(packet, state)
            if result is NEXT or result is STOP:
                continue
            if result.kind == "drop":
                what = "reject" if isinstance(result, Rejected) else "drop"
                state.walk.step(
                    rule.text, what, "ipt_do_table", (rule.rule.source,), ok=False, hook=state.hook
                )
            elif result is ACCEPT:
                state.walk.step(rule.text, "accept", "ipt_do_table", (rule.rule.source,), hook=state.hook)
            return result
        return NEXT


def legacy_tables(tables: Iterable[IptablesTable]) -> list[LegacyTable]:
    """The tables compiled, in the listing's order."""
    return [LegacyTable(table) for table in tables]
