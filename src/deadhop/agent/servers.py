"""Identities of DNS servers: one number for each distinct set of DNS rules that an address falls under.

The admission core asks ``selector.selects(identity)``. Like Cilium's CIDR identities, an identity here stands for
everything that policy can tell apart: two addresses that the same peers of DNS rules select have the same number.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from deadhop.agent.ranges import LAST, Range, inside, number_of
from deadhop.fqdn.admission import Identities

Reaches = tuple[tuple[Range, ...], tuple[Range, ...]]


REMEMBERED = 1024
"""Servers whose identity is remembered; a pod may ask any address."""


class ServerIdentities:
    """The address space cut at the boundaries of all DNS rules. ``reaches`` are (IPv4, IPv6) ranges of each rule."""

    def __init__(self, reaches: Iterable[Reaches] = ()) -> None:
        rules = list(dict.fromkeys(reaches))
        self._starts: dict[int, list[int]] = {}
        self._numbers: dict[int, list[int]] = {}
        self._members: dict[Reaches, set[int]] = {rule: set() for rule in rules}
        self._of: dict[str, int] = {}
        signatures: dict[tuple[bool, ...], int] = {}
        for version, family in ((4, 0), (6, 1)):
            points = {0}
            for rule in rules:
                for low, high in rule[family]:
                    points.update((low, high + 1) if high < LAST[version] else (low,))
            self._starts[version] = sorted(points)
            self._numbers[version] = []
            for start in self._starts[version]:
                signature = tuple(inside(rule[family], start) for rule in rules)
                number = signatures.setdefault(signature, len(signatures))
                self._numbers[version].append(number)
                for rule, holds in zip(rules, signature, strict=True):
                    if holds:
                        self._members[rule].add(number)

    def of(self, address: str) -> int:
        """The identity of a server. Raises ``ValueError`` where that is no address."""
        known = self._of.get(address)
        if known is None:
            version, number = number_of(address)
            known = self._numbers[version][bisect_right(self._starts[version], number) - 1]
            if len(self._of) >= REMEMBERED:
                self._of.clear()
            self._of[address] = known
        return known

    def selector(self, v4: tuple[Range, ...], v6: tuple[Range, ...]) -> Identities:
        """The identities that a rule's reach covers."""
        return Identities(frozenset(self._members[v4, v6]))
