"""Loops of one line in a shell: ``for i in A B C; do … $i …; done``, and what one round prints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

import msgspec

_LOOP = re.compile(
    r"\bfor\s+(?P<name>[A-Za-z_]\w*)\s+in\s+(?P<items>[^;\n]+?)\s*;\s*do\s+(?P<body>.+?);?\s*done\b"
)
_SEQ = re.compile(r"[$`]\(?\s*seq\s+(?P<numbers>-?\d+(?:\s+-?\d+){0,2})\s*\)?`?")
_BRACES = re.compile(r"^(?P<head>[^{}]*)\{(?P<inner>[^{}]+)\}(?P<tail>[^{}]*)$")
_SPAN = re.compile(r"^(?P<first>\d+)\.\.(?P<last>\d+)(?:\.\.(?P<step>\d+))?$")
#: No loop that a person types by hand has more rounds.
ROUNDS = 400


class Loop(msgspec.Struct, frozen=True, kw_only=True):
    """``name`` takes each of ``items`` in turn; ``items`` is empty where the shell alone knows them (``$(ls)``)."""

    name: str
    items: tuple[str, ...]
    body: str

    def uses(self, text: str) -> bool:
        """Whether the loop's variable stands in ``text``."""
        return re.search(rf"\$\{{?{re.escape(self.name)}\b", text) is not None

    def fill(self, text: str, item: str) -> str:
        """``text`` with the variable's value of one round."""
        return re.sub(rf"\$(?:\{{{re.escape(self.name)}\}}|{re.escape(self.name)}\b)", lambda _m: item, text)


def loop(line: str) -> Loop | None:
    """The loop on a command line, or None."""
    match = _LOOP.search(line) if len(line) < 4096 else None
    if match is None:
        return None
    return Loop(name=match["name"], items=tuple(_items(match["items"])), body=match["body"])


def _items(text: str) -> Iterator[str]:
    if seq := _SEQ.fullmatch(text.strip()):
        numbers = [int(n) for n in seq["numbers"].split()]
        first, step, last = (
            (1, 1, numbers[0])
            if len(numbers) == 1
            else (numbers[0], 1, numbers[1])
            if len(numbers) == 2
            else (numbers[0], numbers[1], numbers[2])
        )
        if step:
            yield from (str(n) for n in range(first, last + (1 if step > 0 else -1), step)[:ROUNDS])
        return
    for word in text.split()[:ROUNDS]:
        if word.startswith(("$", "`")):
            return
        yield from expand(word.strip("'\""))


def expand(word: str) -> list[str]:
    """Brace expansion of a word: ``{eth0,tun0}/mtu`` and ``10.0.0.{1..4}`` (bash(1), Brace Expansion)."""
    match = _BRACES.match(word)
    if match is None:
        return [word]
    if span := _SPAN.match(match["inner"]):
        first, last, step = int(span["first"]), int(span["last"]), int(span["step"] or 1)
        inner = [str(n) for n in range(first, last + 1, max(step, 1))[:ROUNDS]]
    elif "," in match["inner"]:
        inner = match["inner"].split(",")
    else:
        return [word]
    return [head + part + tail for head, part, tail in product([match["head"]], inner, [match["tail"]])]
