"""Netfilter's rules and connections as records: ``nft -j list ruleset``, ``iptables-save``, ``conntrack -L``.

Expressions stay as libnftables-json(5) gives them; :mod:`deadhop.hops.linux.netfilter` gives them meaning.
"""

from __future__ import annotations

from typing import Any

import msgspec

from deadhop.model.record import NOWHERE, Record, Source


class NftChain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain. ``hook`` is None for a regular chain, which is reached by jump and goto alone."""

    family: str
    table: str
    name: str
    handle: int = 0
    type: str | None = None
    hook: str | None = None
    prio: int = 0
    policy: str = "accept"
    devices: tuple[str, ...] = ()
    source: Source = NOWHERE


class NftRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule: ``expr`` is the list of statements."""

    family: str
    table: str
    chain: str
    handle: int = 0
    expr: tuple[Any, ...] = ()
    comment: str | None = None
    source: Source = NOWHERE

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.chain} handle {self.handle}"


class NftSet(msgspec.Struct, frozen=True, kw_only=True):
    """A named set, or a map where ``map`` names the type of its values. ``elem`` is the JSON list."""

    family: str
    table: str
    name: str
    type: Any = None
    map: Any = None
    flags: tuple[str, ...] = ()
    elem: tuple[Any, ...] = ()
    source: Source = NOWHERE


class NftTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table. ``flags`` holds ``dormant`` where its chains are asleep."""

    family: str
    name: str
    handle: int = 0
    flags: tuple[str, ...] = ()


class NftObject(msgspec.Struct, frozen=True, kw_only=True):
    """A stateful object (``limit``, ``quota``, ``ct helper``…) or flowtable, by its kind."""

    family: str
    table: str
    name: str
    kind: str
    body: dict[str, Any]


class NftRuleset(Record, frozen=True, kw_only=True):
    """The whole ruleset, in the listing's order: tables and chains in the order of their creation."""

    tables: tuple[NftTable, ...] = ()
    chains: tuple[NftChain, ...] = ()
    rules: tuple[NftRule, ...] = ()
    sets: tuple[NftSet, ...] = ()
    objects: tuple[NftObject, ...] = ()


class IptablesRule(msgspec.Struct, frozen=True, kw_only=True):
    """One ``-A CHAIN …`` line; ``args`` are its words after the chain, unquoted. ``packets`` is its counter, None
    where the listing shows none."""

    chain: str
    args: tuple[str, ...]
    source: Source = NOWHERE
    packets: int | None = None

    def option(self, *names: str) -> str:
        """The word behind the first of ``names`` (``-j``, ``--ctstate``), empty where the rule has none."""
        return next((b for a, b in zip(self.args, self.args[1:], strict=False) if a in names), "")

    @property
    def target(self) -> str:
        return self.option("-j", "--jump", "-g", "--goto")


class IptablesTable(Record, frozen=True, kw_only=True):
    """One ``*table`` block. ``policies`` holds built-in chains, ``chains`` all of them in order.

    ``backend`` is ``legacy`` (xtables) or ``nft`` (the rules then also stand in the nftables ruleset), None where
    the listing does not say.
    """

    family: int
    name: str
    backend: str | None = None
    policies: dict[str, str] = msgspec.field(default_factory=dict)
    chains: tuple[str, ...] = ()
    rules: tuple[IptablesRule, ...] = ()


class ConntrackEntry(Record, frozen=True, kw_only=True):
    """One connection of ``conntrack -L``: the tuple of each direction as ``(src, dst, sport, dport)``.

    For ICMP the ports are ``(id, id)``. ``status`` holds ``ASSURED``, ``UNREPLIED``…
    """

    family: int
    proto: int
    original: tuple[str, str, int, int]
    reply: tuple[str, str, int, int]
    state: str | None = None
    status: tuple[str, ...] = ()
    mark: int = 0
    zone: int = 0
    timeout: int | None = None
