"""Walks Envoy's configuration as JSON, whole or in pieces, and yields its resources with state, version and path.

Knows the four ways it is printed: ``/config_dump`` (with or without ``include_eds``, ``resource=``, ``mask=``,
``name_regex=``), ``/clusters?format=json``, the lists of ``istioctl proxy-config … -o json``, and a piece pasted out
of any of them. Reference: envoy ``api/envoy/admin/v3/config_dump.proto``, ``config_dump_shared.proto``,
``clusters.proto``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from deadhop.model.observed.proxy import ResourceKind, ResourceState
from deadhop.model.proto_json import camel, get, message, string

DEPTH = 8
_STATES: dict[str, ResourceState] = {
    **dict.fromkeys(("static_listeners", "static_clusters", "static_route_configs", "static_endpoint_configs"), "static"),
    **dict.fromkeys(("warming_state", "dynamic_warming_clusters"), "warming"),
    "draining_state": "draining",
    "error_state": "rejected",
}  # fmt: skip
STATES = {spelled: state for name, state in _STATES.items() for spelled in (name, camel(name))}
_PARENTS: dict[str, ResourceKind] = {
    "listener": "listener",
    "route_config": "route",
    "cluster": "cluster",
    "endpoint_config": "endpoints",
}
PARENTS: dict[str, ResourceKind] = {k: v for n, v in _PARENTS.items() for k in (n, camel(n))}
_TYPES: dict[str, ResourceKind] = {
    "Listener": "listener",
    "RouteConfiguration": "route",
    "Cluster": "cluster",
    "ClusterLoadAssignment": "endpoints",
    "ClusterStatus": "hosts",
}
_CLUSTER_FIELDS = frozenset(
    f
    for n in ("eds_cluster_config", "connect_timeout", "circuit_breakers", "transport_socket", "lb_policy", "load_assignment", "alt_stat_name", "transport_socket_matches")
    for f in (n, camel(n))
)  # fmt: skip


class Found(msgspec.Struct, frozen=True):
    """A resource at a place in the value."""

    kind: ResourceKind
    name: str
    raw: dict[str, Any]
    path: str
    state: ResourceState = "active"
    version: str = ""
    updated: str = ""
    details: str = ""


def kind_of(value: dict[str, Any], parent: str = "") -> ResourceKind | None:
    """What a message is, by its type, its fields, or the field that it stands in."""
    if "kind" in value and "apiVersion" in value:
        return None
    told = value.get("@type")
    if isinstance(told, str) and (kind := _TYPES.get(told.rpartition(".")[2])):
        return kind
    if parent in ("cluster_statuses", "clusterStatuses"):
        return "hosts"
    keys = value.keys()
    if keys & {"filterChains", "filter_chains"} or (
        isinstance(get(value, "address", "socket_address"), dict) and keys & {"name", "trafficDirection", "traffic_direction"} and not keys & {"healthStatus", "health_status", "hostStatuses"}
    ):  # fmt: skip
        return "listener"
    if keys & {"virtualHosts", "virtual_hosts"}:
        return "route"
    if keys & {"hostStatuses", "host_statuses"} and "name" in keys:
        return "hosts"
    if keys & {"clusterName", "cluster_name"} and isinstance(value.get("endpoints"), list):
        return "endpoints"
    if "name" in keys and keys & _CLUSTER_FIELDS:
        return "cluster"
    if parent in PARENTS and not keys & {"prefix", "route", "match"}:
        return PARENTS[parent]
    return None


def name_of(kind: ResourceKind, raw: dict[str, Any]) -> str:
    """The name under which other resources speak of it."""
    return string(raw, "cluster_name") if kind == "endpoints" else string(raw, "name")


def resources(value: Any) -> Iterator[Found]:
    """Every resource in the value. The bootstrap's own copies of static resources are not told twice."""
    yield from _walk(value, "", "", Found("listener", "", {}, ""), 0)


def _walk(value: Any, path: str, parent: str, around: Found, depth: int) -> Iterator[Found]:
    if depth > DEPTH:
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, (dict, list)):
                yield from _walk(item, f"{path}/{index}" if path else str(index), parent, around, depth + 1)
        return
    if not isinstance(value, dict):
        return
    kind = kind_of(value, parent)
    if kind is not None:
        name = name_of(kind, value) or around.name
        yield msgspec.structs.replace(around, kind=kind, name=name, raw=value, path=path)
        return
    around = _surroundings(value, parent, around)
    if around.state == "rejected" and around.details and not message(value, "failed_configuration"):
        kind = _kind_of_state(path)
        if kind:
            yield msgspec.structs.replace(around, kind=kind, path=path)
        return
    for key, below in value.items():
        if key != "bootstrap" and isinstance(below, (dict, list)):
            yield from _walk(below, f"{path}/{key}" if path else key, key, around, depth + 1)


def _surroundings(value: dict[str, Any], parent: str, around: Found) -> Found:
    state = STATES.get(parent, around.state)
    if parent.endswith(("_state", "State")) and parent not in STATES:
        state = "active"
    own = string(value, "name") if parent not in STATES else ""
    return msgspec.structs.replace(
        around,
        state=state,
        name=own or around.name,
        version=string(value, "version_info") or around.version,
        updated=string(value, "last_updated") or string(value, "last_update_attempt") or around.updated,
        details=string(value, "details") if state == "rejected" else "",
    )


def _kind_of_state(path: str) -> ResourceKind | None:
    """The kind of resource that an ``error_state`` without its configuration is about."""
    low = path.lower()
    return (
        "listener"
        if "listener" in low
        else "route"
        if "route" in low
        else "cluster"
        if "cluster" in low
        else None
    )


def nodes(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """The bootstrap nodes in a dump."""
    if depth > 4:
        return
    if isinstance(value, list):
        for item in value:
            yield from nodes(item, depth + 1)
    elif isinstance(value, dict):
        if isinstance(boot := value.get("bootstrap"), dict):
            if node := message(boot, "node"):
                yield node
        else:
            for key in ("configs", "bootstrap"):
                yield from nodes(value.get(key), depth + 1)


__all__ = ["Found", "kind_of", "name_of", "nodes", "resources"]
