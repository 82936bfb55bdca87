"""The readings of each proxy put together: whose each is, and for every kind of resource the newest whole one.

A reading that does not say whose it is belongs to the pod that its file, or the folder around it, is named for. Parts
(``istioctl proxy-config … --port 80``) add up; a whole reading replaces what is older.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from deadhop.model.observed.proxy import ProxyDump, ProxyResource


class ProxyState(msgspec.Struct, frozen=True):
    """What is known of one proxy's own configuration. ``time`` is the newest moment that a reading shows."""

    owner: str
    role: str
    envoy: str
    resources: tuple[ProxyResource, ...]
    whole: frozenset[str]
    readings: tuple[ProxyDump, ...]
    time: float | None = None


def by_proxy(
    dumps: Iterable[ProxyDump], resources: Iterable[ProxyResource], pods: Iterable[str] = ()
) -> dict[str, ProxyState]:
    """The proxies by ``namespace/pod``. ``pods`` are the keys of known pods; readings of nobody are left out."""
    names = _Names(pods)
    readings: dict[str, ProxyDump] = {}
    for dump in dumps:
        readings[str(dump.source)] = dump
    owners = {key: dump.proxy or names.of(dump.source.file) for key, dump in readings.items()}
    held: dict[str, list[ProxyResource]] = {}
    for resource in resources:
        held.setdefault(resource.reading, []).append(resource)
    out: dict[str, ProxyState] = {}
    for owner in dict.fromkeys(o for o in owners.values() if o):
        own = {key: readings[key] for key, o in owners.items() if o == owner}
        out[owner] = _state(owner, own, held)
    return out


def _state(owner: str, own: dict[str, ProxyDump], held: dict[str, list[ProxyResource]]) -> ProxyState:
    order = sorted(own, key=lambda key: own[key].time or 0.0)
    chosen: dict[tuple[str, str, str], ProxyResource] = {}
    whole: set[str] = set()
    for kind in dict.fromkeys(k for key in order for k in own[key].kinds):
        complete = [key for key in order if kind in own[key].whole]
        if complete:
            whole.add(kind)
        for key in complete[-1:] or order:
            for resource in held.get(key, ()):
                if resource.kind == kind and resource.state != "rejected":
                    chosen[kind, resource.name, _slot(resource)] = resource
    refused = [r for key in order for r in held.get(key, ()) if r.state == "rejected"]
    times = [d.time for d in own.values() if d.time is not None]
    return ProxyState(
        owner,
        next((d.role for d in own.values() if d.role), ""),
        next((d.envoy for d in own.values() if d.envoy), ""),
        (*chosen.values(), *refused),
        frozenset(whole),
        tuple(own.values()),
        max(times, default=None),
    )


def _slot(resource: ProxyResource) -> str:
    """Serving, warming and draining versions of one name stand beside each other."""
    return "serving" if resource.state in ("static", "active") else resource.state


class _Names:
    """Finds the pod that a file is named for: the longest pod name that stands in the path as a word of its own."""

    def __init__(self, pods: Iterable[str]) -> None:
        self.pods = sorted(set(pods), key=len, reverse=True)

    def of(self, file: str) -> str:
        path = file.lower()
        found = [key for key in self.pods if _word(key.rpartition("/")[2], path)]
        if len(found) > 1:
            narrower = [key for key in found if _word(key.partition("/")[0], path)]
            longest = max(len(k.rpartition("/")[2]) for k in found)
            found = narrower or [k for k in found if len(k.rpartition("/")[2]) == longest]
        return found[0] if len(found) == 1 else ""


def _word(name: str, path: str) -> bool:
    return bool(name) and re.search(rf"(?<![a-z0-9-]){re.escape(name)}(?![a-z0-9-])", path) is not None
