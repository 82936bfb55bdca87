"""The client sidecar as an HTTP proxy: authority, virtual host, route, cluster, retries, and the reply.

Reference: envoy ``source/common/http/conn_manager_impl.cc`` and ``source/common/router/router.cc``.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from deadhop.hops.mesh.clusters import Cluster, build_cluster, cluster_name, passthrough, resolve
from deadhop.hops.mesh.context import Context
from deadhop.hops.mesh.dial import dial
from deadhop.hops.mesh.farend import Arrival, FarEnd
from deadhop.hops.mesh.listeners import Listener
from deadhop.hops.mesh.matching import route_matches
from deadhop.hops.mesh.proxy.clusters import overridden
from deadhop.hops.mesh.replies import connect_cause, reset_reply, retries_reset, retries_response
from deadhop.hops.mesh.routes import ALLOW_ANY, BLOCK_ALL, VirtualHost, find_virtual_host
from deadhop.hops.mesh.scope import Scope
from deadhop.hops.mesh.virtualservice import NO_RETRIES, HttpRoute, Retries
from deadhop.hops.mesh.workload import Workload
from deadhop.model.envoy_flags import FAULT_ABORT, NO_HEALTHY_UPSTREAM, REQUEST_TIMEOUT
from deadhop.model.mesh import LogLine, MeshOutcome, MeshRequest
from deadhop.model.trace import Disposition

RESET_OF = {
    "refused": "remote connection failure",
    "dropped": "connection timeout",
    "tls-failed": "remote connection failure",
    "closed": "connection termination",
    "protocol-error": "protocol error",
    "greeting": "protocol error",
}


class Chosen(msgspec.Struct, frozen=True):
    """A route that leads to a cluster: its name in the log, its retry policy and timeout (None: no limit)."""

    cluster: Cluster | None
    cluster_name: str
    route: str | None
    retries: Retries
    timeout: float | None


def local(
    status: int,
    body: str,
    details: str,
    *,
    flags: tuple[str, ...] = (),
    route: str | None = None,
    cluster: str | None = None,
) -> MeshOutcome:
    """An answer that the client's own sidecar makes."""
    return MeshOutcome(
        ending="response",
        status=status,
        body=body,
        client_log=LogLine(frozenset(flags), details, cluster, route),
        disposition=Disposition.ANSWERED,
        reason=flags[0] if flags else details,
    )


def authority_of(request: MeshRequest) -> tuple[str | None, str]:
    """The authority and the path: an absolute-form target wins over the Host header."""
    if "://" in request.path.partition("?")[0]:
        try:
            parts = urlsplit(request.path)
        except ValueError:
            return request.host, request.path
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return parts.netloc, path
    return request.host, request.path


def routed(
    ctx: Context, scope: Scope, client: Workload, listener: Listener, request: MeshRequest, arrival: Arrival
) -> MeshOutcome:
    """One request through the outbound HTTP connection manager."""
    me = f"sidecar {client.key}"
    authority, path = authority_of(request)
    if authority is None:
        ctx.say(me, "refuses a request without Host", False, function="missing_host_header")
        return local(400, "", "missing_host_header")
    refused = refused_upgrade(ctx, me, request)
    if refused is not None:
        return refused
    found = find_virtual_host(ctx.mesh, scope, client, listener, request.dst_port, authority)
    if found is None:
        ctx.say(f"route configuration {listener.rds}", f"no virtual host for {authority!r}", False)
        return local(404, "", "route_not_found", flags=("NR",))
    vhost, domain = found
    owner = vhost.rules.meta if vhost.rules else vhost.service.meta if vhost.service else scope.outbound_mode
    ctx.say(
        owner,
        f"Host {authority!r} matches domain {domain!r} of virtual host {vhost.name}",
        function="RouteMatcher::findVirtualHost",
        vhost=vhost.name,
        domain=domain,
        rds=listener.rds,
    )
    chosen = _choose(ctx, scope, client, vhost, request, authority, path)
    if isinstance(chosen, MeshOutcome):
        return chosen
    dst = (request.dst_ip, request.dst_port)
    real = overridden(ctx, client, chosen.cluster_name, chosen.cluster, dst)
    sent = msgspec.structs.replace(arrival, host=authority, path=path, http=True)
    return forward(ctx, client, msgspec.structs.replace(chosen, cluster=real), sent)


