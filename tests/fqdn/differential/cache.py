"""The DNS cache, operation by operation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from deadhop.fqdn.cache import DNSCache, Entry
from deadhop.fqdn.options import V1_19, Version

from ..real_cilium import Oracle, call
from .cases import Area, Case, Outcomes, Random

# Caches. Times are quarters of a second: exact in a float and in Go.

NAMES = ("a.", "b.", "c.io.", "d.io.", "x.c.io.", "*.io.")
IPS = ("1.1.1.1", "1.1.1.2", "1.1.1.3", "2.2.2.2", "10.0.0.1", "::1", "2001:db8::1")
REGEXES = ("^a[.]$", ".*io[.]", "^[ab][.]$", "^$", ".*")


def moment(rng: Random) -> float:
    return 1000.0 + rng.randrange(120) / rng.choice((1, 1, 4))


def some(rng: Random, pool: tuple[str, ...], most: int = 3) -> list[str]:
    return [rng.choice(pool) for _ in range(rng.randrange(most + 1))]


def make_cache_ops(rng: Random) -> Case:
    ops: Case = [["new", rng.choice((0, 0, 5, 30)), rng.choice((0, 0, 1, 2, 3)), rng.random() < 0.85]]
    for _ in range(rng.randrange(3, 25)):
        kind = rng.choice(CACHE_KINDS)
        match kind:
            case "update":
                # Under a limit one address at a time: those of one answer are equals.
                ips = some(rng, IPS, 1 if ops[0][2] and rng.random() < 0.8 else 3)
                ops.append([kind, moment(rng), rng.choice(NAMES), ips, rng.choice((0, 1, 5, 10, 60))])
            case "gc" | "cleanup_expired":
                ops.append([kind, moment(rng) + 20])
            case "lookup" | "lookup_at":
                ops.append([kind, rng.choice(NAMES), moment(rng)])
            case "lookup_ip" | "lookup_ip_at":
                ops.append([kind, rng.choice(IPS), moment(rng)])
            case "lookup_regex" | "lookup_regex_at":
                ops.append([kind, rng.choice(REGEXES), moment(rng)])
            case "force_expire":
                ops.append([kind, rng.choice((None, moment(rng))), rng.choice((None, *REGEXES))])
            case "update_from" | "replace":
                updates = [
                    [moment(rng), rng.choice(NAMES), some(rng, IPS), rng.choice((0, 5, 60))]
                    for _ in range(rng.randrange(1, 4))
                ]
                ops.append([kind, updates, sorted(set(some(rng, NAMES)))])
            case _:
                ops.append([kind])
    return ops


CACHE_KINDS = (
    *["update"] * 8, "gc", "gc", "lookup", "lookup_at", "lookup_ip", "lookup_ip_at", "lookup_regex",
    "lookup_regex_at", "cleanup_expired", "cleanup_over", "force_expire", "update_from", "replace", "dump", "names",
    "ips", "count", "last_cleanup", "cleanup_count", "json", "saved",
)  # fmt: skip


def as_list(answer: Any) -> list[str]:
    return sorted(answer or [])


def flat(removed: Any) -> list[list[Any]]:
    """Removed entries by address, as pairs of address and name."""
    return sorted([ip, entry["Name"]] for ip, entries in (removed or {}).items() for entry in entries)


def real_cache_calls(op: list[Any], version: Version, at: int) -> list[dict[str, Any]]:
    """The calls of one operation; the last one's answer is the outcome."""
    match op:
        case ["new", min_ttl, limit, tracked]:
            calls = [call("fqdn.NewDNSCacheWithLimit", min_ttl, limit, into="c")]
            return calls if tracked else [*calls, call("$c.DisableCleanupTrack")]
        case ["update", time, name, ips, ttl]:
            return [call("$c.Update", time, name, ips, ttl)]
        case ["gc", time]:
            return [call("$c.GC", time, None)]
        case ["cleanup_expired", time]:
            return [call("fqdn.DNSCache.cleanupExpiredEntries", "$c", time)]
        case ["cleanup_over"]:
            return [call("fqdn.DNSCache.cleanupOverLimitEntries", "$c")]
        case ["lookup", name, _]:
            return [call("$c.Lookup", name)]
        case ["lookup_at", name, time]:
            return [call("fqdn.DNSCache.lookupByTime", "$c", time, name)]
        case ["lookup_ip", ip, _]:
            return [call("$c.LookupIP", ip)]
        case ["lookup_ip_at", ip, time]:
            return [call("fqdn.DNSCache.lookupIPByTime", "$c", time, ip)]
        case ["lookup_regex", regex, _]:
            return [call("$c.LookupByRegexp", regex)]
        case ["lookup_regex_at", regex, time]:
            return [call("fqdn.DNSCache.lookupByRegexpByTime", "$c", time, regex)]
        case ["force_expire", before, regex]:
            return [call("$c.ForceExpire", before, regex)]
        case ["update_from", updates, names]:
            other = [call("fqdn.NewDNSCache", 0, into=f"o{at}")]
            other += [call(f"$o{at}.Update", *update) for update in updates]
            more = [] if version >= V1_19 else [names]
            return [*other, call("$c.UpdateFromCache", f"$o{at}", *more)]
        case ["replace", updates, names]:
            other = [call("fqdn.NewDNSCache", 0, into=f"o{at}")]
            other += [call(f"$o{at}.Update", *update) for update in updates]
            return [*other, call("$c.ReplaceFromCacheByNames", names, f"$o{at}")]
        case ["dump"]:
            return [call("$c.Dump")]
        case ["names"]:
            return [call("fqdn.DNSCache.names", "$c")]
        case ["ips"]:
            return [call("fqdn.DNSCache.ips", "$c")]
        case ["count"]:
            return [call("$c.Count")]
        case ["last_cleanup"]:
            return [call("fqdn.DNSCache.lastCleanup", "$c")]
        case ["cleanup_count"]:
            return [call("fqdn.DNSCache.cleanupCount", "$c")]
        case ["json"]:
            return [call("$c.MarshalJSON", into="json"), call("$c.UnmarshalJSON", "$json")]
        case ["saved"]:
            return [call("$c.MarshalJSON")]
    raise AssertionError(op)


