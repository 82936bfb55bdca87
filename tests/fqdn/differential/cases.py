"""What all areas share: a case, its shrinking, and the texts cases are made of.

A case is a list; each element is asked or done in order and gives one outcome on either side. A disagreement is
shrunk by leaving elements out.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from deadhop.fqdn.options import V1_12, Version

from ..real_cilium import Oracle

Case = list[Any]
Outcomes = list[Any]
Random = random.Random


class Area:
    """``make`` draws a case; ``real`` and ``ours`` give an outcome for each of its elements."""

    def __init__(
        self,
        name: str,
        make: Callable[[Random], Case],
        real: Callable[[Oracle, Version, Case], Outcomes],
        ours: Callable[[Version, Case], Outcomes],
        since: Version = V1_12,
    ) -> None:
        self.name = name
        self.make = make
        self.real = real
        self.ours = ours
        self.since = since

    def differ(self, oracle: Oracle, version: Version, case: Case) -> tuple[Any, Any, Any] | None:
        """The first element with two outcomes, as (element, real, ours).

        Limits evict the least important first, and between equals the order of a Go map decides, anew each time:
        what Cilium sometimes does is no disagreement.
        """
        ours = self.ours(version, case)
        found = None
        for _ in range(TRIES):
            real = self.real(oracle, version, case)
            if real == ours:
                return None
            found = next(both for both in zip(case, real, ours, strict=True) if both[1] != both[2])
        return found

    def shrink(self, oracle: Oracle, version: Version, case: Case) -> Case:
        """The case without the elements that the disagreement does not need."""
        size = max(1, len(case) // 2)
        first = int(isinstance(case[0], list) and case[0][0] == "new")
        while True:
            at = first
            while at < len(case):
                fewer = case[:at] + case[at + size :]
                if len(fewer) > first and self.differ(oracle, version, fewer):
                    case = fewer
                else:
                    at += size
            if size == 1:
                return case
            size //= 2


TRIES = 100

LABELS = ("a", "b", "cilium", "io", "www", "a-b", "x_y", "A", "Cilium", "9", "sub", "com", "k8s")
STARRED = ("*", "**", "***", "*a", "a*", "a*b", "**b", "a**", "*a*", "s*b", "*-*", "*_")
ODD = (
    "",
    "",
    " ",
    "\t",
    "\\",
    "a\\",
    "ü",
    "K",
    "İ",
    "ſ",
    "+",
    "[a]",
    "{",
    "a,b",
    "a?b",
    "(",
    "$",
    "^",
    "|",
    "#",
    "@",
    '"',
    "\n",
)


def text(rng: Random, *, stars: bool = True, odd: float = 0.15, long: float = 0.03) -> str:
    """A name or a pattern, mostly one that could be meant."""
    if rng.random() < long:
        labels = ["a" * rng.randrange(1, 64) for _ in range(rng.randrange(3, 6))]
        made = ".".join(labels)
        return made.ljust(rng.choice((253, 254, 255, 256)), rng.choice("ab"))[
            : rng.choice((253, 254, 255, 256))
        ]
    labels = []
    for _ in range(rng.randrange(1, 5)):
        pool = ODD if rng.random() < odd else STARRED if stars and rng.random() < 0.4 else LABELS
        labels.append(rng.choice(pool))
    made = ".".join(labels)
    made += rng.choice(("", "", ".", ".", "..", "\\.", "\\\\.")) if rng.random() < 0.6 else ""
    made = rng.choice(("", "", "", "", ".", "*", "**", "**.")) + made if stars else made
    return f" {made} " if rng.random() < odd / 10 else made


def plain_name(rng: Random) -> str:
    """A canonical name, near what patterns of :func:`text` match."""
    if rng.random() < 0.05:
        return rng.choice((".", "", "a", "..", "a..b.", ".a.", "a.b", "a.\n"))
    pool = (
        "a",
        "b",
        "ab",
        "aab",
        "cilium",
        "io",
        "www",
        "a-b",
        "x_y",
        "9",
        "sub",
        "sxb",
        "com",
        "k8s",
        "-",
        "_",
    )
    return ".".join(rng.choice(pool) for _ in range(rng.randrange(1, 5))) + "."