def refused_upgrade(
    ctx: Context, me: str, request: MeshRequest, allowed: frozenset[str] | None = None
) -> MeshOutcome | None:
    """The answer to an upgrade that the connection manager does not allow; istiod allows ``websocket``."""
    headers = {k.lower(): v.lower() for k, v in request.headers}
    wanted = headers.get("upgrade", "")
    passing = {"h2c", *(("websocket",) if allowed is None else allowed)}
    if not wanted or "upgrade" not in headers.get("connection", "") or wanted in passing:
        return None
    ctx.say(me, f"does not allow an upgrade to {wanted}", False, function="upgrade_failed")
    return local(403, "", "upgrade_failed")


def _choose(
    ctx: Context,
    scope: Scope,
    client: Workload,
    vhost: VirtualHost,
    request: MeshRequest,
    authority: str,
    path: str,
) -> Chosen | MeshOutcome:
    """The route inside a virtual host."""
    dst = (request.dst_ip, request.dst_port)
    if vhost.rules is not None:
        return _by_rules(ctx, scope, client, vhost, request, authority, path)
    if vhost.service is not None:
        port = vhost.service.port(request.dst_port)
        assert port is not None
        cluster = build_cluster(ctx.mesh, client, vhost.service, port, "", dst)
        return Chosen(cluster, cluster_name(vhost.service.host, port.number), "default", Retries(), None)
    if vhost.name == BLOCK_ALL:
        ctx.say(
            "outboundTrafficPolicy", "REGISTRY_ONLY: block_all answers 502", False, function="direct_response"
        )
        return local(502, "", "direct_response", route=BLOCK_ALL)
    if scope.outbound_mode == "ALLOW_ANY_DYNAMIC_DNS":
        ctx.lacks(f"the address of {authority}, which AllowAnyDynamicDNSCluster resolves")
    cluster = passthrough(ctx.mesh, *dst)
    return Chosen(cluster, cluster.name, ALLOW_ANY, NO_RETRIES, None)


def _by_rules(
    ctx: Context,
    scope: Scope,
    client: Workload,
    vhost: VirtualHost,
    request: MeshRequest,
    authority: str,
    path: str,
) -> Chosen | MeshOutcome:
    rules = vhost.rules
    assert rules is not None
    for index, route in enumerate(rules.http):
        matched, name = route_matches(
            route, request, authority, path, client.namespace, client.labels, request.dst_port
        )
        if matched is None:
            ctx.lacks(
                f"whether http[{index}] of {rules.meta} matches (an expression this model does not evaluate)"
            )
        if matched:
            ctx.say(
                rules.meta, f"http[{index}] {name or '(unnamed)'} takes {request.method} {path}", route=name
            )
            return _act(ctx, scope, client, route, name or None, request)
    ctx.say(rules.meta, f"no http route takes {request.method} {path}", False)
    return local(404, "", "route_not_found", flags=("NR",))


