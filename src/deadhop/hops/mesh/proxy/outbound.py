"""The client's sidecar (or a gateway's proxy) as it is configured: listener, chain, route configuration, cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from deadhop.hops.mesh.clusters import BLACKHOLE, PASSTHROUGH, Cluster, build_cluster, lookup, passthrough
from deadhop.hops.mesh.context import Context
from deadhop.hops.mesh.farend import Arrival
from deadhop.hops.mesh.outbound_http import Chosen, authority_of, forward, local, refused_upgrade
from deadhop.hops.mesh.outbound_tcp import UNREAD, proxied
from deadhop.hops.mesh.proxy.clusters import real_cluster
from deadhop.hops.mesh.proxy.config import ProxyConfig
from deadhop.hops.mesh.proxy.filters import Outlet, outlet, route_config, sniffed, strange
from deadhop.hops.mesh.proxy.routes import Target, allowed_upgrades, request_headers, take, target_of
from deadhop.hops.mesh.workload import Workload
from deadhop.model.envoy_flags import FAULT_ABORT, UPGRADE_REQUIRED
from deadhop.model.mesh import LogLine, MeshOutcome, MeshRequest
from deadhop.model.observed.proxy import ProxyResource
from deadhop.model.proto_json import flag, messages, number, string
from deadhop.model.record import Source
from deadhop.model.trace import Disposition
from deadhop.snapshot.istio import cluster_parts

NO_CHAIN = LogLine(frozenset(("NR",)), "filter_chain_not_found")


def through(
    ctx: Context, client: Workload, proxy: ProxyConfig, derived: str, request: MeshRequest, arrival: Arrival
) -> MeshOutcome | None:
    """One captured connection; None where the dump does not say what the listener does.

    ``derived`` is the listener that the objects imply: a dump that holds only some listeners is believed where it has
    that one, or one for the exact address.
    """
    listener = proxy.captured(request.dst_ip, request.dst_port, outbound=True)
    if listener is None:
        return None
    if (
        "listener" not in proxy.whole
        and listener is proxy.default_listener(True)
        and derived != listener.name
    ):
        return None
    return by_listener(ctx, client, proxy, listener, request, arrival)


def by_listener(
    ctx: Context,
    client: Workload,
    proxy: ProxyConfig,
    listener: ProxyResource,
    request: MeshRequest,
    arrival: Arrival,
) -> MeshOutcome | None:
    """What a listener does with a connection."""
    seen = sniffed(listener.raw, arrival, request.dst_ip, request.dst_port)
    me = f"listener {listener.name} of proxy {proxy.owner}"
    if seen.protocol == "tls" and arrival.payload == "partial-tls" and arrival.tls == "none":
        ctx.say(me, "the TLS inspector waits for the rest of the hello", False, sources=(listener.source,))
        return MeshOutcome(ending="timeout", disposition=Disposition.DELIVERED, reason="no answer")
    try:
        found = outlet(listener, seen)
    except LookupError as error:
        ctx.lacks(f"what the {error.args[0]} of {me} decides")
        return None
    if found is None:
        ctx.say(
            me, "no filter chain takes the connection", False, "filter_chain_not_found", (listener.source,)
        )
        return MeshOutcome(ending=UNREAD, client_log=NO_CHAIN, disposition=Disposition.REJECTED, reason="NR")
    return by_chain(ctx, client, proxy, found, request, arrival)


def by_chain(
    ctx: Context,
    client: Workload,
    proxy: ProxyConfig,
    found: Outlet,
    request: MeshRequest,
    arrival: Arrival,
) -> MeshOutcome | None:
    """What a filter chain does with the connection that it took; None where the dump does not tell."""
    listener = found.listener
    me = f"listener {listener.name} of proxy {proxy.owner}"
    ctx.say(
        me,
        f"takes {request.dst_ip}:{request.dst_port}, filter chain {found.name.partition(' ')[2]}"
        + (", HTTP" if found.manager is not None else ", as TCP"),
        function="findFilterChain",
        sources=(listener.source,),
        listener=listener.name,
    )
    strange(ctx, {"filters": list(found.before)}, "filters", me)
    if found.manager is not None:
        return _http(ctx, client, proxy, found, request, arrival)
    if found.tcp is not None:
        return _tcp(ctx, client, proxy, found, request, arrival)
    ctx.lacks(f"what the filters of {me} do")
    return None


def _tcp(
    ctx: Context,
    client: Workload,
    proxy: ProxyConfig,
    found: Outlet,
    request: MeshRequest,
    arrival: Arrival,
) -> MeshOutcome | None:
    assert found.tcp is not None
    name = string(found.tcp, "cluster")
    if not name:
        weighted = [
            (string(c, "name"), number(c, "weight") or 0)
            for c in messages(found.tcp, "weighted_clusters", "clusters")
        ]
        name = _drawn(ctx, [w for w in weighted if w[0]])
    if not name:
        return None
    cluster = named_cluster(ctx, client, proxy, name, (request.dst_ip, request.dst_port))
    if cluster is None:
        ctx.say(name, "the proxy has no cluster of that name", False, sources=(found.listener.source,))
        return MeshOutcome(
            ending=UNREAD, client_log=LogLine(frozenset(("NC",)), None, name), disposition=Disposition.REJECTED, reason="NC"
        )  # fmt: skip
    return proxied(ctx, cluster, arrival)


def _drawn(ctx: Context, clusters: list[tuple[str, int]]) -> str:
    """The cluster with the greatest weight; which one is drawn is chance."""
    live = [c for c in clusters if c[1] > 0]
    if len(live) > 1:
        ctx.lacks("which of the route's weighted destinations is drawn")
    return max(live or clusters, key=lambda c: c[1])[0] if clusters else ""


def named_cluster(
    ctx: Context, client: Workload, proxy: ProxyConfig, name: str, dst: tuple[str, int]
) -> Cluster | None:
    """The proxy's cluster of that name, from the dump or, where that does not tell, from the objects."""
    told, cluster = real_cluster(ctx, proxy, client, name, dst)
    if told:
        return cluster
    if name == PASSTHROUGH:
        return passthrough(ctx.mesh, *dst)
    if name == BLACKHOLE:
        return Cluster(name, "STATIC", (), 1.0)
    mesh, parts = ctx.mesh, cluster_parts(name)
    if parts is not None and parts.port is not None:
        service = lookup(mesh, mesh.scope_of(client), parts.host, parts.port)
        port = service.port(parts.port) if service else None
        if service is not None and port is not None:
            return build_cluster(mesh, client, service, port, parts.subset, dst)
    ctx.lacks(f"the cluster {name} of proxy {proxy.owner}")
    return None