def numeric(ips: list[str]) -> list[str]:
    return sorted(ips, key=lambda ip: (":" in ip, int(ip_address(ip))))


def entry_key(name: str, lookup: float, expiration: float, ttl: int, ips: list[str]) -> list[Any]:
    return [name, lookup, expiration, ttl, numeric(ips)]


def saved_entries(text: str) -> list[Any]:
    """A saved history, its entries and their addresses in an order of their own."""
    return sorted(
        json.dumps({**entry, "ips": sorted(entry.get("ips", []))}) for entry in json.loads(text) or []
    )


def saved_zombies(text: str) -> Any:
    return {
        ip: {**zombie, "names": sorted(zombie["names"])}
        for ip, zombie in json.loads(text).get("deletes", {}).items()
    }


def real_cache_outcome(kind: str, answer: Any, version: Version) -> Any:
    match kind:
        case "update":
            return [answer["Updated"], answer["Upserted"]] if version >= V1_19 else answer
        case "update nothing":
            return None
        case "gc" | "force_expire" | "names" | "ips":
            return as_list(answer)
        case "cleanup_expired" | "cleanup_over":
            return [as_list(answer[0]), flat(answer[1])]
        case "lookup" | "lookup_at":
            return numeric(answer or [])
        case "lookup_ip" | "lookup_ip_at":
            return answer or []
        case "lookup_regex" | "lookup_regex_at":
            return {name: numeric(ips) for name, ips in answer.items()}
        case "dump":
            keys = ("Name", "LookupTime", "ExpirationTime", "TTL", "IPs")
            return sorted(entry_key(*(entry[key] for key in keys)) for entry in answer)
        case "saved":
            return saved_entries(answer)
        case "new" | "replace" | "update_from":
            return None
    return answer