def _act(
    ctx: Context, scope: Scope, client: Workload, route: HttpRoute, name: str | None, request: MeshRequest
) -> Chosen | MeshOutcome:
    if route.abort is not None:
        return local(route.abort, FAULT_ABORT, "fault_filter_abort", flags=("FI",), route=name)
    if route.redirect is not None:
        return local(route.redirect, "", "direct_response", route=name)
    if route.direct is not None:
        return local(route.direct[0], route.direct[1], "direct_response", route=name)
    targets = [d for d in route.destinations if d.weight > 0] or list(route.destinations)
    if not targets:
        return local(404, "", "route_not_found", flags=("NR",))
    if len(targets) > 1:
        ctx.lacks("which of the route's weighted destinations is drawn")
    target = max(targets, key=lambda d: d.weight)
    retries = Retries() if route.retries is None else route.retries
    timeout = route.timeout or None
    service, number = resolve(ctx.mesh, scope, target, request.dst_port)
    host = service.host if service else target.host
    label = cluster_name(host, number, target.subset)
    port = service.port(number) if service else None
    cluster = None
    if service is not None and port is not None:
        cluster = build_cluster(
            ctx.mesh, client, service, port, target.subset, (request.dst_ip, request.dst_port)
        )
    return Chosen(cluster, label, name, retries, timeout)


def forward(ctx: Context, client: Workload, chosen: Chosen, arrival: Arrival) -> MeshOutcome:
    """Send the request to the cluster, retry as the route says, and answer the application."""
    cluster, route = chosen.cluster, chosen.route
    if cluster is None:
        ctx.say(chosen.cluster_name, "the route names a cluster that the proxy does not have", False)
        return local(503, "", "cluster_not_found", flags=("NC",), route=route)
    ctx.say(
        cluster.decided_by or cluster.name,
        f"cluster {cluster.name} ({cluster.kind}), {len(cluster.hosts)} hosts",
        function="buildUpstreamTLSSettings",
        sources=cluster.sources,
        cluster=cluster.name,
        tls=cluster.hosts[0].tls if cluster.hosts else "",
    )
    if not cluster.hosts:
        ctx.say(cluster.name, "no healthy host", False)
        return local(
            503, NO_HEALTHY_UPSTREAM, "no_healthy_upstream", flags=("UH",), route=route, cluster=cluster.name
        )
    busy, stuck = _crowd(ctx, client, cluster)
    if overflows(cluster, busy):
        reply = reset_reply(ctx.version, "overflow")
        ctx.say(cluster.decided_by, "the connection pool's limits are reached", False, function="overflow")
        return local(
            reply.status, reply.body, reply.details, flags=("UO",), route=route, cluster=cluster.name
        )
    if stuck and cluster.pool.max_connections and busy >= cluster.pool.max_connections and not cluster.http2:
        ctx.say(
            cluster.decided_by,
            "the request waits for a connection",
            False,
            function="http1MaxPendingRequests",
        )
        return _reply(ctx, chosen, FarEnd(kind="silent"), "", 1, False)
    far, reason, attempts, exhausted = _attempts(ctx, cluster, chosen, arrival)
    return _reply(ctx, chosen, far, reason, attempts, exhausted)


def _crowd(ctx: Context, client: Workload, cluster: Cluster) -> tuple[int, bool]:
    """How many requests are in flight to the cluster, and do they never end?"""
    where = [f"sidecar {client.key}", client.key]
    for host in cluster.hosts:
        where.append(f"{host.address}:{host.port}")
        pod = ctx.mesh.pod_of(host.address, host.port)
        if pod is not None:
            where += [pod.key, f"sidecar {pod.key}"]
    fact = ctx.fact("requests_in_flight", *where)
    return (fact.count, ctx.fact("never_answers", *where) is not None) if fact else (0, False)


def overflows(cluster: Cluster, busy: int) -> bool:
    """Are the circuit breakers full? Requests in flight hold connections first, then pending slots."""
    pool = cluster.pool
    if pool.max_requests and busy >= pool.max_requests:
        return True
    if cluster.http2 or not pool.max_connections or pool.max_pending is None:
        return False
    return busy >= pool.max_connections + pool.max_pending


