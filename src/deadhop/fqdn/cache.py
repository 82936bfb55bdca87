"""``DNSCache``: names to addresses until their TTL ends (``pkg/fqdn/cache.go``).

An update makes one immutable entry; each (name, address) pair points at the entry that expires last. An address
that a later response omits stays until its own TTL ends. Expiry is judged against the time of the last GC and
not against the clock, so lookups may return what has run out until the next GC. Names over the per-name limit are
only flagged at insert; the earliest-expiring addresses go at the next GC.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

import msgspec

from deadhop.fqdn.clock import from_rfc3339, rfc3339_nano
from deadhop.fqdn.options import V1_19, Version
from deadhop.fqdn.zombies import DNSZombieMappings, two_passes

NameMatch = Callable[[str], bool]


class UpdateStatus(NamedTuple):
    """What an update did: ``upserted`` a new pair, ``updated`` a new pair or a later expiry."""

    updated: bool
    upserted: bool

    def is_news(self, version: Version) -> bool:
        """Whether the agent acts on it. Up to 1.18 it could not tell the two apart and acted on both."""
        return self.upserted if version >= V1_19 else self.updated


class Entry(msgspec.Struct, frozen=True):
    """One DNS lookup. ``ttl`` in seconds, already raised to the minimum TTL."""

    name: str
    lookup_time: float
    expiration_time: float
    ttl: int
    ips: tuple[str, ...]

    def expired_by(self, time: float) -> bool:
        return time > self.expiration_time

    def to_json(self) -> dict[str, Any]:
        """The object of ``fqdn cache list -o json`` and of the state file; empty values are left out."""
        found: dict[str, Any] = {
            "fqdn": self.name,
            "lookup-time": rfc3339_nano(self.lookup_time),
            "expiration-time": rfc3339_nano(self.expiration_time),
            "ttl": self.ttl,
            "ips": list(self.ips),
        }
        return {key: value for key, value in found.items() if value or key.endswith("-time")}


def entry_from_json(item: Mapping[str, Any]) -> Entry:
    """Read one saved entry. Raises ``ValueError`` where it is not one."""
    ips = item.get("ips") or []
    if not isinstance(ips, list):
        raise ValueError("ips is not a list")
    try:
        return Entry(
            name=str(item["fqdn"]),
            lookup_time=from_rfc3339(str(item["lookup-time"])),
            expiration_time=from_rfc3339(str(item["expiration-time"])),
            ttl=int(item.get("ttl") or 0),
            ips=tuple(canonical_ip(str(ip)) for ip in ips),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a saved DNS lookup: {error}") from error


def canonical_ip(text: str) -> str:
    """An address in canonical text, IPv4-mapped IPv6 unmapped (``ip.FromStdIP``). Raises ``ValueError``."""
    address = ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def sort_ips(ips: Iterable[str]) -> list[str]:
    """Addresses in numeric order, IPv4 before IPv6."""
    return sorted(ips, key=lambda ip: (":" in ip, int(ip_address(ip))))


class DNSCache:
    """``tracked`` is False for the global cache: its entries never time out, only ``replace`` removes them."""

    def __init__(self, min_ttl: int = 0, per_host_limit: int = 0, *, tracked: bool = True) -> None:
        self.min_ttl = min_ttl
        self.per_host_limit = per_host_limit
        self.tracked = tracked
        self.last_cleanup: float | None = None
        self.forward: dict[str, dict[str, Entry]] = {}
        self.reverse: dict[str, dict[str, Entry]] = {}
        self.cleanup: dict[int, list[str]] = {}
        self.over_limit: dict[str, None] = {}

    def update(self, lookup_time: float, name: str, ips: Sequence[str], ttl: int) -> UpdateStatus:
        """Insert one lookup. ``ttl`` has no upper cap; 0 is legal and expires at the lookup time.

        The entry keeps the addresses as they come, a repeated one too; one without any leaves its name in the cache.
        """
        ttl = max(ttl, self.min_ttl)
        return self.update_entry(Entry(name, lookup_time, lookup_time + ttl, ttl, tuple(ips)))

    def update_entry(self, entry: Entry) -> UpdateStatus:
        """Insert an entry as it is."""
        updated = upserted = False
        pairs = self.forward.setdefault(entry.name, {})
        for ip in entry.ips:
            old = pairs.get(ip)
            if old is not None and not old.expiration_time < entry.expiration_time:
                continue
            updated = True
            upserted = upserted or old is None
            pairs[ip] = entry
            self.reverse.setdefault(ip, {})[entry.name] = entry
            self._add_cleanup(entry)
        if self.per_host_limit > 0 and len(pairs) > self.per_host_limit:
            self.over_limit[entry.name] = None
        return UpdateStatus(updated, upserted)

    def _add_cleanup(self, entry: Entry) -> None:
        if not self.tracked:
            return
        if self.last_cleanup is None or entry.expiration_time < self.last_cleanup:
            self.last_cleanup = entry.expiration_time
        names = self.cleanup.setdefault(math.floor(entry.expiration_time), [])
        if not names or names[-1] != entry.name:
            names.append(entry.name)

    def lookup(self, name: str, at: float | None = None) -> list[str]:
        """Addresses of ``name`` that had not expired at ``at`` (by default at the last GC), sorted."""
        now = self.last_cleanup if at is None else at
        pairs = self.forward.get(name, {})
        return sort_ips(ip for ip, entry in pairs.items() if now is None or not entry.expired_by(now))

    def lookup_ip(self, ip: str, at: float | None = None) -> list[str]:
        """Names that hold ``ip``, sorted; time as in :meth:`lookup`."""
        now = self.last_cleanup if at is None else at
        pairs = self.reverse.get(ip, {})
        return sorted(name for name, entry in pairs.items() if now is None or not entry.expired_by(now))

    def lookup_matching(self, match: NameMatch, at: float | None = None) -> dict[str, list[str]]:
        """Names that ``match`` accepts with their addresses, without names that have none left."""
        found = {name: self.lookup(name, at) for name in self.forward if match(name)}
        return {name: ips for name, ips in found.items() if ips}

    def cleanup_expired(self, now: float) -> tuple[list[str], list[tuple[str, Entry]]]:
        """Drop what has expired: (names that were due, dropped pairs as (ip, entry)).

        The cleanup index counts whole seconds, so the cache's time may end up to a second after ``now``.
        """
        start = self.last_cleanup
        if start is None or not start < now:
            return [], []
        first = math.floor(start)
        self.last_cleanup = end = float(max(first + 1, math.ceil(now)))
        due: dict[str, None] = {}
        for second in sorted(key for key in self.cleanup if first <= key < end):
            due.update(dict.fromkeys(self.cleanup.pop(second)))
        names: list[str] = []
        removed: list[tuple[str, Entry]] = []
        for name in due:
            if name in self.forward:
                names.append(name)
                removed.extend(self._remove_where(name, lambda entry: entry.expired_by(end)))
        return names, removed

    def cleanup_over_limit(self) -> tuple[list[str], list[tuple[str, Entry]]]:
        """Drop the earliest-expiring addresses of flagged names that are still over the limit."""
        if self.per_host_limit == 0:
            return [], []
        names: list[str] = []
        removed: list[tuple[str, Entry]] = []
        for name in self.over_limit:
            pairs = self.forward.get(name, {})
            excess = len(pairs) - self.per_host_limit
            if excess <= 0:
                continue
            by_expiry = sorted(pairs.items(), key=lambda pair: pair[1].expiration_time)
            for ip, entry in by_expiry[:excess]:
                self._remove(ip, entry)
                removed.append((ip, entry))
            names.append(name)
        self.over_limit.clear()
        return names, removed

    def gc(self, now: float, zombies: DNSZombieMappings | None = None) -> list[str]:
        """Drop what has expired or is over the limit, into ``zombies`` where given. Returns the affected names.

        An address evicted for the limit keeps its future expiry as a zombie. What has expired is due now; until two
        conntrack passes were needed, it was due when it expired.
        """
        expired, expired_pairs = self.cleanup_expired(now)
        over, over_pairs = self.cleanup_over_limit()
        if zombies is not None:
            for ip, entry in expired_pairs + over_pairs:
                due = (
                    max(now, entry.expiration_time) if two_passes(zombies.version) else entry.expiration_time
                )
                zombies.upsert(due, ip, entry.name)
        return list(dict.fromkeys(expired + over))

    def update_from(
        self,
        other: DNSCache,
        names: Collection[str] | None = None,
        allowed: Collection[tuple[str, str]] | None = None,
    ) -> None:
        """Insert the entries of another cache, for ``names`` or all; only (name, ip) pairs in ``allowed`` if given.

        Without ``allowed`` no names are all names (``updateFromCache``); with it an entry keeps only the addresses
        that are inserted (``partialRestoreFromCache``, 1.19).
        """
        everything = names is None or (allowed is None and not names)
        for name in list(other.forward if everything else names or ()):
            for entry in list({id(e): e for e in other.forward.get(name, {}).values()}.values()):
                if allowed is None:
                    self.update_entry(entry)
                elif kept := tuple(ip for ip in entry.ips if (name, ip) in allowed):
                    self.update_entry(msgspec.structs.replace(entry, ips=kept))

    def replace(
        self,
        names: Collection[str],
        updates: Iterable[DNSCache],
        allowed: Collection[tuple[str, str]] | None = None,
    ) -> None:
        """Drop every entry of ``names`` and take them from ``updates`` anew (``ReplaceFromCacheByNames``)."""
        for name in names:
            self._remove_where(name, lambda _: True)
        for update in updates:
            self.update_from(update, names, allowed)

    def force_expire(self, before: float | None, match: NameMatch | None = None) -> list[str]:
        """Drop entries looked up, or expired, before ``before`` whose name matches. Returns the affected names.

        Without ``before`` nothing qualifies (``ForceExpire`` with Go's zero time).
        """
        if before is None:
            return []
        affected = []
        for name in [name for name in self.forward if match is None or match(name)]:
            if self._remove_where(name, lambda entry: entry.expired_by(before) or entry.lookup_time < before):
                affected.append(name)
        return affected

    def drop(self, name: str, ip: str) -> None:
        """Forget one pair; an unknown one is passed over."""
        entry = self.forward.get(name, {}).get(ip)
        if entry is not None:
            self._remove(ip, entry)

    def _remove_where(self, name: str, test: Callable[[Entry], bool]) -> list[tuple[str, Entry]]:
        gone = [(ip, entry) for ip, entry in self.forward.get(name, {}).items() if test(entry)]
        for ip, entry in gone:
            self._remove(ip, entry)
        return gone

    def _remove(self, ip: str, entry: Entry) -> None:
        for index, key, item in ((self.forward, entry.name, ip), (self.reverse, ip, entry.name)):
            pairs = index.get(key, {})
            pairs.pop(item, None)
            if not pairs:
                index.pop(key, None)

    def pairs(self) -> set[tuple[str, str]]:
        """Every (name, ip) pair."""
        return {(name, ip) for name, ips in self.forward.items() for ip in ips}

    def count(self) -> tuple[int, int]:
        """(names, (name, ip) pairs)."""
        return len(self.forward), sum(len(ips) for ips in self.forward.values())

    def dump(self) -> list[Entry]:
        """Every entry that still provides an address, once, expired or not, with all of its addresses."""
        return list({id(e): e for ips in self.forward.values() for e in ips.values()}.values())

    def to_json(self) -> str:
        return json.dumps([entry.to_json() for entry in self.dump()], separators=(",", ":"))

    def load_json(self, raw: str | bytes) -> list[str]:
        """Replace the content with a saved one (a state file's ``DNSHistory``, a pre-cache file).

        Returns complaints about what was passed over. Raises ``ValueError`` where it is not a JSON array.
        """
        items = json.loads(raw)
        if not isinstance(items, list):
            raise ValueError("not a JSON array of DNS lookups")
        self.forward, self.reverse = {}, {}
        complaints = []
        for number, item in enumerate(items):
            try:
                self.update_entry(entry_from_json(item if isinstance(item, dict) else {}))
            except ValueError as error:
                complaints.append(f"[{number}]: {error}")
        return complaints
