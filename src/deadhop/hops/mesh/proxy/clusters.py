"""A cluster as the proxy has it: discovery type, hosts with their TLS, limits, and the HTTP version upstream.

Hosts come from the ClusterLoadAssignment (``config_dump?include_eds``), from ``/clusters``, or, where neither was
collected, from the objects. Reference: envoy ``config/cluster/v3/cluster.proto``, ``config/endpoint/v3``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deadhop.hops.mesh.clusters import Cluster, Host, endpoint_host, lookup
from deadhop.hops.mesh.context import Context
from deadhop.hops.mesh.decode import address, selector_matches
from deadhop.hops.mesh.destinationrule import Pool
from deadhop.hops.mesh.proxy.config import ProxyConfig
from deadhop.hops.mesh.proxy.sockets import MATCH_KEY, Client, client_socket
from deadhop.hops.mesh.workload import Workload
from deadhop.model.observed.proxy import ProxyResource
from deadhop.model.proto_json import (
    flag,
    get,
    message,
    messages,
    number,
    seconds,
    socket_address,
    string,
)
from deadhop.snapshot.istio import cluster_parts

_UNHEALTHY = ("UNHEALTHY", "DRAINING", "TIMEOUT")
_NO_LIMIT = 4294967295
_Member = tuple[str, int, Mapping[str, Any]]


def real_cluster(
    ctx: Context, proxy: ProxyConfig, client: Workload, name: str, dst: tuple[str, int]
) -> tuple[bool, Cluster | None]:
    """``(told, cluster)``: told is False where the dump does not say; a cluster of None is one the proxy lacks."""
    resource = proxy.clusters.get(name)
    if resource is None or len(resource.raw.keys() - {"@type", "name"}) == 0:
        told = resource is None and "cluster" in proxy.whole
        return told, None
    raw = resource.raw
    kind = string(raw, "type") or string(raw, "cluster_type", "name") or "STATIC"
    members, origin, known = _members(ctx, proxy, client, resource, kind)
    if kind == "ORIGINAL_DST":
        members, origin, known = [(*dst, {})], None, True
    hosts, first = [], None
    for ip, port, metadata in members:
        socket = client_socket(raw, metadata)
        first = first or socket
        hosts.append(_host(ctx, ip, port, socket, name))
    if not known:
        ctx.lacks(f"the endpoints of {name}")
    options = http_version(raw)
    return True, Cluster(
        name=name,
        kind=kind,
        hosts=tuple(hosts),
        connect_timeout=5.0 if (limit := seconds(raw, "connect_timeout")) is None else limit,
        http2=options == "http2",
        auto_http2=options == "downstream",
        pool=_pool(raw),
        sans=first.sans if first else (),
        decided_by=f"cluster {name} of proxy {proxy.owner}",
        sources=proxy.sources(resource, origin),
        sni=first.sni if first else "",
    )


def _host(ctx: Context, ip: str, port: int, socket: Client, cluster: str) -> Host:
    if not socket.tls:
        ctx.lacks(f"what the transport socket {socket.name!r} of {cluster} does")
        return Host(ip, port, "none", f"transport socket {socket.name}", False)
    shown = {"none": "plain text", "istio": "mesh mutual TLS", "user": "TLS of its own"}[socket.tls]
    return Host(ip, port, socket.tls, f"the proxy's cluster uses {shown} ({socket.name})")


def _members(
    ctx: Context, proxy: ProxyConfig, client: Workload, resource: ProxyResource, kind: str
) -> tuple[list[_Member], ProxyResource | None, bool]:
    """The hosts to choose from, the resource that tells them, and whether anything does."""
    raw, name = resource.raw, resource.name
    service = string(raw, "eds_cluster_config", "service_name") or name
    assignment = proxy.endpoints.get(service) or proxy.endpoints.get(name)
    if assignment is not None:
        return _healthy(_assigned(assignment.raw), raw), assignment, _addressed(assignment.raw)
    if inline := message(raw, "load_assignment"):
        return _healthy(_assigned(inline), raw), None, _addressed(inline)
    shown = proxy.hosts.get(name)
    if shown is not None:
        return _healthy(_listed(ctx, shown.raw, name), raw), shown, True
    if kind != "EDS":
        return [], None, kind in ("STATIC", "ORIGINAL_DST")
    if "endpoints" in proxy.whole or "hosts" in proxy.whole:
        return [], None, True
    derived = _derived(ctx, client, name)
    return derived or [], None, derived is not None


def _assigned(raw: Mapping[str, Any]) -> Iterator[tuple[int, bool, _Member]]:
    for locality in messages(raw, "endpoints"):
        priority = number(locality, "priority") or 0
        for entry in messages(locality, "lb_endpoints"):
            where = socket_address(entry, "endpoint", "address")
            if where is None:
                continue
            metadata = message(entry, "metadata", "filter_metadata")
            yield (
                priority,
                string(entry, "health_status") not in _UNHEALTHY,
                (address(where[0]), where[1], metadata),
            )


def _addressed(raw: Mapping[str, Any]) -> bool:
    """Has every endpoint an address of its own? One of an internal listener (HBONE, a waypoint) leads on inside Envoy."""
    every = [e for locality in messages(raw, "endpoints") for e in messages(locality, "lb_endpoints")]
    return all(socket_address(e, "endpoint", "address") is not None for e in every)


def _listed(ctx: Context, raw: Mapping[str, Any], name: str) -> Iterator[tuple[int, bool, _Member]]:
    """ClusterStatus does not show metadata: whether a host takes mutual TLS is what its pod's label says."""
    for entry in messages(raw, "host_statuses"):
        where = socket_address(entry, "address")
        if where is None:
            continue
        health = message(entry, "health_status")
        well = string(health, "eds_health_status") not in _UNHEALTHY
        well = (
            well
            and not flag(health, "failed_outlier_check")
            and not flag(health, "failed_active_health_check")
        )
        ip = address(where[0])
        metadata = _metadata(ctx, ip, where[1])
        if metadata is None:
            ctx.lacks(f"whether {ip}:{where[1]} of {name} takes mutual TLS")
        yield number(entry, "priority") or 0, well, (ip, where[1], metadata or {})


