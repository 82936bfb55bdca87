"""The walk of one request: capture at the client, listener, route, cluster, the server's side, and back."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from deadhop.hops.mesh.clusters import Cluster, build_cluster, cluster_name, lookup, passthrough
from deadhop.hops.mesh.context import Context
from deadhop.hops.mesh.decode import address, within
from deadhop.hops.mesh.dial import connect
from deadhop.hops.mesh.farend import Arrival, Payload
from deadhop.hops.mesh.hosts import covers
from deadhop.hops.mesh.listeners import Listener, choose_listener
from deadhop.hops.mesh.mesh import Mesh
from deadhop.hops.mesh.outbound_http import authority_of, routed
from deadhop.hops.mesh.outbound_tcp import blackholed, proxied, socket_view
from deadhop.hops.mesh.proxy.clusters import overridden
from deadhop.hops.mesh.proxy.config import Proxies
from deadhop.hops.mesh.proxy.gateway import at_gateway
from deadhop.hops.mesh.proxy.outbound import routed as routed_by_dump
from deadhop.hops.mesh.proxy.outbound import through
from deadhop.hops.mesh.scope import Scope
from deadhop.hops.mesh.versions import NEWEST, Version, envoy_of_istio, parse_version
from deadhop.hops.mesh.virtualservice import VirtualService
from deadhop.hops.mesh.workload import Workload, captures_outbound
from deadhop.model.mesh import AppFact, MeshOutcome, MeshRequest
from deadhop.model.proto_json import get
from deadhop.model.trace import Disposition


def walk(
    mesh: Mesh,
    request: MeshRequest,
    facts: Iterable[AppFact] = (),
    *,
    envoy: str | None = None,
    proxies: Proxies | None = None,
) -> MeshOutcome:
    """Walk one request through the mesh.

    ``facts`` is what is known of applications, sidecars and the network beyond the objects. ``envoy`` is the
    release of both sidecars (``"1.38.3"``); without it the client's proxy decides, else the newest known.
    ``proxies`` are configurations that proxies really run: each decides for its workload before the objects do.
    """
    client = mesh.pods.get(request.client)
    own = (proxies or {}).get(request.client)
    version = _version(client, envoy or (own.envoy if own else None))
    ctx = Context(mesh, facts, version, proxies, at_gateway)
    outcome = _walk(ctx, client, msgspec.structs.replace(request, dst_ip=address(request.dst_ip)))
    return msgspec.structs.replace(
        outcome,
        steps=tuple(ctx.steps),
        unknown=tuple(ctx.unknown),
        envoy=".".join(map(str, version)),
    )


def _version(client: Workload | None, envoy: str | None) -> Version:
    if envoy:
        return parse_version(envoy)
    return (envoy_of_istio(client.proxy_version) if client else None) or NEWEST


def payload_of(ctx: Context, request: MeshRequest) -> Payload:
    """What the application writes to its connection."""
    if ctx.fact("client_sends_partial_client_hello", request.client):
        return "partial-tls"
    if request.scheme == "https":
        return "tls"
    if request.http_version in ("1.0", "0.9"):
        return "http/1.0"
    return "http/2" if request.http_version in ("2", "2.0") else "http/1.1"


def _walk(ctx: Context, client: Workload | None, request: MeshRequest) -> MeshOutcome:
    authority, path = authority_of(request)
    arrival = Arrival(
        source=client,
        source_ip=client.ips[0] if client and client.ips else request.client,
        tls="none",
        payload=payload_of(ctx, request),
        http=False,
        host=authority,
        method=request.method,
        path=path,
        headers={k.lower(): v for k, v in request.headers},
        sni=request.sni,
    )
    if client is None:
        if "/" in request.client:
            ctx.lacks(f"the pod {request.client}")
            ctx.say("Pod", f"{request.client} is not among the objects", None)
            return MeshOutcome(ending="unknown", disposition=Disposition.UNKNOWN, reason="client unknown")
        ctx.say("client", f"{request.client} is no pod of the mesh", function="istio-iptables")
    else:
        captured, why = captures_outbound(client, request.dst_ip, request.dst_port)
        if captured:
            return _through_sidecar(ctx, client, request, arrival)
        ctx.say(
            f"Pod {client.key}", f"the connection does not pass a sidecar: {why}", function="istio-iptables"
        )
    return socket_view(connect(ctx, arrival, request.dst_ip, request.dst_port))


def _through_sidecar(ctx: Context, client: Workload, request: MeshRequest, arrival: Arrival) -> MeshOutcome:
    mesh, scope = ctx.mesh, ctx.mesh.scope_of(client)
    if not mesh.config.said:
        ctx.lacks("the mesh configuration (ConfigMap istio); Istio's defaults are assumed")
    if scope.sidecar is not None:
        ctx.say(scope.sidecar.meta, "configures what this sidecar knows", function="getSidecarScope")
    listener = choose_listener(mesh, scope, client.ips, request.dst_ip, request.dst_port)
    proxy = ctx.proxies.get(client.key)
    if proxy is not None:
        outcome = through(ctx, client, proxy, listener.name, request, arrival)
        if outcome is not None:
            return outcome
    http = listener.http and (
        arrival.payload in ("http/1.1", "http/2") or (arrival.payload == "http/1.0" and client.http10)
    )
    ctx.say(
        listener.decided_by,
        f"listener {listener.name} takes {request.dst_ip}:{request.dst_port}"
        + (f", HTTP with route configuration {listener.rds}" if http else ", as TCP"),
        function="use_original_dst",
        listener=listener.name,
    )
    if http:
        told = proxy.routes.get(listener.rds) if proxy is not None else None
        if proxy is not None and told is not None and get(told.raw, "virtual_hosts") is not None:
            return routed_by_dump(ctx, client, proxy, told.raw, (told.source,), request, arrival)
        return routed(ctx, scope, client, listener, request, arrival)
    if listener.decided_by == "virtualOutbound-blackhole":
        return blackholed(ctx)
    cluster = tcp_cluster(ctx, scope, client, listener, request)
    if cluster is not None:
        cluster = overridden(ctx, client, cluster.name, cluster, (request.dst_ip, request.dst_port))
    if cluster is None:
        return blackholed(ctx)
    return proxied(ctx, cluster, arrival)


def tcp_cluster(
    ctx: Context, scope: Scope, client: Workload, listener: Listener, request: MeshRequest
) -> Cluster | None:
    """The cluster of a listener's TCP chain; None is BlackHoleCluster."""
    dst = (request.dst_ip, request.dst_port)
    if listener.service is None or listener.port is None:
        return None if scope.outbound_mode == "REGISTRY_ONLY" else passthrough(ctx.mesh, *dst)
    service, port, subset = listener.service, listener.port, ""
    rules = _l4_rules(ctx.mesh, scope, service.host, request)
    if rules is not None:
        v, host, number, subset = rules
        ctx.say(v.meta, f"routes the connection to {host}")
        target = lookup(ctx.mesh, scope, host, number or request.dst_port)
        target_port = target.port(number or request.dst_port) if target else None
        if target is None or target_port is None:
            return Cluster(cluster_name(host, number or request.dst_port, subset), "EDS", (), 10.0)
        service, port = target, target_port
    return build_cluster(ctx.mesh, client, service, port, subset, dst) or Cluster(
        cluster_name(service.host, port.number, subset), "EDS", (), 10.0
    )


def _l4_rules(
    mesh: Mesh, scope: Scope, host: str, request: MeshRequest
) -> tuple[VirtualService, str, int | None, str] | None:
    """The tcp or tls route of a VirtualService that takes this connection."""
    for v in mesh.virtual_services:
        if not v.in_mesh or not v.visible_from(scope.namespace) or not (v.tcp or v.tls):
            continue
        if not any(covers(h, host) for h in v.hosts):
            continue
        for route in (*(v.tls if request.scheme == "https" else ()), *v.tcp):
            if route.ports and request.dst_port not in route.ports:
                continue
            if route.blocks and not within(request.dst_ip, route.blocks):
                continue
            if route.sni_hosts and not any(covers(s, request.sni.lower()) for s in route.sni_hosts):
                continue
            targets = [d for d in route.destinations if d.weight > 0] or list(route.destinations)
            if targets:
                best = max(targets, key=lambda d: d.weight)
                return v, best.host, best.port, best.subset
    return None
