"""The name manager: from answers and selectors to identities in the ipcache."""

from __future__ import annotations

from typing import Any

from deadhop.fqdn import identity
from deadhop.fqdn.gc import Endpoint, dns_gc
from deadhop.fqdn.names import fqdn
from deadhop.fqdn.options import Options, Version

from .common import Area, UnknownOperation, Vector, same, same_set, selector_of


def same_ipcache(manager: identity.NameManager, wanted: dict[str, list[str] | None]) -> None:
    got = manager.ipcache()
    for prefix, labels in wanted.items():
        same(
            sorted(got[prefix]) if prefix in got else None,
            sorted(labels) if labels is not None else None,
            prefix,
        )


def namemanager_ipcache(v: Vector, version: Version, _: Any) -> None:
    manager = identity.NameManager(version, min_ttl=1, dual_stack=v.get("dual_stack", False))
    for step in v["steps"]:
        match step["op"]:
            case "register":
                manager.register(selector_of(step["selector"]))
            case "unregister":
                manager.unregister(selector_of(step["selector"]))
            case "dns":
                manager.update(step.get("t", 0), step["name"], step["ips"], step.get("ttl", 60))
            case "check":
                pass
            case _:
                raise UnknownOperation(step["op"])
        same_ipcache(manager, step.get("expected", {}))


def namemanager_gc(v: Vector, version: Version, _: Any) -> None:
    config = v["config"]
    manager = identity.NameManager(version, min_ttl=config.get("global_min_ttl", 0))
    endpoint = Endpoint(
        1, version, Options(min_ttl=config.get("endpoint_min_ttl", 0), max_ips_per_hostname=10000)
    )
    known: list[Endpoint] = []
    name = "cilium.io."
    for step in v["steps"]:
        ips, ttl, now = [step.get("ip", "")], step.get("ttl", 10), step.get("t", 0)
        named = fqdn(step.get("name", name))
        match step["op"]:
            case "register":
                selector = selector_of(step["selector"])
                manager.register(selector)
                name = fqdn(selector.match_name or name)
            case "unregister":
                manager.unregister(selector_of(step["selector"]))
            case "endpoint_cache_only":
                endpoint.history.update(now, named, ips, ttl)
            case "dns_global":
                manager.update(now, named, ips, ttl, endpoint.history)
            case "endpoint_cache_expired_entry_plus_dns_global":
                endpoint.history.update(now - 3600, named, ips, ttl)
                manager.update(now, named, ips, ttl, endpoint.history)
            case "endpoint_added":
                known = [endpoint]
            case "endpoint_removed":
                known = []
            case "gc":
                dns_gc(manager, known, now)
            case _:
                raise UnknownOperation(step["op"])
        if "expected_global" in step:
            same_set(manager.cache.reverse, step["expected_global"], "global")
        for ip in step.get("expected_global_absent", []):
            assert ip not in manager.cache.reverse, ip
        if "expected_ipcache" in step:
            same_set([p.rpartition("/")[0] for p in manager.ipcache()], step["expected_ipcache"], "ipcache")


AREAS: dict[str, Area] = {
    "namemanager_gc": namemanager_gc,
    "namemanager_ipcache": namemanager_ipcache,
}
