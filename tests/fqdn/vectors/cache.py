"""The DNS cache of an endpoint."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

from deadhop.fqdn import patterns
from deadhop.fqdn.cache import DNSCache
from deadhop.fqdn.options import Version

from .common import Area, UnknownOperation, Vector, matcher, same, same_set


def make_cache(config: Vector) -> DNSCache:
    return DNSCache(config.get("min_ttl", 0), config.get("per_host_limit", 0))


def do_update(cache: DNSCache, op: Vector) -> None:
    status = cache.update(op["t"], op["name"], op["ips"], op["ttl"])
    if "expected" in op:
        same(status._asdict(), op["expected"])


def cache_op(cache: DNSCache, op: Vector, version: Version) -> None:
    kind, wanted = op["op"], op.get("expected")
    match kind:
        case "update":
            do_update(cache, op)
        case "lookup" | "lookup_at":
            same(cache.lookup(op["name"], op.get("t")), _sorted_ips(wanted), kind)
        case "lookup_ip" | "lookup_ip_at":
            same(cache.lookup_ip(op["ip"], op.get("t")), sorted(wanted), kind)
        case "lookup_regex" | "lookup_by_regex" | "lookup_regexp" | "lookup_by_regexp":
            regex = op.get("name_regex") or op.get("regex")
            got = cache.lookup_matching(matcher(regex) or (lambda _: True), op.get("t"))
            same(got, {name: _sorted_ips(ips) for name, ips in wanted.items()}, kind)
        case "lookup_pattern":
            pattern = patterns.compile_pattern(patterns.sanitize(op["pattern"], version), version)
            got = cache.lookup_matching(pattern.matches, op.get("t"))
            same(got, {name: _sorted_ips(ips) for name, ips in wanted.items()}, kind)
        case "gc":
            same_set(cache.gc(op["t"]), wanted if wanted is not None else [], kind)
        case "cleanup_expired":
            same_set(cache.cleanup_expired(op["t"])[0], wanted, kind)
        case "cleanup_overlimit":
            same_set(cache.cleanup_over_limit()[0], wanted, kind)
        case "set_last_cleanup":
            cache.last_cleanup = op["t"]
        case "last_cleanup":
            same(cache.last_cleanup, wanted, kind)
        case "add_cleanup" | "set_cleanup":
            cache.cleanup[int(op["t"])] = list(op.get("names") or [op["name"]])
        case "flag_overlimit" | "set_overlimit" | "mark_overlimit":
            cache.over_limit[op["name"]] = None
        case "force_expire":
            same_set(cache.force_expire(op.get("before"), matcher(op.get("name_regex"))), wanted, kind)
        case "force_expire_names" | "force_expire_by_names":
            listed = set(op["names"])
            same_set(cache.force_expire(op.get("before"), listed.__contains__), wanted or listed, kind)
        case "names":
            same_set(cache.forward, wanted, kind)
        case "ips":
            same_set(cache.reverse, wanted, kind)
        case "dump":
            same_set(({e.name for e in cache.dump()}), wanted, kind)
        case "dump_count":
            same(len(cache.dump()), wanted, kind)
        case "count":
            same(list(cache.count()), list(wanted), kind)
        case "cleanup_count":
            same(len(cache.cleanup), wanted, kind)
        case "json_roundtrip" | "marshal_roundtrip":
            cache.load_json(cache.to_json())
        case _:
            raise UnknownOperation(kind)


def _sorted_ips(ips: list[str]) -> list[str]:
    return sorted(ips, key=lambda ip: (":" in ip, int(ip_address(ip))))


def cache_sequence(v: Vector, version: Version, _: Any) -> None:
    cache = make_cache(v["config"])
    for op in v["ops"]:
        cache_op(cache, op, version)


def cache_json(v: Vector, _version: Version, _: Any) -> None:
    cache = make_cache(v.get("config", {}))
    for op in v["updates"]:
        do_update(cache, op)
    text = cache.to_json()
    saved = json.loads(text)
    same(len(saved), v["expected_entries"])
    for item in saved:
        same_set(item, v.get("entry_keys", item))
    reloaded = DNSCache()
    same(reloaded.load_json(text), [])
    end = max(op["t"] + max(op["ttl"], cache.min_ttl) for op in v["updates"])
    for name in cache.forward:
        for at in (0, end, end + 1, end + 10):
            same(reloaded.lookup(name, at), cache.lookup(name, at), name)
        same(reloaded.lookup(name, end + 1), [], name)


AREAS: dict[str, Area] = {
    "cache_json": cache_json,
    "cache_sequence": cache_sequence,
}
