"""Commands that printed nothing: what they looked for is not there."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from deadhop.model.observed.shell import CommandRun


def silent(runs: Iterable[CommandRun]) -> list[CommandRun]:
    """Commands whose next line is another command. A command at the end of a file may have been cut off there."""
    by_file: dict[str, list[CommandRun]] = {}
    for run in runs:
        if not run.quoted and run.source.line:
            by_file.setdefault(run.source.file, []).append(run)
    found = []
    for listed in by_file.values():
        listed.sort(key=lambda r: r.source.line)
        for run, following in pairwise(listed):
            if following.source.line == max(run.source.line, run.source.end) + 1:
                found.append(run)
    return found
