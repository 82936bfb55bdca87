"""iptables and ip6tables tables: for now every rule that is not understood makes the walk unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from deadhop.hops.linux.errors import Unknown
from deadhop.hops.linux.netfilter.verdicts import ACCEPT, Verdict
from deadhop.hops.linux.packet import Packet
from deadhop.model.netfilter import IptablesTable

if TYPE_CHECKING:
    from deadhop.hops.linux.netfilter.state import HookState


class LegacyTable:
    """One table of iptables-save."""

    def __init__(self, table: IptablesTable) -> None:
        self.table = table
        self.name = table.name
        self.version = table.family
        self.backend = table.backend
        self.nft_family = "ip" if table.family == 4 else "ip6"
        self.tracks = False

    def has(self, hook: str) -> bool:
        return hook.upper() in self.table.policies and bool(self.table.rules)

    def priority(self, hook: str) -> int:
        return {"raw": -300, "mangle": -150, "filter": 0, "security": 50}.get(
            self.name, 100 if hook in ("input", "postrouting") else -100
        )

    def runner(self, hook: str) -> Callable[[Packet, HookState], Verdict]:
        def run(_packet: Packet, _state: HookState) -> Verdict:
            raise Unknown(f"iptables {self.name} {hook.upper()}")

        return run if self.table.rules else lambda _p, _s: ACCEPT


def legacy_tables(tables: Iterable[IptablesTable]) -> list[LegacyTable]:
    """The tables that may hold a rule, in the listing's order."""
    return [LegacyTable(table) for table in tables]
