"""What one walk carries along: the mesh, what is known of the far end, the release, and the steps so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from deadhop.hops.mesh.mesh import Mesh
from deadhop.hops.mesh.proxy.config import Proxies
from deadhop.hops.mesh.versions import Version
from deadhop.model.mesh import AppFact
from deadhop.model.record import Source
from deadhop.model.trace import Step

if TYPE_CHECKING:
    from deadhop.hops.mesh.farend import FarEnd


class Context:
    """The state of one walk. ``proxies`` are the configurations that proxies really run, by ``namespace/pod``.

    ``enter`` walks a connection through a gateway's own proxy, which sends it on to another server in turn: the walk
    gives it, because the server's side cannot import the client's. ``depth`` counts the gateways passed.
    """

    __slots__ = ("depth", "enter", "facts", "mesh", "proxies", "steps", "unknown", "version")

    def __init__(
        self,
        mesh: Mesh,
        facts: Iterable[AppFact],
        version: Version,
        proxies: Proxies | None = None,
        enter: Callable[..., FarEnd | None] | None = None,
    ) -> None:
        self.depth = 0
        self.enter = enter
        self.mesh = mesh
        self.proxies: Proxies = proxies or {}
        self.version = version
        self.steps: list[Step] = []
        self.unknown: list[str] = []
        self.facts: dict[tuple[str, str], AppFact] = {(f.where, f.what): f for f in facts}

    def say(
        self,
        decided_by: object,
        text: str,
        ok: bool | None = True,
        function: str = "",
        sources: tuple[Source, ...] = (),
        **detail: Any,
    ) -> None:
        """Record who decided what, and where the evidence shows it."""
        self.steps.append(
            Step(
                decided_by=str(decided_by),
                text=text,
                ok=ok,
                function=function,
                sources=sources,
                detail=detail,
            )
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
        twin = Context(self.mesh, (), self.version, self.proxies, self.enter)
        twin.facts, twin.depth = self.facts, self.depth
        return twin

    def deeper(self) -> Context:
        """The same walk behind one more gateway: steps and gaps go to the same lists."""
        twin = self.fork()
        twin.steps, twin.unknown, twin.depth = self.steps, self.unknown, self.depth + 1
        return twin

    def join(self, other: Context) -> None:
        """Take over the steps of the way that was taken."""
        self.steps += other.steps
        for what in other.unknown:
            self.lacks(what)
