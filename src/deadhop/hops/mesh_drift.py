"""Proxies that run something else than the objects imply, with the records on both sides and what else might explain it.

A difference is doubted where the reading may be older than the object, where an EnvoyFilter may have made it, or where
an object that was not collected (a Sidecar, a VirtualService) would. A doubted difference proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from deadhop.evidence.fields import rfc3339
from deadhop.hops.mesh.api import Mesh, ProxyConfig
from deadhop.hops.mesh.decode import Meta, dig, meta_of, rows, text
from deadhop.hops.mesh.proxy.compare import differences, patched, request_for
from deadhop.hops.mesh.proxy.difference import Difference
from deadhop.hops.mesh_world import MeshWorld
from deadhop.model.observed.kube import KubeObject
from deadhop.model.observed.proxy import ProxyDump, ProxyResource
from deadhop.snapshot.proxies import ProxyState, by_proxy

_CHANGED = "endpoints.kubernetes.io/last-change-trigger-time"


class Drift(msgspec.Struct, frozen=True):
    """One difference of one proxy. ``doubt`` says what else might explain it; empty where nothing known does."""

    difference: Difference
    objects: tuple[KubeObject, ...]
    doubt: str


class Drifted(msgspec.Struct, frozen=True):
    """One proxy and its differences, those beyond doubt first. ``world`` walks a request that meets the first."""

    state: ProxyState
    drifts: tuple[Drift, ...]
    world: MeshWorld | None

    @property
    def certain(self) -> tuple[Drift, ...]:
        return tuple(d for d in self.drifts if not d.doubt)


def drifted(
    objects: Iterable[KubeObject],
    dumps: Iterable[ProxyDump],
    resources: Iterable[ProxyResource],
    listed: frozenset[str] = frozenset(),
) -> list[Drifted]:
    """The proxies whose configuration differs. ``listed`` are kinds of which the evidence holds every object."""
    held = [o for o in objects if o.raw.get("kind")]
    pods = [f"{o.namespace or 'default'}/{o.name}" for o in held if o.kind == "Pod"]
    states = by_proxy(dumps, resources, pods)
    if not states or not any(o.kind in ("Service", "ServiceEntry") for o in held):
        return []
    mesh = Mesh.from_objects([o.raw for o in held])
    records = {(m.kind, m.namespace, m.name): o for o in held if (m := meta_of(o.raw)).name}
    filters = [o.raw for o in held if o.kind == "EnvoyFilter"]
    out = []
    for state in states.values():
        world = mesh if state.owner in mesh.pods else mesh.changed(put=[_stand_in(state)])
        config = ProxyConfig.of(state)
        pod = world.pods[state.owner]
        drifts = [
            Drift(d, _behind(d, records), _doubt(d, state, world, records, filters, listed))
            for d in differences(world, config)
        ]
        drifts.sort(key=lambda d: bool(d.doubt))
        if drifts:
            request = request_for(world, drifts[0].difference, pod)
            walked = (
                MeshWorld(mesh=world, request=request, proxies={state.owner: config}) if request else None
            )
            out.append(Drifted(state, tuple(drifts), walked))
    return out


def _stand_in(state: ProxyState) -> Mapping[str, Any]:
    """The pod of a proxy that is not among the objects, as far as its node says."""
    namespace, _, name = state.owner.partition("/")
    containers = [{"name": "istio-proxy"}]
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": containers},
    }


def _behind(
    difference: Difference, records: Mapping[tuple[str, str, str], KubeObject]
) -> tuple[KubeObject, ...]:
    found = (records.get((m.kind, m.namespace, m.name)) for m in difference.by)
    return tuple(o for o in found if o is not None)


def _doubt(
    difference: Difference,
    state: ProxyState,
    mesh: Mesh,
    records: Mapping[tuple[str, str, str], KubeObject],
    filters: list[dict[str, Any]],
    listed: frozenset[str],
) -> str:
    unseen = [kind for kind in difference.presumes if kind not in listed]
    if unseen:
        return f"an object that was not collected may explain it ({', '.join(unseen)})"
    if not any((m.kind, m.namespace, m.name) in records for m in difference.by) and not listed:
        return "no object of the evidence demands it"
    touching = patched(difference, filters, mesh.pods[state.owner], mesh.config.root_namespace)
    if touching:
        return f"EnvoyFilter {touching[0]} may have made it"
    return _age(difference, state, mesh, records)


def _age(
    difference: Difference,
    state: ProxyState,
    mesh: Mesh,
    records: Mapping[tuple[str, str, str], KubeObject],
) -> str:
    """Endpoints change by themselves: theirs need a known time. Other objects count as older unless they say when."""
    if difference.aspect == "endpoints":
        slices = [d for d in _slices(mesh, difference.by[0]) if difference.by]
        times = [t for d in slices if (t := _changed(d)) is not None]
        if not times or state.time is None or len(times) < len(slices):
            return "endpoints may have changed between the two readings"
    else:
        raws = [o.raw for m in difference.by if (o := records.get((m.kind, m.namespace, m.name))) is not None]
        times = [t for raw in raws if (t := changed_at(raw)) is not None]
    if times and state.time is not None and max(times) > state.time:
        return "the objects changed after the newest time in the proxy's configuration"
    return ""


def _slices(mesh: Mesh, service: Meta) -> list[Mapping[str, Any]]:
    own = [
        d
        for d in mesh.of_kind("EndpointSlice")
        if meta_of(d).namespace == service.namespace
        and text(dig(d, "metadata", "labels", "kubernetes.io/service-name")) == service.name
    ]
    return own or [d for d in mesh.of_kind("Endpoints") if meta_of(d).key == service.key]


def _changed(doc: Mapping[str, Any]) -> float | None:
    """When endpoints last changed: what the controller noted, else a field manager."""
    annotation = text(dig(doc, "metadata", "annotations", _CHANGED))
    times = [annotation, *(text(f.get("time")) for f in rows(dig(doc, "metadata", "managedFields")))]
    found = [t for v in times if v and (t := rfc3339(v)) is not None]
    return max(found, default=None)


def changed_at(doc: Mapping[str, Any]) -> float | None:
    """When an object was last changed, as far as it says: field managers, else its creation."""
    created = meta_of(doc).created
    times = [created, *(text(f.get("time")) for f in rows(dig(doc, "metadata", "managedFields")))]
    found = [t for v in times if v and (t := rfc3339(v)) is not None]
    return max(found, default=None)
