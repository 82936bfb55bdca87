"""``DNSZombieMappings``: addresses that left the cache and may still carry connections (``pkg/fqdn/cache.go``).

One record per address. Conntrack GC marks the addresses that still have an outgoing flow alive and then announces
its start time; a zombie that two complete passes did not see is dead. A name with one open connection keeps all
of its addresses. Limits evict the least important first: earlier marked alive, earlier due, fewer names.

Since 1.12 the per-name limit applies here again, since 1.13 it counts dead siblings. Since 1.16 two passes are needed and the
grace period extends the due time (:func:`two_passes`), since 1.17 a new zombie counts as seen by the last pass
(:func:`seen_at_first`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from deadhop.fqdn.clock import ZERO, from_rfc3339, rfc3339_nano
from deadhop.fqdn.options import V1_12, V1_13, V1_16, V1_17, V1_18, Version
from deadhop.fqdn.patterns import PatternError, compile_unchecked

PASSES_BEFORE_DEATH = 2

WARN_PER_HOST = (
    "Evicting expired DNS cache entries that may be in-use due to per-host limits. This may cause recently created "
    "connections to be disconnected. Raise tofqdns-endpoint-max-ip-per-hostname to mitigate this."
)
WARN_MAX_DEFERRED = (
    "Evicting expired DNS cache entries that may be in-use. This may cause recently created connections to be "
    "disconnected. Raise --tofqdns-max-deferred-connection-deletes to mitigate this."
)


def two_passes(version: Version) -> bool:
    """Whether an address waits for two passes (cilium/cilium PR 31205, backported to 1.14.8 and 1.15.2)."""
    return version.has(V1_16, Version(1, 14, 8), Version(1, 15, 2))


def seen_at_first(version: Version) -> bool:
    """Whether a new zombie counts as seen by the last pass (cilium/cilium PR 36252, backported to 1.16.5)."""
    return version.has(V1_17, Version(1, 16, 5))


class Zombie(NamedTuple):
    """A copy of one record. Times in seconds; ``alive_at`` is ``ZERO`` until a pass has seen it."""

    ip: str
    names: tuple[str, ...]
    alive_at: float
    delete_pending_at: float


class ZombieGC(NamedTuple):
    """What one GC found. The dead are already removed."""

    alive: list[Zombie]
    dead: list[Zombie]
    warnings: tuple[str, ...] = ()


class _Record:
    __slots__ = ("alive_at", "delete_pending_at", "ip", "names", "revision_added_at")

    def __init__(self, ip: str, names: Iterable[str], alive_at: float, due: float, revision: int) -> None:
        self.ip = ip
        self.names = dict.fromkeys(names)
        self.alive_at = alive_at
        self.delete_pending_at = due
        self.revision_added_at = revision

    def copy(self) -> Zombie:
        return Zombie(self.ip, tuple(self.names), self.alive_at, self.delete_pending_at)

    @property
    def importance(self) -> tuple[float, float, int]:
        return self.alive_at, self.delete_pending_at, len(self.names)


def eviction_order(zombies: Iterable[Zombie]) -> list[Zombie]:
    """Zombies in the order in which limits evict them."""
    return sorted(zombies, key=lambda z: (z.alive_at, z.delete_pending_at, len(z.names)))


class DNSZombieMappings:
    """The zombies of one endpoint. ``max_deferred`` 0 allows none; ``per_host_limit`` 0 is no limit."""

    def __init__(
        self, version: Version, max_deferred: int = 10000, per_host_limit: int = 0, idle_grace: float = 0.0
    ) -> None:
        self.version = version
        self.max_deferred = max_deferred
        self.per_host_limit = per_host_limit if version >= V1_12 else 0
        self.idle_grace = idle_grace
        self.last_ct_gc = ZERO
        self.next_ct_gc = ZERO
        self.ct_gc_revision = 0
        self._deletes: dict[str, _Record] = {}

    def __len__(self) -> int:
        return len(self._deletes)

    def __contains__(self, ip: str) -> bool:
        return ip in self._deletes

    def upsert(self, expiry: float, ip: str, *names: str) -> bool:
        """Enqueue an address for deletion; True where it was enqueued already."""
        seen = self.last_ct_gc if seen_at_first(self.version) else ZERO
        record = self._deletes.get(ip)
        if record is None:
            self._deletes[ip] = _Record(ip, names, seen, expiry, self.ct_gc_revision)
            return False
        record.names.update(dict.fromkeys(names))
        record.delete_pending_at = max(record.delete_pending_at, expiry)
        record.alive_at = max(record.alive_at, seen)
        return True

    def mark_alive(self, time: float, ip: str) -> None:
        """A conntrack pass saw an outgoing flow to ``ip``; ``time`` is the pass's start plus the grace period."""
        record = self._deletes.get(ip)
        if record is not None:
            record.alive_at = time

    def set_ct_gc_time(self, start: float, following: float = ZERO) -> None:
        """A complete conntrack pass that began at ``start`` has ended; the next is due at ``following``."""
        self.last_ct_gc = start
        self.next_ct_gc = following
        self.ct_gc_revision += 1

    def _connection_alive(self, record: _Record) -> bool:
        if not two_passes(self.version):
            return not self.last_ct_gc > max(record.delete_pending_at, record.alive_at)
        return not (
            self.last_ct_gc > record.delete_pending_at + self.idle_grace
            and self.last_ct_gc > record.alive_at
            and self.ct_gc_revision >= record.revision_added_at + PASSES_BEFORE_DEATH
        )

    def _alive_names(self) -> dict[str, list[_Record]]:
        """Names with at least one address whose connection is alive, with their addresses that count."""
        found: dict[str, list[_Record]] = {}
        dead: list[_Record] = []
        for record in self._deletes.values():
            if self._connection_alive(record):
                for name in record.names:
                    found.setdefault(name, []).append(record)
            else:
                dead.append(record)
        if self.version.has(V1_13, Version(1, 12, 5)):  # cilium/cilium PR 22510
            for record in dead:
                for name in record.names:
                    if name in found:
                        found[name].append(record)
        return found

    def _alive(self, record: _Record, names: Mapping[str, list[_Record]]) -> bool:
        return self._connection_alive(record) or any(name in names for name in record.names)

    def _in_use(self, record: _Record) -> bool:
        """Whether the eviction of this record, the most important of the evicted, is worth a warning.

        Until a new zombie counted as seen, Cilium asked the opposite: that no pass had seen it.
        """
        return record.alive_at > self.last_ct_gc if seen_at_first(self.version) else record.alive_at == ZERO

    def gc(self) -> ZombieGC:
        """Sort the living from the dead, apply both limits, remove the dead."""
        names = self._alive_names()
        crowded = {name: records for name, records in names.items() if 0 < self.per_host_limit < len(records)}
        alive: list[_Record] = []
        dead: dict[str, _Record] = {}
        for record in self._deletes.values():
            if any(name in crowded for name in record.names):
                continue
            if self._alive(record, names):
                alive.append(record)
            else:
                dead[record.ip] = record
        warnings: list[str] = []
        kept: dict[str, _Record] = {}
        evicted: dict[str, _Record] = {}
        for records in crowded.values():
            records.sort(key=lambda record: record.importance)
            excess = len(records) - self.per_host_limit
            evicted.update((record.ip, record) for record in records[:excess])
            kept.update((record.ip, record) for record in records[excess:])
            if self._in_use(records[excess - 1]) and WARN_PER_HOST not in warnings:
                warnings.append(WARN_PER_HOST)
        dead.update(evicted)
        alive.extend(record for ip, record in kept.items() if ip not in evicted)

        excess = len(alive) - self.max_deferred
        if excess > 0:
            alive.sort(key=lambda record: record.importance)
            dead.update((record.ip, record) for record in alive[:excess])
            if self._in_use(alive[excess - 1]):
                warnings.append(WARN_MAX_DEFERRED)
            del alive[:excess]
        for ip in dead:
            del self._deletes[ip]
        return ZombieGC([r.copy() for r in alive], [r.copy() for r in dead.values()], tuple(warnings))

    def dump_alive(self, selects: Callable[[str], bool] | None = None) -> list[Zombie]:
        """Copies of the living, without applying limits; only addresses that ``selects`` accepts."""
        names = self._alive_names()
        return [
            record.copy()
            for record in self._deletes.values()
            if self._alive(record, names) and (selects is None or selects(record.ip))
        ]

    def dump(self) -> list[Zombie]:
        """Copies of every record."""
        return [record.copy() for record in self._deletes.values()]

    def force_expire(
        self,
        before: float | None = None,
        match: Callable[[str], bool] | None = None,
        ips: Iterable[str] | None = None,
    ) -> list[str]:
        """Drop matching names from zombies due no later than ``before``; None matches all. Returns those names."""
        affected: list[str] = []
        for ip in list(self._deletes if ips is None else ips):
            record = self._deletes.get(ip)
            if record is None or (before is not None and record.delete_pending_at > before):
                continue
            gone = [name for name in record.names if match is None or match(name)]
            affected.extend(gone)
            for name in gone:
                del record.names[name]
            if not record.names:
                del self._deletes[ip]
        return affected

    def force_expire_by_name_ip(self, before: float | None, name: str, ips: Iterable[str]) -> None:
        """A new lookup brought these pairs back to the cache: they are no zombies any more.

        Up to 1.17 the name was read as a pattern, so a star that a client asks for takes other names along.
        """
        match: Callable[[str], bool] = name.__eq__
        if self.version < V1_18 and "*" in name:
            try:
                match = compile_unchecked(name, self.version).matches
            except PatternError:
                return
        self.force_expire(before, match, ips)

    def connection_expiry(self, zombie: Zombie) -> float:
        """The ``ExpirationTime`` that ``fqdn cache list`` prints for a ``connection`` row."""
        return self.next_ct_gc if self.version >= V1_16 else zombie.alive_at

    def to_json(self) -> str:
        deletes = {
            record.ip: {
                "names": list(record.names),
                "ip": record.ip,
                "alive-at": rfc3339_nano(record.alive_at),
                "delete-pending-at": rfc3339_nano(record.delete_pending_at),
            }
            for record in self._deletes.values()
        }
        return json.dumps({"deletes": deletes} if deletes else {}, separators=(",", ":"))

    def load(self, state: Mapping[str, Any]) -> list[str]:
        """Take a saved state over the present one; returns complaints about what was passed over.

        The present revision makes two conntrack passes necessary before any deletion. Until a new zombie counted as
        seen, what a pass had seen was forgotten.
        """
        deletes = state.get("deletes") or {}
        complaints: list[str] = []
        for ip, item in deletes.items() if isinstance(deletes, dict) else ():
            try:
                seen = from_rfc3339(str(item["alive-at"])) if item.get("alive-at") else ZERO
                due = from_rfc3339(str(item["delete-pending-at"]))
                names = [str(name) for name in item.get("names") or ()]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                complaints.append(f"deletes[{ip}]: {error}")
                continue
            self._deletes[str(ip)] = _Record(str(ip), names, seen, due, self.ct_gc_revision)
        for record in self._deletes.values():
            record.revision_added_at = self.ct_gc_revision
            if not seen_at_first(self.version):
                record.alive_at = ZERO
        return complaints