def _metadata(ctx: Context, ip: str, port: int) -> Mapping[str, Any] | None:
    pod = ctx.mesh.pod_of(ip, port)
    if pod is None:
        return None
    return {MATCH_KEY: {"tlsMode": "istio"}} if pod.tls_label else {}


def _derived(ctx: Context, client: Workload, name: str) -> list[_Member] | None:
    """The hosts that the objects give a cluster of this name; None where they do not know the service."""
    parts = cluster_parts(name)
    if parts is None or parts.port is None:
        return None
    mesh = ctx.mesh
    service = lookup(mesh, mesh.scope_of(client), parts.host, parts.port)
    port = service.port(parts.port) if service else None
    if service is None or port is None:
        return None
    rule = mesh.rules.find(service.host, service.namespace, client.namespace, client.labels)
    subset = rule.subsets.get(parts.subset) if rule and parts.subset else None
    wanted = subset.labels if subset else {}
    out: list[_Member] = []
    for endpoint, number_ in service.ready_endpoints(port):
        if selector_matches(wanted, endpoint.labels):
            tls = endpoint_host(mesh, endpoint, number_).tls == "istio"
            out.append((endpoint.address, number_, {MATCH_KEY: {"tlsMode": "istio"}} if tls else {}))
    return out


def _healthy(members: Iterator[tuple[int, bool, _Member]], cluster: Mapping[str, Any]) -> list[_Member]:
    """The healthy hosts of the first priority that has any; below the panic threshold (50 % unless set) all count.

    Reference: envoy ``source/common/upstream/load_balancer_impl.cc`` (``isHostSetInPanic``).
    """
    listed = list(members)
    for priority in sorted({p for p, _, _ in listed}):
        if found := [m for p, well, m in listed if p == priority and well]:
            return found
    limit = message(cluster, "common_lb_config", "healthy_panic_threshold")
    threshold = (
        get(limit, "value") or 0
        if limit or get(cluster, "common_lb_config", "healthy_panic_threshold") is not None
        else 50
    )
    return [m for _, _, m in listed] if threshold else []


def http_version(cluster: Mapping[str, Any]) -> str:
    """``http1``, ``http2``, or ``downstream`` for the version that the request came in."""
    for options in message(cluster, "typed_extension_protocol_options").values():
        if get(options, "explicit_http_config", "http2_protocol_options") is not None:
            return "http2"
        if get(options, "use_downstream_protocol_config") is not None:
            return "downstream"
    if string(cluster, "protocol_selection") == "USE_DOWNSTREAM_PROTOCOL":
        return "downstream"
    return "http2" if get(cluster, "http2_protocol_options") is not None else "http1"


def _pool(cluster: Mapping[str, Any]) -> Pool:
    """The circuit breakers of the default priority."""
    for threshold in messages(cluster, "circuit_breakers", "thresholds"):
        if string(threshold, "priority") in ("", "DEFAULT"):
            limits = [
                None if (n := number(threshold, f)) is None or n >= _NO_LIMIT else n
                for f in ("max_connections", "max_pending_requests", "max_requests")
            ]
            return Pool(None, limits[0], limits[1], limits[2])
    return Pool()


def overridden(
    ctx: Context, client: Workload, name: str, derived: Cluster | None, dst: tuple[str, int]
) -> Cluster | None:
    """The proxy's own cluster of that name where its configuration tells, else what the objects give."""
    proxy = ctx.proxies.get(client.key)
    if proxy is None:
        return derived
    told, cluster = real_cluster(ctx, proxy, client, name, dst)
    return cluster if told else derived


__all__ = ["http_version", "overridden", "real_cluster"]
