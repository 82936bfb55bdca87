"""What runs by the clock: the DNS GC, the look at connections, and the snapshot of the state.

The conntrack table is read in a thread, because it may be large; what it holds comes back into the loop. The adaptive
interval is Cilium's (``ctmap.calculateInterval``), with the share of connections that are gone since the last look.
"""

from __future__ import annotations

import gc
import time
from threading import Thread
from typing import TYPE_CHECKING, Any

import msgspec

from deadhop.agent import conntrack
from deadhop.fqdn.dns_rules import WILDCARD_RULE
from deadhop.fqdn.gc import CT_GC_START_INTERVAL, next_conntrack_interval
from deadhop.model.observed.kube import KubeObject, mapping, mappings

if TYPE_CHECKING:
    from deadhop.agent.agent import Agent

SNAPSHOT_STEP = 0.02
DAY = 86400.0


def tidy() -> None:
    """Python's cyclic garbage, looked for among what is new and left alone in what is old.

    A collection of everything takes a tenth of a second with ten thousand selectors, and answers would wait for it.
    Nothing here that lives long has cycles; what dies is freed by its reference count.
    """
    gc.collect(0)
    gc.freeze()


class Jobs:
    """The timers of an agent."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.interval = agent.settings.conntrack_interval or CT_GC_START_INTERVAL
        self._seen: set[tuple[int, str]] = set()
        self._looking = False
        agent.loop.every(agent.settings.dns_gc_interval, self.dns_gc)
        agent.loop.after(self.interval, self._look)
        agent.loop.every(1.0, self._compact)
        agent.loop.every(DAY, agent.replace_table)  # leases longer than nft can hold go on

    # DNS GC

    def dns_gc(self) -> None:
        """Drop what has expired, here and in the kernel."""
        agent = self.agent
        result, change, gone = agent.core.dns_gc(time.time())
        agent.stats.count["gc_deletions"] += len(result.names)
        for warning in result.warnings:
            agent.flows.note(warning)
        for line in gone:
            agent.journal.add(line)
        agent.journal.flush()
        if change:
            agent.worker.apply(change, lambda error: agent.set_failed(error) if error else None)
        tidy()

    # Connections

    def _look(self) -> None:
        if not self._looking:
            self._looking = True
            Thread(target=self._read, name="conntrack", daemon=True).start()

    def look_now(self, done: Any = None) -> None:
        """Look at the connections at once (for tests and for people), then call ``done``."""
        self._looking = True
        Thread(target=self._read, args=(done, False), name="conntrack", daemon=True).start()

    def _read(self, done: Any = None, again: bool = True) -> None:
        agent, start = self.agent, time.time()
        by_ip = agent.core.by_ip
        live: set[tuple[int, str]] = set()
        complete, problem = True, ""
        try:
            for entry in conntrack.entries():
                owner = by_ip.get(entry.source)
                if owner is not None and owner.id and not entry.over:
                    live.add((owner.id, entry.destination))
        except OSError as error:
            complete, problem = False, str(error)
        agent.loop.post(lambda: self._looked(live, start, complete, problem, done, again))

    def _looked(
        self, live: set[tuple[int, str]], start: float, complete: bool, problem: str, done: Any, again: bool
    ) -> None:
        agent, fixed = self.agent, self.agent.settings.conntrack_interval
        self._looking = False
        if problem:
            agent.flows.note(f"connections could not be read: {problem}")
        if complete and not fixed:
            ratio = len(self._seen - live) / len(self._seen) if self._seen else 0.0
            self.interval = next_conntrack_interval(
                self.interval, ratio, agent.settings.conntrack_max_interval
            )
            self._seen = live
        agent.core.node.conntrack_gc(live, start, start + self.interval, complete=complete)
        if again:
            agent.loop.after(self.interval, self._look)
        if done is not None:
            done()

    def end_forbidden(self) -> None:
        """End connections that the policies in force do not allow any more; Cilium judges every packet."""
        Thread(target=self._end, name="conntrack", daemon=True).start()

    def _end(self) -> None:
        agent, core = self.agent, self.agent.core

        def forbidden(entry: conntrack.Entry) -> bool:
            owner = core.by_ip.get(entry.source)
            if owner is None or not owner.local or entry.over:
                return False
            return not core.permits(owner, entry.destination, entry.protocol, entry.port)

        try:
            ended = conntrack.end_where(forbidden)
        except OSError as error:
            text = f"connections that are not allowed any more go on: {error}"
            agent.loop.post(lambda: agent.flows.note(text))
            return
        if ended:
            agent.loop.post(
                lambda: agent.flows.note(f"ended {ended} connections that are not allowed any more")
            )

    # State

    def _compact(self) -> None:
        journal = self.agent.journal
        if journal.busy:
            if journal.step():
                self.agent.loop.after(SNAPSHOT_STEP, self._compact_step)
        elif journal.wants_snapshot:
            journal.begin_snapshot(self.agent.core.lines(self.agent.port))

    def _compact_step(self) -> None:
        if self.agent.journal.busy and self.agent.journal.step():
            self.agent.loop.after(SNAPSHOT_STEP, self._compact_step)

    def unload_dns(self) -> None:
        """``dns-policy-unload-on-shutdown``: DNS rules with the literal ``*`` become plain allows."""
        agent, core = self.agent, self.agent.core
        policies = [_without_wildcard(policy) for policy in core.policies]
        core.adopt(core.endpoints, policies, core.prepare(core.endpoints, policies))
        agent.replace_table()


def _without_wildcard(policy: KubeObject) -> KubeObject:
    raw = msgspec.json.decode(msgspec.json.encode(policy.raw))
    for spec in [mapping(raw, "spec"), *mappings(raw, "specs")]:
        for rule in mappings(spec, "egress"):
            for item in mappings(rule, "toPorts"):
                listed = mappings(mapping(item, "rules"), "dns")
                if any(entry.get("matchPattern") == WILDCARD_RULE.match_pattern for entry in listed):
                    del item["rules"]
    return msgspec.structs.replace(policy, raw=raw)