def _attempts(
    ctx: Context, cluster: Cluster, chosen: Chosen, arrival: Arrival
) -> tuple[FarEnd, str, int, bool]:
    """Try hosts as retries allow: the far end, the reset reason (empty for an answer), attempts, retries used up."""
    h2 = cluster.http2 or (cluster.auto_http2 and arrival.payload == "http/2")
    budget, on = 1 + chosen.retries.attempts, chosen.retries.on
    attempt = 0
    while True:
        host = cluster.hosts[attempt % len(cluster.hosts)]
        attempt += 1
        sent = msgspec.structs.replace(
            arrival,
            tls=host.tls,
            sans=cluster.sans,
            sni=cluster.sni,
            payload="http/2" if h2 else "http/1.1",
        )
        fork = ctx.fork()
        fork.say(cluster.name, f"attempt {attempt} to {host.address}:{host.port}: {host.why}", tls=host.tls)
        if not host.sure:
            fork.lacks(f"whether {host.address} has a sidecar ({host.why})")
        far = dial(fork, sent, host)
        reason = RESET_OF.get(far.kind, "")
        if reason:
            again = retries_reset(reason, on, far.kind in ("closed", "protocol-error", "greeting"))
        else:
            again = far.kind == "response" and retries_response(far.status or 200, on)
        if not again or attempt >= budget:
            ctx.join(fork)
            return far, reason, attempt, again
        if attempt == 1:
            ctx.say(f"route {chosen.route}", f"retries after {reason or far.status}", function="RetryState")


def _reply(
    ctx: Context, chosen: Chosen, far: FarEnd, reason: str, attempts: int, exhausted: bool
) -> MeshOutcome:
    name = chosen.cluster_name
    base = MeshOutcome(
        ending="response", server_log=far.log, mtls=far.mtls, server=far.server, attempts=attempts
    )
    if far.kind == "silent":
        if chosen.timeout is None:
            log = LogLine(frozenset(("DC",)), "downstream_remote_disconnect", name, chosen.route)
            return msgspec.structs.replace(
                base, ending="timeout", client_log=log, disposition=Disposition.DELIVERED, reason="no answer"
            )
        ctx.say(f"route {chosen.route}", f"timeout {chosen.timeout:g} s", False, function="response_timeout")
        log = LogLine(frozenset(("UT",)), "response_timeout", name, chosen.route)
        return msgspec.structs.replace(
            base,
            status=504,
            body=REQUEST_TIMEOUT,
            client_log=log,
            disposition=Disposition.ANSWERED,
            reason="UT",
        )
    if not reason:
        flags = frozenset(("URX",)) if exhausted and attempts > 1 else frozenset[str]()
        log = LogLine(flags, "via_upstream", name, chosen.route)
        return msgspec.structs.replace(
            base,
            status=far.status,
            body=far.body,
            client_log=log,
            disposition=Disposition.DELIVERED
            if far.reached_app and far.body is None
            else Disposition.ANSWERED,
            reason=(far.log.details or "") if far.log and far.body is not None else "",
        )
    cause = (
        far.cause if far.kind == "tls-failed" else connect_cause(ctx.version) if far.kind == "refused" else ""
    )
    slow = far.after or (chosen.cluster.connect_timeout if far.kind == "dropped" and chosen.cluster else 0.0)
    if chosen.timeout is not None and slow:
        limit = slow * attempts
        if chosen.timeout < limit:
            log = LogLine(frozenset(("UT",)), "response_timeout", name, chosen.route)
            return msgspec.structs.replace(
                base,
                status=504,
                body=REQUEST_TIMEOUT,
                client_log=log,
                mtls=None,
                reason="UT",
                disposition=Disposition.ANSWERED,
            )
    reply = reset_reply(ctx.version, reason, cause, retried=attempts > 1)
    log = LogLine(reply.flags, reply.details, name, chosen.route)
    return msgspec.structs.replace(
        base,
        status=reply.status,
        body=reply.body,
        client_log=log,
        disposition=Disposition.ANSWERED,
        reason=next((f for f in reply.flags if f != "URX"), ""),
    )
