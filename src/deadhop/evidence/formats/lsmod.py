"""``lsmod``, and the rows that ``grep`` left of it: name, size, users (kmod tools/lsmod.c).

A module that is not in a listing is not loaded, unless a filter would have hidden its row. Of the modules that packets
depend on and that clusters forget, the listing says so itself.
"""

from __future__ import annotations

import re
import shlex

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.message import Message
from deadhop.model.record import Record

_LINE = re.compile(
    r"^(?P<name>[a-z][\w-]*)\s+(?P<size>\d{4,9})\s+(?P<used>\d{1,5})(?:\s+(?P<by>[\w,\[\]-]+))?\s*$"
)
_HEADER = re.compile(r"^Module\s+Size\s+Used by\s*$")
WANTED = ("br_netfilter",)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    if not context.ran("lsmod"):
        return i, []
    start, loaded = i, set[str]()
    while i < len(lines.text) and ((match := _LINE.match(lines.text[i])) or _HEADER.match(lines.text[i])):
        if match:
            loaded |= {match["name"], *(match["by"] or "").split(",")}
        i += 1
    if i == start:
        return start, []
    filters = context.command.filters if context.command else ()
    return i, [
        Message(source=lines.source(start, i - 1), where=context.where, emitter="lsmod", kind="module-not-loaded", fields=(("module", name),), text=lines.text[start].strip())
        for name in WANTED
        if name not in loaded and lets_through(filters, f"{name} 32768 0")
    ]  # fmt: skip


def lets_through(filters: tuple[str, ...], row: str) -> bool:
    """Whether a row would pass ``grep`` and its like; False where that cannot be said."""
    return all(_passes(part, row) for part in filters)


def _passes(part: str, row: str) -> bool:
    try:
        words = shlex.split(part)
    except ValueError:
        return False
    if words[:1] == ["sort"]:
        return True
    if not words or words[0] not in ("grep", "egrep", "fgrep"):
        return False
    options = [w for w in words[1:] if w.startswith("-") and w != "-e"]
    patterns = [w for k, w in enumerate(words[1:], 1) if not w.startswith("-")]
    if "-e" not in words:
        patterns = patterns[:1]
    if not patterns or any(set(o[1:]) - set("iEwPF") for o in options):
        return False
    return any(_found(p.replace("\\|", "|"), row) for p in patterns)


def _found(pattern: str, row: str) -> bool:
    # Words and alternatives only: a pattern of a stranger's is not run.
    return any(
        (row.startswith(a[1:]) if a.startswith("^") else a in row)
        for a in re.split(r"[|()]", pattern.removesuffix("$"))
        if a and not re.search(r"[\[\]*+?{}\\]", a)
    )


FORMAT = LineFormat("lsmod", re.compile(r"^[a-z][\w-]*\s+\d{4,9}\s+\d|^Module\s+Size\s"), _read, priority=16)
