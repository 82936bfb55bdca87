"""The nftables ruleset compiled: sets, chains, and the run of a packet through a base chain (nft_do_chain)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deadhop.hops.linux.errors import Unknown
from deadhop.hops.linux.netfilter.expressions import compile_expression
from deadhop.hops.linux.netfilter.sets import Index, index_of, map_of
from deadhop.hops.linux.netfilter.statements import compile_statement, verdict
from deadhop.hops.linux.netfilter.values import Unsupported
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
from deadhop.model.netfilter import NftChain, NftRule, NftRuleset, NftSet

if TYPE_CHECKING:
    from deadhop.hops.linux.netfilter.state import HookState

#: NFT_JUMP_STACK_SIZE.
STACK = 16


class CompiledRule:
    """A rule's operations in order."""

    __slots__ = ("operations", "rule", "text")

    def __init__(self, rule: NftRule, operations: list[Operation]) -> None:
        self.rule = rule
        self.operations = operations
        self.text = f"nft {rule}"


class Chain:
    """A chain with its compiled rules."""

    __slots__ = ("chain", "rules", "text")

    def __init__(self, chain: NftChain) -> None:
        self.chain = chain
        self.rules: list[CompiledRule] = []
        self.text = f"nft {chain.family} {chain.table} {chain.name}"


class Ruleset:
    """Everything of one ruleset that chains refer to by name."""

    def __init__(self, nft: NftRuleset) -> None:
        self.sets: dict[tuple[str, str, str], NftSet] = {(s.family, s.table, s.name): s for s in nft.sets}
        self.table_flags = {(t.family, t.name): t.flags for t in nft.tables}
        self.indexes: dict[tuple[str, str, str], Index] = {}
        self.chains: dict[tuple[str, str, str], Chain] = {
            (c.family, c.table, c.name): Chain(c) for c in nft.chains
        }
        for rule in nft.rules:
            chain = self.chains.get((rule.family, rule.table, rule.chain))
            if chain is not None:
                operations = [compile_statement(body, self, rule.family, rule.table) for body in rule.expr]
                chain.rules.append(CompiledRule(rule, operations))

    def named_set(self, family: str, table: str, name: str) -> Index:
        """The index of a named set; raises :class:`Unsupported` where the listing lacks it."""
        key = (family, table, name)
        if key not in self.indexes:
            found = self.sets.get(key)
            if found is None:
                raise Unsupported(f"set @{name}")
            kinds = self._kinds(found.type, family, table)
            if found.map is not None:
                self.indexes[key] = map_of(list(found.elem), kinds, lambda value: value)
            else:
                self.indexes[key] = index_of(list(found.elem), kinds)
        return self.indexes[key]

    def named_map(self, family: str, table: str, name: str) -> tuple[Index, tuple[str, ...]]:
        """The index of a named map and the types of its values; verdicts come compiled."""
        found = self.sets.get((family, table, name))
        if found is None or found.map is None:
            raise Unsupported(f"map @{name}")
        key = (family, table, f"map {name}")
        if key not in self.indexes:
            kinds = self._kinds(found.type, family, table)
            make: Any = verdict if found.map == "verdict" else lambda value: value
            self.indexes[key] = map_of(list(found.elem), kinds, make)
        return self.indexes[key], ("raw",)

    def _kinds(self, type_: Any, family: str, table: str) -> tuple[str, ...]:
        if isinstance(type_, str):
            return (type_,)
        if isinstance(type_, list):
            return tuple(kind for each in type_ for kind in self._kinds(each, family, table))
        if isinstance(type_, dict):
            expression = type_.get("typeof", type_)
            return compile_expression(expression, self, family, table)[1]
        raise Unsupported(f"set of type {str(type_)[:80]}")

    def run(self, base: Chain, packet: Packet, state: HookState) -> Verdict:
        """nft_do_chain: the base chain's verdict; a drop's step names the rule that made it."""
        result = self._chain(base, packet, state, 0)
        if result is NEXT or result is RETURN or result is STOP:
            result = DROP if base.chain.policy == "drop" else ACCEPT
            if result is DROP:
                state.walk.step(
                    f"{base.text} policy",
                    "drop",
                    "nft_do_chain",
                    (base.chain.source,),
                    ok=False,
                    hook=state.hook,
                )
        return result

    def _chain(self, chain: Chain, packet: Packet, state: HookState, depth: int) -> Verdict:
        if depth > STACK:
            raise Unknown("nft jumps deeper than the kernel allows")
        for rule in chain.rules:
            result = NEXT
            for operation in rule.operations:
                result = operation(packet, state)
                if result is not NEXT:
                    break
            if result is NEXT or result is STOP:
                continue
            if result.kind in ("jump", "goto"):
                target = self.chains.get((chain.chain.family, chain.chain.table, result.target))
                if target is None:
                    raise Unknown(f"nft chain {result.target}")
                inner = self._chain(target, packet, state, depth + 1)
                if inner.kind in ("accept", "drop"):
                    return inner
                if result.kind == "goto":
                    return RETURN
                continue
            self._note(rule, result, state)
            return result
        return NEXT

    def _note(self, rule: CompiledRule, result: Verdict, state: HookState) -> None:
        if result.kind == "drop":
            what = "reject" if isinstance(result, Rejected) else "drop"
            state.walk.step(
                rule.text,
                what,
                "nft_do_chain",
                (rule.rule.source,),
                ok=False,
                hook=state.hook,
                expr=list(rule.rule.expr),
            )
        elif result is ACCEPT:
            state.walk.step(rule.text, "accept", "nft_do_chain", (rule.rule.source,), hook=state.hook)
