"""What the agent answers at its unix socket."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from deadhop.agent.api import Client, Handler, row_to_json
from deadhop.agent.flows import Entry
from deadhop.agent.journal import StateError
from deadhop.fqdn.cache import NameMatch
from deadhop.fqdn.flows import FlowLine
from deadhop.fqdn.patterns import compile_unchecked

if TYPE_CHECKING:
    from deadhop.agent.agent import Agent

FIRST = 20
"""Flows that ``observe`` shows where nothing else is asked for, as ``hubble observe`` does."""


def handlers(agent: Agent) -> dict[str, Handler]:
    """The commands by name."""

    def once(answer: Callable[[dict[str, Any]], Any]) -> Handler:
        def handle(request: dict[str, Any], client: Client) -> None:
            client.send(answer(request))
            client.end()

        return handle

    def cache_list(request: dict[str, Any]) -> Any:
        rows = agent.core.node.global_rows() if request.get("global") else agent.core.cache_rows()
        return {"rows": [row_to_json(row) for row in rows]}

    def cache_clean(request: dict[str, Any]) -> Any:
        match = matcher(agent, request.get("pattern"))
        names, change = agent.core.clean(time.time(), match)
        agent.proxy.forget()
        if change:
            agent.worker.apply(change, lambda error: agent.set_failed(error) if error else None)
        try:
            agent.journal.snapshot(agent.core.lines(agent.port))
        except StateError as error:
            raise ValueError(f"cleaned {len(names)} names, which a restart may bring back: {error}") from None
        return {"cleaned": names}

    def names(_request: dict[str, Any]) -> Any:
        listed = [[s.match_name, s.match_pattern] for s in agent.core.selectors()]
        return {"names": listed, "version": str(agent.core.version)}

    def selectors(_request: dict[str, Any]) -> Any:
        rows = [msgspec.to_builtins(row) for row in agent.core.selector_rows()]
        return {"selectors": rows, "version": str(agent.core.version)}

    def status(_request: dict[str, Any]) -> Any:
        return {
            "counts": dict(agent.stats.count),
            "endpoints": {e.name: e.id for e in agent.core.endpoints if e.local},
            "port": agent.port,
            "elements": agent.core.sets.elements,
            "names": len(agent.core.node.names.cache.forward),
        }

    return {
        "cache-list": once(cache_list),
        "cache-clean": once(cache_clean),
        "names": once(names),
        "selectors": once(selectors),
        "status": once(status),
        "collect": lambda _request, client: collect(agent, client),
        "observe": lambda request, client: observe(agent, request, client),
    }


def collect(agent: Agent, client: Client) -> None:
    """A look at the connections and a DNS GC now, in this order; answered when the kernel's sets have the change."""

    def applied(_error: str) -> None:
        client.send({"done": True})
        client.end()

    def looked() -> None:
        agent.jobs.dns_gc()
        agent.worker.apply((), applied)

    agent.jobs.look_now(looked)


def matcher(agent: Agent, pattern: Any) -> NameMatch | None:
    """The names that ``fqdn cache clean -p`` means: the pattern is not sanitised, so it needs its final dot."""
    if not pattern:
        return None
    return compile_unchecked(str(pattern).strip().lower(), agent.core.version).matches


def observe(agent: Agent, request: dict[str, Any], client: Client) -> None:
    """The last flows, oldest first, and those to come where ``follow`` is asked for."""
    log = agent.flows
    last = request.get("last")
    follow = bool(request.get("follow"))
    number = last if isinstance(last, int) and last >= 0 else (0 if follow else FIRST)
    ring = list(log.ring)
    shown = list(_tail(ring, number, log.lines)) if number else []
    for line in shown:
        client.send(line)
    if not follow:
        client.end()
        return

    def follower(entry: Entry) -> None:
        for line in log.lines(entry):
            client.send(line)

    log.followers.append(follower)
    client.closed = lambda: log.followers.remove(follower)


def _tail(ring: list[Entry], number: int, lines: Callable[[Entry], Iterator[FlowLine]]) -> Iterator[FlowLine]:
    found: list[FlowLine] = []
    for entry in reversed(ring):
        found.extend(reversed(list(lines(entry))))
        if len(found) >= number:
            break
    yield from reversed(found[:number])
