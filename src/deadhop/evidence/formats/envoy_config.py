"""Envoy's configuration as JSON: ``istioctl proxy-config … -o json`` and pieces of a ``config_dump``, cut off or whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from deadhop.evidence.envoy_dump import Found, kind_of, nodes, resources
from deadhop.evidence.envoy_whole import coverage, envoy_of_node, owner_of_context, owner_of_node
from deadhop.evidence.fields import integer, rfc3339
from deadhop.evidence.format import Context, Locate, ValueFormat
from deadhop.model.observed.kube import mapping, mappings
from deadhop.model.observed.mesh import EnvoyCluster, EnvoyEndpoint, EnvoyListener, EnvoyRouteHost
from deadhop.model.observed.proxy import ProxyDump, ProxyResource
from deadhop.model.proto_json import messages
from deadhop.model.record import Record, Source

_HTTP = ("http_connection_manager", "envoy.http_connection_manager", "httpConnectionManager")


def _either(value: dict[str, Any], *names: str) -> Any:
    return next((value[n] for n in names if n in value), None)


def _read(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    found = list(resources(value))
    yield from _own_configuration(value, found, locate, context)
    for item in found:
        if item.state not in ("static", "active"):
            continue
        where = locate(item.path)
        if item.kind == "listener":
            yield from _listener(item.raw, where, context)
        elif item.kind == "route":
            for host in messages(item.raw, "virtual_hosts"):
                yield _vhost(host, item.name, where, context)
        elif item.kind in ("cluster", "hosts"):
            yield from _cluster(item.raw, where, context)
    for host, path in _loose_hosts(value, "", 0):
        yield _vhost(host, "", locate(path), context)


def _own_configuration(
    value: Any, found: list[Found], locate: Locate, context: Context
) -> Iterator[ProxyDump | ProxyResource]:
    """The resources themselves, with the proxy that they belong to."""
    if not found:
        return
    node = next(nodes(value), {})
    owner, role = owner_of_node(node)
    owner = owner or owner_of_context(context)
    whole, part = coverage(value, found, context, locate.whole)
    times = [t for f in found if (t := rfc3339(f.updated)) is not None]
    yield ProxyDump(
        source=locate(), where=context.where, time=max(times, default=None), proxy=owner, role=role,
        envoy=envoy_of_node(node), whole=tuple(whole), part=tuple(part),
    )  # fmt: skip
    for item in found:
        yield ProxyResource(
            source=locate(item.path), reading=str(locate()), where=context.where, time=rfc3339(item.updated), proxy=owner, kind=item.kind,
            name=item.name, state=item.state, version=item.version, details=item.details, raw=item.raw,
        )  # fmt: skip


def _loose_hosts(value: Any, path: str, depth: int) -> Iterator[tuple[dict[str, Any], str]]:
    """Virtual hosts that were pasted without their route configuration."""
    if depth > 6:
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _loose_hosts(item, f"{path}/{index}", depth + 1)
    elif isinstance(value, dict) and kind_of(value) is None and "kind" not in value:
        if isinstance(value.get("domains"), list) and value.keys() & {"routes", "name"}:
            yield value, path.lstrip("/")
            return
        for key, below in value.items():
            if key != "bootstrap" and isinstance(below, (dict, list)):
                yield from _loose_hosts(below, f"{path}/{key}", depth + 1)


def _match(value: Any) -> bool:
    if isinstance(value, dict) and "kind" in value and "apiVersion" in value:
        return False
    return (
        next(iter(resources(value)), None) is not None or next(_loose_hosts(value, "", 0), None) is not None
    )


def _listener(item: dict[str, Any], source: Source, context: Context) -> Iterator[Record]:
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
    yield EnvoyListener(source=source, where=context.where, name=name, address=address, port=port, destination=chains[0] if chains else "", http=http, chains=tuple(chains))  # fmt: skip


def _vhost(item: dict[str, Any], route: str, source: Source, context: Context) -> Record:
    domains = item.get("domains")
    return EnvoyRouteHost(source=source, where=context.where, route=route, vhost=str(item.get("name", "")), domains=tuple(str(d) for d in domains) if isinstance(domains, list) else ())  # fmt: skip


def _cluster(item: dict[str, Any], source: Source, context: Context) -> Iterator[Record]:
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
        yield EnvoyEndpoint(source=source, where=context.where, address=shown, status=status, cluster=name)
    yield EnvoyCluster(source=source, where=context.where, name=name, type=str(item.get("type", "")), endpoints=tuple(endpoints) if known else None, sni=str(config.get("sni", "")))  # fmt: skip


FORMAT = ValueFormat("envoy-config", _match, _read, priority=15)
