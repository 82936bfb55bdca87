"""What somebody looked for by name: listings that grep cut down, and what they would have shown had it been there.

A listing behind ``grep PATTERN`` proves nothing about rows that the pattern does not fit; for those that it fits it is
as good as the whole. ``grep -v`` keeps what does not fit, and is no search.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from deadhop.model.observed.shell import CommandRun, LineCount
from deadhop.model.record import Record
from deadhop.snapshot.silence import silent

_GREP = ("grep", "egrep", "fgrep", "zgrep", "rg")
_CUT = (*_GREP, "head", "tail")
#: Programs that list what runs, and where they see it: kubectl all that its namespace option names, the others a node's.
_LISTING = ("kubectl", "oc", "crictl", "docker", "nerdctl", "podman", "ps", "pgrep")
#: Where a cluster's own parts run; without an option kubectl lists the user's namespace.
_SYSTEM = re.compile(
    r"(?:^|\s)(?:-A|--all-namespaces(?:=true)?|(?:-n|--namespace)[ =]?(?:kube-|calico-)[\w-]+)(?:\s|$)"
)


def patterns(command: str) -> list[str]:
    """The patterns of one ``grep``, its alternatives apart; empty for another command and for ``grep -v``."""
    try:
        words = shlex.split(command)
    except ValueError:
        return []
    if not words or words[0].rsplit("/", 1)[-1] not in _GREP:
        return []
    options = [w for w in words[1:] if w.startswith("-")]
    if any(re.match(r"^-\w*v|^--invert", o) for o in options):
        return []
    named = [words[k + 1] for k, w in enumerate(words[:-1]) if re.match(r"^-\w*e$", w)]
    plain = named or [w for w in words[1:] if not w.startswith("-")][:1]
    return [part for word in plain for part in re.split(r"\\?\|", word) if part]


def finds(command: str, name: str) -> bool:
    """Whether a filter would have kept a row with ``name``."""
    return any(_fits(p, name) for p in patterns(command))


def _fits(pattern: str, name: str) -> bool:
    plain = re.sub(r"[\^$()\\]", "", pattern).lower()
    return len(plain) > 2 and plain in name.lower()


def found_nowhere(
    name: str, runs: Iterable[CommandRun], counts: Iterable[LineCount]
) -> list[CommandRun | LineCount]:
    """Listings of what runs, searched for ``name`` and empty: nothing printed, or a count of zero."""
    found: list[CommandRun | LineCount] = [
        r
        for r in silent(runs)
        if _lists(r.program, " ".join(r.argv)) and r.filters and all(finds(f, name) for f in r.filters)
    ]
    found += [
        c
        for c in counts
        if c.count == 0 and c.unit == "lines" and _lists(c.program, c.command) and any(_fits(p, name) for p in re.split(r"\\?\|", c.pattern))
    ]  # fmt: skip
    return found


def _lists(program: str, line: str) -> bool:
    if program not in _LISTING:
        return False
    return program not in ("kubectl", "oc") or bool(re.search(r"\bget\b", line) and _SYSTEM.search(line))


def would_show(record: Record, name: str, runs: Iterable[CommandRun]) -> bool:
    """Whether the listing that ``record`` is a row of would have a row with ``name``: it was not cut down, or by a search
    for that name."""
    above = [r for r in runs if r.source.file == record.source.file and r.source.line <= record.source.line]
    last = max(above, key=lambda r: r.source.line, default=None)
    cuts = [f for f in last.filters if f.split(" ", 1)[0] in _CUT] if last else []
    return all(finds(f, name) for f in cuts)
