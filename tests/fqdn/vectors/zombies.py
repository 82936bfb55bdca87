"""Names that expired while connections still use their addresses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from typing import Any

from deadhop.fqdn import zombies
from deadhop.fqdn.clock import ZERO
from deadhop.fqdn.options import Version

from .cache import cache_op, do_update, make_cache
from .common import Area, UnknownOperation, Vector, matcher, same, same_set


def make_zombies(
    config: Vector, version: Version, limit: str = "per_host_limit"
) -> zombies.DNSZombieMappings:
    return zombies.DNSZombieMappings(
        version,
        config.get("max_deferred", 10000),
        config.get(limit, config.get("per_host_limit", 1000)),
        config.get("idle_grace", 0),
    )


def as_names(found: Iterable[zombies.Zombie]) -> dict[str, list[str]]:
    return {zombie.ip: sorted(zombie.names) for zombie in found}


def same_zombies(got: Iterable[zombies.Zombie], wanted: dict[str, list[str]], what: str) -> None:
    same(as_names(got), {ip: sorted(names) for ip, names in wanted.items()}, what)


def zombie_gc(z: zombies.DNSZombieMappings, op: Vector) -> None:
    swept = z.gc()
    for key, got in (("expected_alive", swept.alive), ("expected_dead", swept.dead)):
        if key in op:
            same_zombies(got, op[key], key)
    if "expected_warnings" in op:
        same(list(swept.warnings), op["expected_warnings"])


def zombie_op(z: zombies.DNSZombieMappings, op: Vector) -> None:
    match op["op"]:
        case "upsert":
            existed = z.upsert(op["t"], op["ip"], *(op.get("names") or [op["name"]]))
            if "expected" in op:
                same(existed, op["expected"])
        case "mark_alive":
            z.mark_alive(op["t"], op["ip"])
        case "ctgc":
            z.set_ct_gc_time(op["t"], op.get("next", op["t"] + 300))
        case "gc" | "zombie_gc":
            zombie_gc(z, op)
        case "force_expire":
            affected = z.force_expire(op.get("before"), matcher(op.get("name_regex")))
            if "expected" in op:
                same_set(affected, op["expected"])
        case "force_expire_name_ip":
            z.force_expire_by_name_ip(op.get("before"), op["name"], op.get("ips") or [op["ip"]])
        case "dump_alive":
            same_zombies(z.dump_alive(cidr_test(op.get("cidr"))), op["expected"], "dump_alive")
        case "assert_zombie_present":
            assert op["ip"] in z, op
        case "assert_zombie_absent":
            assert op["ip"] not in z, op
        case "assert_zombies":
            same_set([zombie.ip for zombie in z.dump()], op["ips"], "zombies")
        case "json_roundtrip" | "restore" | "restart":
            same(z.load(json.loads(z.to_json())), [])
        case _:
            raise UnknownOperation(op["op"])


def cidr_test(cidr: str | None) -> Callable[[str], bool] | None:
    if cidr is None or cidr in ("any", "all"):
        return None
    if cidr == "none":
        return lambda _: False
    network = ip_network(cidr)
    return lambda ip: ip_address(ip) in network


def zombie_sequence(v: Vector, version: Version, _: Any) -> None:
    z = make_zombies(v["config"], version)
    for op in v["ops"]:
        zombie_op(z, op)


def zombie_liveness_legacy(v: Vector, version: Version, _: Any) -> None:
    z = make_zombies(v.get("config", {}), version)
    for op in v["ops"]:
        zombie_op(z, op)
    zombie_gc(z, v)


def zombie_sort(v: Vector, _version: Version, _: Any) -> None:
    for case in v["cases"]:
        made = [
            zombies.Zombie(
                str(place),
                tuple(item.get("names") or ()),
                item.get("alive_at", ZERO),
                item.get("delete_pending_at", ZERO),
            )
            for place, item in enumerate(case["input"])
        ]
        same([int(z.ip) for z in zombies.eviction_order(made)], case["expected_order"])


def cache_zombie_cascade(v: Vector, version: Version, _: Any) -> None:
    cache = make_cache(v["config"])
    z = make_zombies(v["config"], version, "zombie_per_host_limit")
    for op in v["ops"]:
        match op["op"]:
            case "update":
                do_update(cache, op)
            case "gc_into_zombies" | "fqdn_gc":
                affected = cache.gc(op["t"], z)
                if "expected_affected" in op:
                    same_set(affected, op["expected_affected"])
                if "expected_cache_ips" in op:
                    same_set(cache.reverse, op["expected_cache_ips"])
                if "expected_cache_count" in op:
                    same(cache.count()[1], op["expected_cache_count"])
                if op["op"] == "fqdn_gc":
                    zombie_gc(z, op)
            case "lookup" | "lookup_at" | "count" | "names":
                cache_op(cache, op, version)
            case _:
                zombie_op(z, op)


AREAS: dict[str, Area] = {
    "cache_zombie_cascade": cache_zombie_cascade,
    "zombie_liveness_legacy": zombie_liveness_legacy,
    "zombie_sequence": zombie_sequence,
    "zombie_sort": zombie_sort,
}