def _http(
    ctx: Context,
    client: Workload,
    proxy: ProxyConfig,
    found: Outlet,
    request: MeshRequest,
    arrival: Arrival,
) -> MeshOutcome | None:
    assert found.manager is not None
    strange(ctx, found.manager, "http_filters", found.name)
    if arrival.payload in ("tls", "partial-tls") and arrival.tls == "none":
        ctx.say(found.name, "the HTTP codec meets TLS bytes", False, function="http1.codec_error")
        return local(400, "", "http1.codec_error", flags=("DPE",))
    if arrival.payload == "http/1.0" and not flag(found.manager, "http_protocol_options", "accept_http_10"):
        ctx.say(found.name, "refuses HTTP/1.0", False, function="low_version")
        return local(426, UPGRADE_REQUIRED, "low_version", flags=("DPE",))
    name, config, resource = route_config(proxy, found.manager)
    if config is None:
        ctx.say(f"route configuration {name}", "is not in the dump: the objects tell", None)
        return None
    sources = proxy.sources(found.listener if resource is None else resource)
    return routed(ctx, client, proxy, config, sources, request, arrival, allowed_upgrades(found.manager))


def routed(
    ctx: Context,
    client: Workload,
    proxy: ProxyConfig,
    config: Mapping[str, Any],
    sources: tuple[Source, ...],
    request: MeshRequest,
    arrival: Arrival,
    upgrades: frozenset[str] | None = None,
) -> MeshOutcome:
    """One request through a route configuration of the dump."""
    me = f"proxy {proxy.owner}"
    name = string(config, "name")
    authority, path = authority_of(request)
    if authority is None:
        ctx.say(me, "refuses a request without Host", False, function="missing_host_header")
        return local(400, "", "missing_host_header")
    refused = refused_upgrade(ctx, me, request, upgrades)
    if refused is not None:
        return refused
    found = proxy.virtual_hosts(config).match(authority)
    if found is None:
        ctx.say(
            f"route configuration {name} of {me}",
            f"no virtual host for {authority!r}",
            False,
            sources=sources,
        )
        return local(404, "", "route_not_found", flags=("NR",))
    vhost, domain = found
    ctx.say(
        f"route configuration {name} of {me}",
        f"Host {authority!r} matches domain {domain!r} of virtual host {string(vhost, 'name')}",
        function="RouteMatcher::findVirtualHost",
        sources=sources,
        vhost=string(vhost, "name"),
        domain=domain,
        rds=name,
    )
    if string(vhost, "require_tls") == "ALL" and request.scheme != "https":
        ctx.say(string(vhost, "name"), "redirects plain requests to https", False, sources=sources)
        return local(301, "", "direct_response")
    taken = take(vhost, request_headers(request, authority, path), path)
    for unsure in taken.unsure:
        ctx.lacks(
            f"whether {unsure} of {string(vhost, 'name')} matches (a condition this model does not evaluate)"
        )
    if taken.route is None:
        ctx.say(string(vhost, "name"), f"no route takes {request.method} {path}", False, sources=sources)
        return local(404, "", "route_not_found", flags=("NR",))
    target = target_of(taken.route, vhost, path)
    ctx.say(
        f"virtual host {string(vhost, 'name')} of {me}",
        f"route {target.name or '(unnamed)'} takes {request.method} {path}",
        sources=sources,
        route=target.name,
    )
    return _act(ctx, client, proxy, target, request, arrival, authority, path)


def _act(
    ctx: Context,
    client: Workload,
    proxy: ProxyConfig,
    target: Target,
    request: MeshRequest,
    arrival: Arrival,
    authority: str,
    path: str,
) -> MeshOutcome:
    shown = target.name or None
    if target.answer is not None:
        status, body, details = target.answer
        if details == "fault_filter_abort":
            return local(status, FAULT_ABORT, details, flags=("FI",), route=shown)
        return local(status, body, details, route=shown)
    name = _drawn(ctx, list(target.clusters))
    if not name:
        ctx.lacks(f"which cluster route {shown} leads to")
        return MeshOutcome(
            ending="unknown", disposition=Disposition.UNKNOWN, reason="route without a cluster"
        )
    dst = (request.dst_ip, request.dst_port)
    cluster = named_cluster(ctx, client, proxy, name, dst)
    chosen = Chosen(cluster, name, shown, target.retries, target.timeout)
    sent = msgspec.structs.replace(
        arrival, host=target.host or authority, path=target.path or path, http=True
    )
    return forward(ctx, client, chosen, sent)
