"""Zombies, and the way from the cache to them."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Any

from deadhop.fqdn import zombies
from deadhop.fqdn.cache import DNSCache
from deadhop.fqdn.clock import ZERO
from deadhop.fqdn.options import V1_16, Version

from ..real_cilium import Oracle, call
from .cache import (
    IPS,
    NAMES,
    REGEXES,
    as_list,
    ask_sequence,
    matcher,
    our_cache_op,
    real_cache_calls,
    real_cache_outcome,
    saved_zombies,
    some,
)
from .cases import Area, Case, Outcomes, Random

# Zombies.

ZOMBIE_KINDS = (
    *["upsert"] * 6, *["mark"] * 3, *["ctgc"] * 4, *["gc"] * 3, "dump_alive", "force_expire", "force_name_ip", "json",
    "all", "saved",
)  # fmt: skip
PREFIXES = ("1.1.1.0/24", "::/0", "10.0.0.0/8")


def make_zombie_ops(rng: Random) -> Case:
    ops: Case = [["new", rng.choice((0, 1, 2, 3, 100)), rng.choice((0, 0, 1, 2)), rng.choice((0, 0, 0, 7))]]
    clock = 1000.0
    for _ in range(rng.randrange(3, 30)):
        clock += rng.randrange(8)
        kind = rng.choice(ZOMBIE_KINDS)
        match kind:
            case "upsert":
                ops.append(
                    [kind, clock + rng.randrange(-5, 20), rng.choice(IPS), some(rng, NAMES, 2) or ["a."]]
                )
            case "mark":
                ops.append([kind, clock, rng.choice(IPS)])
            case "ctgc":
                ops.append([kind, clock, clock + 60])
            case "dump_alive":
                ops.append([kind, rng.choice((None, *PREFIXES))])
            case "force_expire":
                ops.append([kind, rng.choice((None, clock)), rng.choice((None, *REGEXES))])
            case "force_name_ip":
                ops.append([kind, rng.choice((None, clock)), rng.choice(NAMES), some(rng, IPS)])
            case _:
                ops.append([kind])
    return ops


def real_zombie_calls(op: list[Any], version: Version, _at: int) -> list[dict[str, Any]]:
    match op:
        case ["new", most, limit, grace]:
            return [
                call("setIdleGrace", grace),
                call("fqdn.NewDNSZombieMappings", most, limit, into="z"),
                call("warnings"),
            ]
        case ["upsert", time, ip, names]:
            return [call("$z.Upsert", time, ip, *names)]
        case ["mark", time, ip]:
            return [call("$z.MarkAlive", time, ip)]
        case ["ctgc", time, following]:
            return [call("$z.SetCTGCTime", time, *([following] if version >= V1_16 else []))]
        case ["gc"]:
            return [call("fqdn.gcAndWarnings", "$z")]
        case ["dump_alive", prefix]:
            return [call("$z.DumpAlive", prefix)]
        case ["force_expire", before, regex]:
            return [call("$z.ForceExpire", before, regex)]
        case ["force_name_ip", before, name, ips]:
            return [call("$z.ForceExpireByNameIP", before, name, *ips)]
        case ["json"]:
            return [call("$z.MarshalJSON", into="json"), call("$z.UnmarshalJSON", "$json")]
        case ["saved"]:
            return [call("$z.MarshalJSON")]
        case ["all"]:
            return [call("fqdn.zombies", "$z")]
    raise AssertionError(op)


def real_zombie(item: Any) -> list[Any]:
    alive = item["AliveAt"]
    return [item["IP"], sorted(item["Names"]), ZERO if alive is None else alive, item["DeletePendingAt"]]


def real_zombie_outcome(kind: str, answer: Any, _version: Version) -> Any:
    match kind:
        case "gc":
            alive, dead, warnings = answer
            return [
                sorted(map(real_zombie, alive)),
                sorted({item["IP"] for item in dead}),
                sorted(set(warnings or [])),
            ]
        case "dump_alive" | "all":
            return sorted(map(real_zombie, answer or []))
        case "force_expire":
            return as_list(answer)
        case "new" | "force_name_ip" | "json":
            return None
        case "saved":
            return saved_zombies(answer)
        case "upsert":
            return answer
    return None


def real_zombies(oracle: Oracle, version: Version, case: Case) -> Outcomes:
    return ask_sequence(oracle, version, case, real_zombie_calls, real_zombie_outcome)


def our_zombie(item: zombies.Zombie) -> list[Any]:
    return [item.ip, sorted(item.names), item.alive_at, item.delete_pending_at]


def our_zombie_op(z: zombies.DNSZombieMappings, op: list[Any]) -> Any:
    match op:
        case ["upsert", time, ip, names]:
            return z.upsert(time, ip, *names)
        case ["mark", time, ip]:
            z.mark_alive(time, ip)
        case ["ctgc", time, following]:
            z.set_ct_gc_time(time, following)
        case ["gc"]:
            swept = z.gc()
            return [
                sorted(map(our_zombie, swept.alive)),
                sorted(item.ip for item in swept.dead),
                sorted(swept.warnings),
            ]
        case ["dump_alive", prefix]:
            network = ip_network(prefix) if prefix else None
            inside = (lambda ip: ip_address(ip) in network) if network else None
            return sorted(map(our_zombie, z.dump_alive(inside)))
        case ["force_expire", before, regex]:
            return sorted(z.force_expire(before, matcher(regex)))
        case ["force_name_ip", before, name, ips]:
            z.force_expire_by_name_ip(before, name, ips)
        case ["json"]:
            return z.load(json.loads(z.to_json())) or None
        case ["saved"]:
            return saved_zombies(z.to_json())
        case ["all"]:
            return sorted(map(our_zombie, z.dump()))
        case _:
            raise AssertionError(op)
    return None


def our_zombies(version: Version, case: Case) -> Outcomes:
    _, most, limit, grace = case[0]
    z = zombies.DNSZombieMappings(version, most, limit, grace)
    return [None, *(our_zombie_op(z, op) for op in case[1:])]


# From the cache to the zombies.


def make_cascade(rng: Random) -> Case:
    ops: Case = [
        ["new", rng.choice((0, 5)), rng.choice((0, 1, 2)), rng.choice((0, 1, 2)), rng.choice((1, 2, 100))]
    ]
    clock = 1000.0
    for _ in range(rng.randrange(4, 18)):
        clock += rng.randrange(8)
        kind = rng.choice(("update", "update", "update", "fqdn_gc", "mark", "ctgc", "relearn"))
        match kind:
            case "update" | "relearn":
                # No two expiries are equal: the map's order decides between equals.
                ops.append([kind, clock, rng.choice(NAMES), some(rng, IPS), rng.choice((0, 1, 5, 10, 60))])
            case "mark":
                ops.append([kind, clock, rng.choice(IPS)])
            case "ctgc":
                ops.append([kind, clock, clock + 60])
            case _:
                ops.append([kind, clock])
    return ops


def real_cascade_calls(op: list[Any], version: Version, at: int) -> list[dict[str, Any]]:
    match op:
        case ["new", min_ttl, limit, zombie_limit, most]:
            return [
                call("setIdleGrace", 0),
                call("fqdn.NewDNSCacheWithLimit", min_ttl, limit, into="c"),
                call("fqdn.NewDNSZombieMappings", most, zombie_limit, into="z"),
                call("warnings"),
            ]
        case ["update", *_]:
            return real_cache_calls(op, version, at)
        case ["relearn", time, name, ips, ttl]:
            return [call("$c.Update", time, name, ips, ttl), call("$z.ForceExpireByNameIP", time, name, *ips)]
        case ["fqdn_gc", time]:
            return [call("fqdn.gcBoth", "$c", "$z", time)]
    return real_zombie_calls(op, version, at)


def real_cascade_outcome(kind: str, answer: Any, version: Version) -> Any:
    match kind:
        case "fqdn_gc":
            affected, ips, *swept = answer
            return [as_list(affected), as_list(ips), *real_zombie_outcome("gc", swept, version)]
        case "update":
            return real_cache_outcome(kind, answer, version)
    return None


def real_cascade(oracle: Oracle, version: Version, case: Case) -> Outcomes:
    return ask_sequence(oracle, version, case, real_cascade_calls, real_cascade_outcome)


def our_cascade(version: Version, case: Case) -> Outcomes:
    _, min_ttl, limit, zombie_limit, most = case[0]
    cache = DNSCache(min_ttl, limit)
    z = zombies.DNSZombieMappings(version, most, zombie_limit)
    outcomes: Outcomes = [None]
    for op in case[1:]:
        match op:
            case ["update", *_]:
                outcomes.append(our_cache_op(cache, op, version))
            case ["relearn", time, name, ips, ttl]:
                cache.update(time, name, ips, ttl)
                z.force_expire_by_name_ip(time, name, ips)
                outcomes.append(None)
            case ["fqdn_gc", time]:
                affected = sorted(cache.gc(time, z))
                outcomes.append([affected, sorted(cache.reverse), *our_zombie_op(z, ["gc"])])
            case _:
                outcomes.append(our_zombie_op(z, op))
    return outcomes


AREAS = (
    Area("zombies", make_zombie_ops, real_zombies, our_zombies),
    Area("cache to zombies", make_cascade, real_cascade, our_cascade),
)
