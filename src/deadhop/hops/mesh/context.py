"""What one walk carries along: the mesh, what is known of the far end, the release, and the steps so far."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from deadhop.hops.mesh.mesh import Mesh
from deadhop.hops.mesh.versions import Version
from deadhop.model.mesh import AppFact
from deadhop.model.trace import Step


class Context:
    """The state of one walk."""

    __slots__ = ("facts", "mesh", "steps", "unknown", "version")

    def __init__(self, mesh: Mesh, facts: Iterable[AppFact], version: Version) -> None:
        self.mesh = mesh
        self.version = version
        self.steps: list[Step] = []
        self.unknown: list[str] = []
        self.facts: dict[tuple[str, str], AppFact] = {(f.where, f.what): f for f in facts}

    def say(
        self, decided_by: object, text: str, ok: bool | None = True, function: str = "", **detail: Any
    ) -> None:
        """Record who decided what."""
        self.steps.append(
            Step(decided_by=str(decided_by), text=text, ok=ok, function=function, detail=detail)
        )

    def lacks(self, what: str) -> None:
        """Record what the objects do not say."""
        if what not in self.unknown:
            self.unknown.append(what)

    def fact(self, what: str, *places: str) -> AppFact | None:
        """A known behaviour at one of these places."""
        if not self.facts:
            return None
        return next((f for p in places if (f := self.facts.get((p, what))) is not None), None)

    def fork(self) -> Context:
        """A context for one of several possible ways, with steps of its own."""
        twin = Context(self.mesh, (), self.version)
        twin.facts = self.facts
        return twin

    def join(self, other: Context) -> None:
        """Take over the steps of the way that was taken."""
        self.steps += other.steps
        for what in other.unknown:
            self.lacks(what)
