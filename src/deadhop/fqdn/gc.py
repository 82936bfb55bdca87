"""The two clean-ups that decide how long a learned address lives: the DNS GC job and the conntrack GC.

Every minute the DNS GC moves what has expired from each endpoint's cache to its zombies and rebuilds the affected
names of the global cache from live entries and living zombies (``pkg/fqdn/namemanager/gc.go``). Conntrack GC runs
at its own, adaptive interval and tells the zombies which addresses still have an outgoing flow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from deadhop.fqdn.cache import DNSCache, NameMatch
from deadhop.fqdn.clock import ZERO
from deadhop.fqdn.identity import NameManager
from deadhop.fqdn.options import V1_19, Options, Version
from deadhop.fqdn.zombies import DNSZombieMappings

DNS_GC_INTERVAL = 60.0
ACTIVE_CONNECTIONS_TTL = 120
LOGGED_NAMES = 20
LEAK_SWEEP_SINCE = Version(1, 18, 5)

CT_GC_START_INTERVAL = 300.0
CT_GC_MIN_INTERVAL = 10.0
CT_GC_MAX_INTERVAL = 43200.0


class Endpoint:
    """The DNS state of one endpoint: its history and its zombies."""

    def __init__(self, id: int, version: Version, options: Options) -> None:
        self.id = id
        self.history = DNSCache(options.min_ttl, options.max_ips_per_hostname)
        self.zombies = DNSZombieMappings(
            version,
            options.max_deferred_connection_deletes,
            options.max_ips_per_hostname,
            options.idle_connection_grace_period,
        )


class GCResult(NamedTuple):
    """What one run of the DNS GC cleaned: names (sorted) and the zombies' warnings."""

    names: list[str]
    warnings: tuple[str, ...] = ()

    @property
    def log_fields(self) -> dict[str, str | int]:
        """The fields of the log line ``FQDN garbage collector work deleted entries``."""
        return {"lenEntries": len(self.names), "entries": ",".join(self.names[:LOGGED_NAMES])}


def dns_gc(manager: NameManager, endpoints: Sequence[Endpoint], now: float) -> GCResult:
    """One run of ``dns-garbage-collector-job``."""
    before = manager.cache.pairs()
    active = DNSCache(ACTIVE_CONNECTIONS_TTL)
    names: dict[str, None] = {}
    warnings: list[str] = []
    for endpoint in endpoints:
        names.update(dict.fromkeys(endpoint.history.gc(now, endpoint.zombies)))
        swept = endpoint.zombies.gc()
        warnings.extend(swept.warnings)
        for zombie in swept.alive:
            for name in zombie.names:
                names[name] = None
                active.update(now, name, [zombie.ip], ACTIVE_CONNECTIONS_TTL)
        for zombie in swept.dead:
            names.update(dict.fromkeys(zombie.names))
    histories = [endpoint.history for endpoint in endpoints]
    if manager.version >= LEAK_SWEEP_SINCE:
        held = {name for history in histories for name in history.forward}
        names.update(dict.fromkeys(name for name, _ in before if name not in held))
    if names:
        only_known = manager.version >= V1_19
        recent = manager.recent if only_known else []
        manager.cache.replace(names, [active, *histories, *recent], before if only_known else None)
        manager.drop_stale([pair for pair in before if pair[0] in names])
    manager.recent = []
    return GCResult(sorted(names), tuple(warnings))


def conntrack_gc(
    endpoints: Iterable[Endpoint],
    outgoing: Collection[tuple[int, str]],
    start: float,
    following: float = ZERO,
    *,
    grace: float = 0.0,
    complete: bool = True,
) -> None:
    """One conntrack pass that saw the live outgoing flows ``(endpoint id, destination)``.

    A pass that failed or covered part of the maps marks what it saw but does not count.
    """
    seen: dict[int, list[str]] = {}
    for owner, ip in outgoing:
        seen.setdefault(owner, []).append(ip)
    for endpoint in endpoints:
        for ip in seen.get(endpoint.id, ()):
            endpoint.zombies.mark_alive(start + grace, ip)
        if complete:
            endpoint.zombies.set_ct_gc_time(start, following)


def next_conntrack_interval(interval: float, delete_ratio: float, maximum: float = 0.0) -> float:
    """Seconds to the next conntrack pass (``ctmap.calculateInterval``); ``maximum`` 0 leaves the built-in limit.

    More than a quarter deleted shortens the interval by that share, less than a twentieth lengthens it by half.
    """
    if delete_ratio > 0.25:
        interval = max(interval * (1.0 - min(delete_ratio, 0.9)), CT_GC_MIN_INTERVAL)
    elif delete_ratio < 0.05:
        interval = min(interval * 1.5, CT_GC_MAX_INTERVAL)
    return min(interval, maximum) if maximum else interval


def cache_clean(
    manager: NameManager, endpoints: Sequence[Endpoint], now: float, match: NameMatch | None = None
) -> list[str]:
    """``fqdn cache clean``: expire now what matches, everywhere; returns the affected names, sorted.

    ``match`` works on canonical names: Cilium does not sanitise the pattern here, so ``-p example.com`` without the
    final dot matches nothing. What a living connection still holds comes back to the global cache with TTL 0.
    """
    before = manager.cache.pairs()
    affected = set(manager.cache.force_expire(now, match))
    for endpoint in endpoints:
        affected.update(endpoint.history.force_expire(now, match))
        affected.update(endpoint.zombies.force_expire(now, match))
        for zombie in endpoint.zombies.gc().alive:
            for name in zombie.names:
                manager.cache.update(now, name, [zombie.ip], 0)
    manager.drop_stale(before)
    return sorted(affected)


def restore(
    manager: NameManager,
    endpoints: Sequence[Endpoint],
    now: float,
    pre_cache: DNSCache | None = None,
) -> None:
    """What an agent does with saved state at start (``RestorationNotify``): pre-cache, histories, zombies.

    Histories go to the global cache as they are and are then cleaned at ``now``; living zombies follow with the
    TTL of an active connection. The names then get their labels.
    """
    if pre_cache is not None:
        manager.cache.update_from(pre_cache)
    for endpoint in endpoints:
        manager.cache.update_from(endpoint.history)
        endpoint.history.gc(now, endpoint.zombies)
        for zombie in endpoint.zombies.gc().alive:
            for name in zombie.names:
                manager.cache.update(now, name, [zombie.ip], ACTIVE_CONNECTIONS_TTL)
    manager.relabel_all()
