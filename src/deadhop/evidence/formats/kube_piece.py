"""Pieces of manifests without the kind around them: items of ``containers:``, ``ports:``, ``servers:``, ``http:``…

Each row of a table says by which fields a piece is known and where in which kind it stands; the piece is put back there
and read as that kind. The fields are those of the kinds' schemas (k8s.io/api core/v1 and networking/v1, istio.io/api).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from deadhop.evidence.format import Context, Locate, ValueFormat
from deadhop.evidence.formats.kube_objects import FORMAT as OBJECTS
from deadhop.model.record import Record

Item = dict[str, Any]
#: Fields of a container beside its name (core/v1 Container); one of them makes an item with a name a container.
_CONTAINER = frozenset(
    """image args command containerPort livenessProbe readinessProbe startupProbe securityContext volumeMounts envFrom
    imagePullPolicy lifecycle""".split()
)
_PROBES = frozenset({"livenessProbe", "readinessProbe", "startupProbe"})
_PORT = frozenset({"name", "port", "protocol", "targetPort", "nodePort", "appProtocol"})


def _container(item: Item) -> bool:
    return isinstance(item.get("name"), str) and bool(item.keys() & _CONTAINER)


def _container_body(item: Item) -> bool:
    """A container of which grep left a part: its ports, and fields that only containers have."""
    ports = item.get("ports")
    rows = ports if isinstance(ports, list) else []
    return bool(rows) and all(isinstance(p, dict) and "containerPort" in p for p in rows) and item.keys() <= _CONTAINER | {"ports", "resources", "name", "tty", "stdin", "workingDir", "terminationMessagePath", "terminationMessagePolicy"}  # fmt: skip


def _container_port(item: Item) -> bool:
    return "containerPort" in item and item.keys() <= {"name", "containerPort", "protocol", "hostPort"}


def _service_port(item: Item) -> bool:
    return "port" in item and bool(item.keys() & {"targetPort", "nodePort"}) and item.keys() <= _PORT


def _http_route(item: Item) -> bool:
    return isinstance(item.get("route"), list) and all(isinstance(r, dict) and "destination" in r for r in item["route"])  # fmt: skip


def _destination(item: Item) -> bool:
    return isinstance(item.get("destination"), dict) and item.keys() <= {"destination", "weight", "headers"}


def _server(item: Item) -> bool:
    return isinstance(item.get("port"), dict) and isinstance(item.get("hosts"), list)


def _authorization(item: Item) -> bool:
    sources = item.get("from")
    return isinstance(sources, list) and bool(sources) and all(isinstance(s, dict) and "source" in s for s in sources)  # fmt: skip


def _ingress_rule(item: Item) -> bool:
    http = item.get("http")
    return isinstance(http, dict) and isinstance(http.get("paths"), list)


def _ingress_path(item: Item) -> bool:
    return "backend" in item and bool(item.keys() & {"path", "pathType"})


#: What every item of a list must be, the kind, and where the list stands in it (a number is a list's index).
_LISTS: tuple[tuple[Callable[[Item], bool], str, tuple[str | int, ...]], ...] = (
    (_container, "Pod", ("spec", "containers")),
    (_container_port, "Pod", ("spec", "containers", 0, "ports")),
    (_service_port, "Service", ("spec", "ports")),
    (_http_route, "VirtualService", ("spec", "http")),
    (_destination, "VirtualService", ("spec", "http", 0, "route")),
    (_server, "Gateway", ("spec", "servers")),
    (_authorization, "AuthorizationPolicy", ("spec", "rules")),
    (_ingress_rule, "Ingress", ("spec", "rules")),
    (_ingress_path, "Ingress", ("spec", "rules", 0, "http", "paths")),
)


def _only(value: Item, keys: frozenset[str]) -> bool:
    return bool(value) and value.keys() <= keys


#: What a mapping must be, the kind, and where it stands in it.
_MAPPINGS: tuple[tuple[Callable[[Item], bool], str, tuple[str | int, ...]], ...] = (
    (lambda v: _only(v, _PROBES), "Pod", ("spec", "containers", 0)),
    (_container, "Pod", ("spec", "containers", 0)),
    (_container_body, "Pod", ("spec", "containers", 0)),
    (lambda v: _only(v, frozenset({"connectionPool", "outlierDetection"})), "DestinationRule", ("spec", "trafficPolicy")),
)  # fmt: skip


def _place(value: Any) -> tuple[str, tuple[str | int, ...]] | None:
    if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        return next(((kind, path) for known, kind, path in _LISTS if all(known(v) for v in value)), None)
    if isinstance(value, dict) and not value.keys() & {"kind", "apiVersion", "spec", "metadata"}:
        return next(((kind, path) for known, kind, path in _MAPPINGS if known(value)), None)
    return None


def _match(value: Any) -> bool:
    return _place(value) is not None


def _read(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    place = _place(value)
    if place is None:
        return ()
    kind, path = place
    for key in reversed(path):
        value = [value] if key == 0 else {key: value}
    return OBJECTS.read({"kind": kind, **value}, locate, context)


FORMAT = ValueFormat("kube-piece", _match, _read, priority=35)
