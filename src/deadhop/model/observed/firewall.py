"""Netfilter as nftables' text shows it, and what a packet met on its way through it."""

from __future__ import annotations

from deadhop.model.record import Record


class FirewallChain(Record, frozen=True, kw_only=True):
    """A base chain of ``nft list ruleset``: its hook, and the policy that ends it."""

    family: str = ""
    table: str = ""
    chain: str
    hook: str = ""
    policy: str = ""


class FirewallRule(Record, frozen=True, kw_only=True):
    """A rule in nft's words. Addresses and devices with a leading ``!`` are negated; ``to`` is the target of a
    translation, ``packets`` the counter where the listing has one."""

    family: str = ""
    table: str = ""
    chain: str = ""
    hook: str = ""
    verdict: str = ""
    in_dev: str = ""
    out_dev: str = ""
    src: str = ""
    dst: str = ""
    dport: str = ""
    to: str = ""
    prefix: str = ""
    packets: int | None = None
    text: str = ""


class FirewallTrace(Record, frozen=True, kw_only=True):
    """One line of ``nft monitor trace``. ``step`` is packet, rule, policy, verdict or unknown."""

    table: str
    chain: str
    step: str
    verdict: str = ""
    in_dev: str = ""
    out_dev: str = ""
    src: str = ""
    dst: str = ""
    dport: str = ""
    mark: int = 0
    text: str = ""
