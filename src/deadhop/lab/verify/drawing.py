"""What is known of a topology while it is drawn: the one stream of chance, its devices and its own addresses.

Every draw comes from that stream, in order: a seed stays the same topology only while nobody draws more or less.
"""

from __future__ import annotations

from random import Random

from deadhop.lab.verify.topology import Topology


class Drawing:
    """One topology being drawn."""

    def __init__(self, seed: int, kind: str) -> None:
        self.random = Random(f"{kind} {seed}")
        self.kind = kind
        self.six = kind == "v6" or (kind in ("nft", "nat") and self.random.random() < 0.4)
        self.four = kind != "v6"
        count = self.random.randint(2, 5)
        self.topology = Topology(kind=kind, seed=seed)
        self.names = [f"d{i}" for i in range(count)]
        self.own4: list[str] = []
        self.own6: list[str] = []

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def own(self, address: str) -> None:
        """The router has this address."""
        (self.own6 if ":" in address else self.own4).append(address)
