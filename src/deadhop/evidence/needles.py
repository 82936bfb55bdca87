"""Strings without which a regular expression cannot match: a quick test of lines before slow ones.

A long log of which nobody reads a line is tried against every line format, and ``re`` has no other way than to try
each alternative at each place. Most patterns need some word, and looking for a word is a hundred times faster. The
words come from the parsed pattern (``re._parser``, what ``sre_parse`` was); where that cannot be had or says nothing, a
line is taken to be possible.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

try:
    from re import _parser  # type: ignore[attr-defined]
except ImportError:  # another implementation of Python
    _parser = None

SHORTEST = 3
"""Shorter words are found in too many lines to be of use."""
MOST = 400
"""More words than this are slower to look for than the pattern itself."""

Test = Callable[[str], bool]


@cache
def possible(pattern: re.Pattern[str]) -> Test | None:
    """A test that every line that the pattern matches passes; None where there is none worth its time."""
    if _parser is None or pattern.flags & (re.IGNORECASE | re.LOCALE):
        return None
    try:
        words = _needed(_parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG))
    except (re.error, RecursionError, AttributeError, TypeError, ValueError, IndexError):
        return None
    if words is None or len(words) > MOST:
        return None
    return _tester(tuple(w for w in words if not any(o != w and o in w for o in words)))


def _tester(words: tuple[str, ...]) -> Test:
    if len(words) == 1:
        only = words[0]
        return lambda line: only in line
    return lambda line: any(word in line for word in words)


def _needed(items: Iterable[Any]) -> frozenset[str] | None:
    """Words of which a match of the sequence holds at least one; None where it may hold none."""
    best: frozenset[str] | None = None
    run: list[str] = []
    for operation, argument in [*items, (None, None)]:
        name = str(operation)
        if name == "LITERAL":
            run.append(chr(argument))
            continue
        best = _better(best, frozenset(["".join(run)]) if len(run) >= SHORTEST else None)
        run.clear()
        best = _better(best, _needed_by(name, argument))
    return best


def _needed_by(name: str, argument: Any) -> frozenset[str] | None:
    if name == "SUBPATTERN":
        _, added, _, inner = argument
        return None if added & re.IGNORECASE else _needed(inner)
    if name == "ATOMIC_GROUP":
        return _needed(argument)
    if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, _, inner = argument
        return _needed(inner) if least > 0 else None
    if name == "BRANCH":
        found: set[str] = set()
        for branch in argument[1]:
            words = _needed(branch)
            if words is None:
                return None
            found |= words
        return frozenset(found)
    return None


def _better(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    """The one whose shortest word is longer, fewer words before more."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda words: (min(map(len, words)), -len(words)))
