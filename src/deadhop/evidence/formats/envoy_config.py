"""Envoy's configuration as JSON: ``istioctl proxy-config … -o json`` and pieces of a ``config_dump``, cut off or whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from deadhop.evidence.fields import integer
from deadhop.evidence.format import Context, Locate, ValueFormat
from deadhop.model.observed.kube import mapping, mappings
from deadhop.model.observed.mesh import EnvoyCluster, EnvoyEndpoint, EnvoyListener, EnvoyRouteHost
from deadhop.model.record import Record

_HTTP = ("http_connection_manager", "envoy.http_connection_manager", "httpConnectionManager")


def _either(value: dict[str, Any], *names: str) -> Any:
    return next((value[n] for n in names if n in value), None)


def _kind(value: Any) -> str:
    if not isinstance(value, dict) or "kind" in value:
        return ""
    keys = value.keys()
    if keys & {"filterChains", "filter_chains"} or (
        "address" in keys and mapping(value, "address", "socketAddress")
    ):
        return "listener"
    if keys & {"virtualHosts", "virtual_hosts"}:
        return "route"
    if "domains" in keys and keys & {"routes", "name"}:
        return "vhost"
    if keys & {"edsClusterConfig", "eds_cluster_config", "connectTimeout", "connect_timeout", "circuitBreakers", "transportSocket", "hostStatuses", "host_statuses"} and "name" in keys:  # fmt: skip
        return "cluster"
    if keys & {"listener", "cluster", "routeConfig", "route_config", "dynamic_listeners", "dynamicListeners", "dynamic_active_clusters", "dynamicActiveClusters", "dynamicRouteConfigs", "configs", "active_state", "activeState"}:  # fmt: skip
        return "wrapper"
    return ""


def _match(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and any(_kind(v) not in ("", "wrapper") for v in value[:3])
    return _kind(value) not in ("", "wrapper") or (
        _kind(value) == "wrapper" and any(True for _ in _inside(value, 0))
    )


def _inside(value: Any, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    if depth > 6:
        return
    if isinstance(value, list):
        for item in value:
            yield from _inside(item, depth + 1)
    elif isinstance(value, dict):
        kind = _kind(value)
        if kind and kind != "wrapper":
            yield kind, value
        else:
            for below in value.values():
                if isinstance(below, (dict, list)):
                    yield from _inside(below, depth + 1)


def _read(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    for kind, item in _inside(value, 0):
        if kind == "listener":
            yield from _listener(item, locate, context)
        elif kind == "route":
            name = str(item.get("name", ""))
            for host in [*mappings(item, "virtualHosts"), *mappings(item, "virtual_hosts")]:
                yield _vhost(host, name, locate, context)
        elif kind == "vhost":
            yield _vhost(item, "", locate, context)
        else:
            yield from _cluster(item, locate, context)


def _listener(item: dict[str, Any], locate: Locate, context: Context) -> Iterator[Record]:
    socket = mapping(item, "address", "socketAddress") or mapping(item, "address", "socket_address")
    address = str(socket.get("address", ""))
    port = integer(str(_either(socket, "portValue", "port_value") or ""))
    name = str(item.get("name", ""))
    if port is None and (tail := name.rpartition("_")[2]).isdigit():
        address, port = name.rpartition("_")[0], int(tail)
    if port is None:
        return
    chains: list[str] = []
    http: bool | None = None
    for chain in [*mappings(item, "filterChains"), *mappings(item, "filter_chains")]:
        for part in mappings(chain, "filters"):
            what = str(part.get("name", ""))
            config = mapping(part, "typedConfig") or mapping(part, "typed_config") or mapping(part, "config")
            chains.append(str(config.get("cluster") or mapping(config, "rds").get("routeConfigName") or what))
            if what.endswith(_HTTP):
                http = True
            elif what.endswith("tcp_proxy") and http is None:
                http = False
    yield EnvoyListener(source=locate(), where=context.where, name=name, address=address, port=port, destination=chains[0] if chains else "", http=http, chains=tuple(chains))  # fmt: skip


def _vhost(item: dict[str, Any], route: str, locate: Locate, context: Context) -> Record:
    domains = item.get("domains")
    return EnvoyRouteHost(source=locate(), where=context.where, route=route, vhost=str(item.get("name", "")), domains=tuple(str(d) for d in domains) if isinstance(domains, list) else ())  # fmt: skip


def _cluster(item: dict[str, Any], locate: Locate, context: Context) -> Iterator[Record]:
    name = str(item.get("name", ""))
    config = mapping(item, "transportSocket", "typedConfig") or mapping(
        item, "transport_socket", "typed_config"
    )
    hosts = [*mappings(item, "hostStatuses"), *mappings(item, "host_statuses")]
    known = "hostStatuses" in item or "host_statuses" in item
    endpoints = []
    for host in hosts:
        socket = mapping(host, "address", "socketAddress") or mapping(host, "address", "socket_address")
        shown = f"{socket.get('address', '')}:{_either(socket, 'portValue', 'port_value') or ''}"
        health = mapping(host, "healthStatus") or mapping(host, "health_status")
        status = str(_either(health, "edsHealthStatus", "eds_health_status") or "")
        endpoints.append(shown)
        yield EnvoyEndpoint(source=locate(), where=context.where, address=shown, status=status, cluster=name)
    yield EnvoyCluster(source=locate(), where=context.where, name=name, type=str(item.get("type", "")), endpoints=tuple(endpoints) if known else None, sni=str(config.get("sni", "")))  # fmt: skip


FORMAT = ValueFormat("envoy-config", _match, _read, priority=15)
