"""Decisions that the evidence leaves to chance: which leg a multipath hash picks, a random match, a load balancer.

A walk asks :meth:`Choices.pick`; :func:`enumerate_choices` repeats the walk until every combination has been taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

#: More combinations than this are not walked; the answer then says that it is not complete.
LIMIT = 64


class Choices:
    """The decisions of one walk: the given ones first, then always the first option."""

    def __init__(self, given: tuple[int, ...] = ()) -> None:
        self.given = given
        self.taken: list[tuple[int, int]] = []

    def pick(self, options: int) -> int:
        """An index below ``options``."""
        if options < 2:
            return 0
        place = len(self.taken)
        chosen = self.given[place] if place < len(self.given) else 0
        self.taken.append((chosen, options))
        return chosen

    def following(self) -> tuple[int, ...] | None:
        """The next combination in order, None after the last."""
        taken = list(self.taken)
        while taken:
            chosen, options = taken.pop()
            if chosen + 1 < options:
                return (*(c for c, _ in taken), chosen + 1)
        return None


def enumerate_choices(walk: Callable[[Choices], T]) -> Iterator[T]:
    """The outcomes of ``walk`` over all combinations, at most :data:`LIMIT` of them."""
    given: tuple[int, ...] | None = ()
    for _ in range(LIMIT):
        if given is None:
            return
        choices = Choices(given)
        yield walk(choices)
        given = choices.following()