def ask_sequence(
    oracle: Oracle,
    version: Version,
    case: Case,
    calls_of: Callable[[list[Any], Version, int], list[dict[str, Any]]],
    outcome_of: Callable[[str, Any, Version], Any],
) -> Outcomes:
    calls: list[dict[str, Any]] = []
    last: list[int] = []
    for at, op in enumerate(case):
        calls += calls_of(op, version, at)
        last.append(len(calls) - 1)
    answers = oracle.ask(calls)
    # Up to 1.18 a name without addresses counts as a change when it is new; the agent never learns one.
    kinds = [f"{op[0]} nothing" if op[0] == "update" and not op[3] else op[0] for op in case]
    return [outcome_of(kind, answers[at], version) for kind, at in zip(kinds, last, strict=True)]


def real_cache(oracle: Oracle, version: Version, case: Case) -> Outcomes:
    return ask_sequence(oracle, version, case, real_cache_calls, real_cache_outcome)


def matcher(regex: str | None) -> Callable[[str], bool] | None:
    if regex is None:
        return None
    compiled = re.compile(regex.replace("$", r"\Z"))
    return lambda name: compiled.search(name) is not None


def entries(found: list[Entry]) -> list[Any]:
    return sorted(entry_key(e.name, e.lookup_time, e.expiration_time, e.ttl, list(e.ips)) for e in found)


def removed_pairs(removed: list[tuple[str, Entry]]) -> list[list[Any]]:
    return sorted([ip, entry.name] for ip, entry in removed)


def other_cache(updates: list[Any]) -> DNSCache:
    other = DNSCache()
    for time, name, ips, ttl in updates:
        other.update(time, name, ips, ttl)
    return other


def our_cache_op(cache: DNSCache, op: list[Any], version: Version) -> Any:
    match op:
        case ["update", time, name, ips, ttl]:
            status = cache.update(time, name, ips, ttl)
            if not ips:
                return None
            return [status.updated, status.upserted] if version >= V1_19 else status.is_news(version)
        case ["gc", time]:
            return sorted(cache.gc(time))
        case ["cleanup_expired", time]:
            names, removed = cache.cleanup_expired(time)
            return [sorted(names), removed_pairs(removed)]
        case ["cleanup_over"]:
            names, removed = cache.cleanup_over_limit()
            return [sorted(names), removed_pairs(removed)]
        case ["lookup", name, _]:
            return cache.lookup(name)
        case ["lookup_at", name, time]:
            return cache.lookup(name, time)
        case ["lookup_ip", ip, _]:
            return cache.lookup_ip(ip)
        case ["lookup_ip_at", ip, time]:
            return cache.lookup_ip(ip, time)
        case ["lookup_regex", regex, _]:
            return cache.lookup_matching(matcher(regex) or bool)
        case ["lookup_regex_at", regex, time]:
            return cache.lookup_matching(matcher(regex) or bool, time)
        case ["force_expire", before, regex]:
            return sorted(cache.force_expire(before, matcher(regex)))
        case ["update_from", updates, names]:
            cache.update_from(other_cache(updates), names if version < V1_19 else None)
            return None
        case ["replace", updates, names]:
            before = cache.pairs() if version >= V1_19 else None
            cache.replace(names, [other_cache(updates)], before)
            return None
        case ["dump"]:
            return entries(cache.dump())
        case ["names"]:
            return sorted(cache.forward)
        case ["ips"]:
            return sorted(cache.reverse)
        case ["count"]:
            return list(cache.count())
        case ["last_cleanup"]:
            return cache.last_cleanup
        case ["cleanup_count"]:
            return len(cache.cleanup)
        case ["json"]:
            return "; ".join(cache.load_json(cache.to_json())) or []
        case ["saved"]:
            return saved_entries(cache.to_json())
    raise AssertionError(op)


def our_cache(version: Version, case: Case) -> Outcomes:
    _, min_ttl, limit, tracked = case[0]
    cache = DNSCache(min_ttl, limit, tracked=tracked)
    return [None, *(our_cache_op(cache, op, version) for op in case[1:])]


AREAS = (Area("cache", make_cache_ops, real_cache, our_cache),)
