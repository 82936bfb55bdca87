"""Asks Cilium's own code: one process per version, made by ``scripts/build-cilium-oracle``.

A question is a list of calls (see ``oracle/overlay/deadhop-oracle/call.go``); objects that a call makes live for one
question.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from deadhop.fqdn.options import Version

Call = dict[str, Any]


def call(name: str, *arguments: Any, into: str = "") -> Call:
    found: Call = {"call": name, "with": list(arguments)}
    return {**found, "as": into} if into else found


def oracles() -> dict[Version, Path]:
    """The programs that were built, oldest version first."""
    given = os.environ.get("DEADHOP_CILIUM_ORACLES")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = Path(given) if given else cache / "deadhop" / "bin"
    prefix = "cilium-oracle-"
    found = {Version.parse(path.name.removeprefix(prefix)): path for path in place.glob(f"{prefix}*")}
    return dict(sorted(found.items()))


class Oracle:
    """One running program."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def ask(self, calls: list[Call]) -> list[Any]:
        """The result of each call; ``{"error": text}`` where it returned an error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(calls).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the oracle ended at {calls}"
        answers: list[Any] = json.loads(line)
        for asked, answer in zip(calls, answers, strict=True):
            if isinstance(answer, dict) and set(answer) <= {"unknown", "bad", "panic"} and answer:
                raise AssertionError(f"{asked}: {answer}")
        return answers

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(10)
