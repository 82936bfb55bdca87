"""The server's sidecar: the inbound filter chain for what arrives, authorization, and the way to the application.

Reference: istio ``pilot/pkg/networking/core/listener_inbound.go`` (``getFilterChainMatchOptions``,
``buildInboundListeners``), ``route.go`` (inbound retries) and ``pilot/pkg/security/authz``.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from deadhop.hops.mesh.ambient import in_ambient, through_ztunnel
from deadhop.hops.mesh.authz import Caller, Decision
from deadhop.hops.mesh.context import Context
from deadhop.hops.mesh.farend import Arrival, FarEnd, application, over, places, reach
from deadhop.hops.mesh.jwt import BAD_FORM
from deadhop.hops.mesh.mesh import Mesh, target_port
from deadhop.hops.mesh.mtls_server import Mode
from deadhop.hops.mesh.protocol import AUTO, Family, Protocol
from deadhop.hops.mesh.replies import (
    PEER_RESET,
    VERIFY_FAILED,
    VERIFY_ROOT,
    WRONG_VERSION,
    connect_cause,
    reset_reply,
    tls_cause,
    verify_san,
)
from deadhop.hops.mesh.workload import Workload, captures_inbound
from deadhop.model.envoy_flags import RBAC_DENIED, UPGRADE_REQUIRED
from deadhop.model.mesh import LogLine

NO_CHAIN = LogLine(frozenset(("NR",)), "filter_chain_not_found")
ADMITTED = LogLine(frozenset())
GONE = ("DC", "downstream_remote_disconnect")
UNREACHED = LogLine(frozenset(("UF", "URX")))
Chain = Literal["http", "tcp", "none", "rejects"]


class InboundPort(msgspec.Struct, frozen=True):
    """What the sidecar takes a container port to be, and the object that says so."""

    protocol: Protocol
    decided_by: str
    declared: bool


def inbound_port(mesh: Mesh, pod: Workload, port: int) -> InboundPort:
    """The protocol of a container port: a Sidecar's ingress, else the oldest Service that targets it, else sniffed."""
    sidecar = mesh.sidecars.of(pod.namespace, pod.labels)
    if sidecar is not None and sidecar.ingress and sidecar.meta.namespace == pod.namespace:
        for listener in sidecar.ingress:
            if listener.port == port:
                return InboundPort(listener.protocol, str(sidecar.meta), True)
        if not mesh.config.merge_ingress_listeners:
            return InboundPort(AUTO, f"no ingress of {sidecar.meta}", False)
    for service in mesh.by_pod.get(pod.key, ()):
        for service_port in service.ports:
            if target_port(service_port, pod) == port and service_port.protocol.family is not Family.UDP:
                return InboundPort(service_port.protocol, f"{service.meta} port {service_port.number}", True)
    return InboundPort(AUTO, "no Service targets the port (InboundPassthroughCluster)", False)


def pick_chain(mode: Mode, family: Family, arrival: Arrival, http10: bool) -> Chain:
    """The inbound filter chain. ``rejects``: a chain terminates the TLS but the sender has no client certificate."""
    sniffed_http = arrival.payload in ("http/1.1", "http/2") or (arrival.payload == "http/1.0" and http10)
    if arrival.tls == "none" and arrival.payload not in ("tls", "partial-tls"):
        if mode is Mode.STRICT:
            return "none"
        if family is Family.AUTO:
            return "http" if sniffed_http else "tcp"
        return "http" if family is Family.HTTP else "tcp"
    foreign = arrival.tls != "istio"
    if mode is Mode.DISABLE:
        return "http" if family is Family.HTTP else "tcp"
    if foreign:
        if mode is Mode.STRICT:
            return "rejects"
        return "none" if family is Family.HTTP else "tcp"
    if family is Family.AUTO:
        return "http" if arrival.http else "tcp"
    return "http" if family is Family.HTTP else "tcp"


def arrive(ctx: Context, arrival: Arrival, ip: str, port: int) -> FarEnd:
    """A connection arrives at an address that is no Service address."""
    failed = reach(ctx, ip, port)
    if failed is not None:
        return failed
    pod = ctx.mesh.pod_of(ip, port)
    if pod is None:
        ctx.lacks(f"what listens at {ip}:{port}")
        ctx.say("network", f"{ip} is the address of no known pod", None)
    else:
        captured, why = captures_inbound(pod, port)
        if captured:
            return through_sidecar(ctx, arrival, pod, ip, port)
        if in_ambient(ctx.mesh, pod):
            return through_ztunnel(ctx, arrival, pod, ip, port)
        ctx.say(
            f"Pod {pod.key}", f"the application gets the bytes as they are: {why}", function="istio-iptables"
        )
    return application(ctx, arrival, pod, ip, port)


def through_sidecar(ctx: Context, arrival: Arrival, pod: Workload, ip: str, port: int) -> FarEnd:
    """A captured connection meets the pod's sidecar."""
    found = inbound_port(ctx.mesh, pod, port)
    server = ctx.mesh.peer.mode(pod.namespace, pod.labels, port)
    family = found.protocol.family
    ctx.say(
        server.decided_by or "PeerAuthentication default",
        f"mode {server.mode} on port {port} ({server.level} level)",
        function="ComposePeerAuthentication",
        mode=server.mode.value,
    )
    ctx.say(
        found.decided_by, f"inbound port {port} is {found.protocol.name}", function="buildInboundListeners"
    )
    # Only listeners with a chain that terminates TLS inspect for it.
    if arrival.tls == "none" and arrival.payload == "partial-tls" and server.mode is not Mode.DISABLE:
        ctx.say(f"sidecar {pod.key}", "the TLS inspector waits for the rest of the hello", False)
        return FarEnd(kind="silent", mtls=False, server=pod.key)
    chain = pick_chain(server.mode, family, arrival, pod.http10)
    name = f"sidecar {pod.key} virtualInbound"
    if chain == "none":
        what = "plain text" if arrival.tls == "none" and arrival.payload != "tls" else "this TLS"
        ctx.say(
            name,
            f"no filter chain takes {what} in mode {server.mode}",
            False,
            function="filter_chain_not_found",
        )
        if arrival.tls != "none":
            cause = tls_cause(ctx.version, PEER_RESET)
            return FarEnd(kind="tls-failed", cause=cause, log=NO_CHAIN, server=pod.key)
        return FarEnd(kind="closed", cut=True, log=NO_CHAIN, mtls=False, server=pod.key)
    if chain == "rejects":
        ctx.say(name, "the sender presents no client certificate", False, function="SSL handshake")
        return FarEnd(
            kind="closed", mtls=False, server=pod.key, log=_unfinished(ctx, family.value, pod, ip, port)
        )
    if arrival.tls == "istio" and server.mode is not Mode.DISABLE:
        failed = _handshake(ctx, arrival, pod)
        if failed is not None:
            return msgspec.structs.replace(failed, log=_unfinished(ctx, chain, pod, ip, port))
    elif arrival.tls != "none" or arrival.payload in ("tls", "partial-tls"):
        return _tls_meets_plain_chain(ctx, arrival, pod, ip, port, chain, server.mode)
    ctx.say(name, f"filter chain: {chain}", function="getFilterChainMatchOptions")
    if chain == "http":
        return _http(ctx, arrival, pod, ip, port, found.protocol)
    return _tcp(ctx, arrival, pod, ip, port)


def _unfinished(ctx: Context, chain: str, pod: Workload, ip: str, port: int) -> LogLine | None:
    """The line for a connection that never gets to send: none on an HTTP chain; a TCP proxy, which dials the
    application at once, logs the connection and whether that failed."""
    if chain == "http":
        return None
    return UNREACHED if ctx.fact("not_listening", *places(ip, port, pod)) else ADMITTED


def _handshake(ctx: Context, arrival: Arrival, pod: Workload) -> FarEnd | None:
    """Mesh mutual TLS between two sidecars: the client judges first, then the server."""
    name = f"mTLS handshake with {pod.key}"
    if ctx.fact("certificate_other_root", f"sidecar {pod.key}"):
        ctx.say(name, "the server's certificate is from another root", False)
        cause = tls_cause(ctx.version, VERIFY_FAILED, VERIFY_ROOT)
        return FarEnd(kind="tls-failed", cause=cause, server=pod.key)
    own = f"spiffe://{pod.spiffe(ctx.mesh.config.trust_domain)}"
    if arrival.sans and own not in arrival.sans:
        ctx.say(name, f"the server is {own}, the client accepts {', '.join(arrival.sans)}", False)
        return FarEnd(
            kind="tls-failed",
            cause=tls_cause(ctx.version, VERIFY_FAILED, verify_san(ctx.version, own)),
            server=pod.key,
        )
    if arrival.source and ctx.fact("certificate_other_root", f"sidecar {arrival.source.key}"):
        ctx.say(name, "the client's certificate is from another root, the server ends the connection", False)
        return FarEnd(kind="closed", server=pod.key)
    ctx.say(name, f"established, server {own}")
    return None


def _tls_meets_plain_chain(
    ctx: Context, arrival: Arrival, pod: Workload, ip: str, port: int, chain: Chain, mode: Mode
) -> FarEnd:
    """TLS bytes on a chain that does not terminate them."""
    if chain == "tcp":
        if _authorize(ctx, arrival, pod, port, False).allowed is False:
            ended: Literal["closed", "tls-failed"] = "closed" if arrival.tls == "none" else "tls-failed"
            return FarEnd(kind=ended, log=_unfinished(ctx, chain, pod, ip, port), server=pod.key)
        ctx.say(f"sidecar {pod.key}", "passes the TLS bytes on to the application")
        far = application(ctx, arrival, pod, ip, port)
        if far.kind == "refused":
            cause = tls_cause(ctx.version, PEER_RESET)
            kind: Literal["closed", "tls-failed"] = "closed" if arrival.tls == "none" else "tls-failed"
            return FarEnd(kind=kind, cut=True, cause=cause, log=UNREACHED, server=pod.key)
        return msgspec.structs.replace(far, log=ADMITTED)
    ctx.say(
        f"sidecar {pod.key}",
        f"mode {mode}: the HTTP codec meets TLS bytes",
        False,
        function="http1.codec_error",
    )
    log = LogLine(frozenset(("DPE",)), "http1.codec_error")
    if arrival.tls == "none" and arrival.payload == "partial-tls":
        # Nobody has begun a handshake yet that the 400 could spoil: the caller reads it.
        return FarEnd(kind="response", status=400, log=log, mtls=False, server=pod.key)
    cause = tls_cause(ctx.version, WRONG_VERSION)
    return FarEnd(
        kind="tls-failed", cause=cause, log=log, server=pod.key, mtls=False if arrival.tls == "none" else None
    )


def _caller(ctx: Context, arrival: Arrival, port: int, http: bool) -> Caller:
    principal = ""
    if over(arrival) and arrival.source is not None:
        principal = arrival.source.spiffe(ctx.mesh.config.trust_domain)
    return Caller(
        principal,
        arrival.source_ip,
        port,
        http,
        arrival.host or "",
        arrival.method,
        arrival.path,
        arrival.headers,
    )


def _authorize(ctx: Context, arrival: Arrival, pod: Workload, port: int, http: bool) -> Decision:
    decision = ctx.mesh.authz.decide(pod.namespace, pod.labels, _caller(ctx, arrival, port, http))
    if decision.decided_by is not None:
        ctx.say(decision.decided_by, decision.text, decision.allowed, function="envoy.filters.http.rbac")
    if decision.allowed is None:
        ctx.lacks(f"what {decision.decided_by} decides: {decision.text}")
    return decision


def _http(ctx: Context, arrival: Arrival, pod: Workload, ip: str, port: int, protocol: Protocol) -> FarEnd:
    """The inbound HTTP connection manager."""
    mtls = over(arrival)

    def answer(status: int, body: str, details: str, flags: frozenset[str] = frozenset()) -> FarEnd:
        log = LogLine(flags, details)
        return FarEnd(kind="response", status=status, body=body, log=log, mtls=mtls, server=pod.key)

    if arrival.payload in ("tls", "partial-tls"):
        ctx.say(f"sidecar {pod.key}", "the HTTP codec meets TLS bytes inside the mesh's TLS", False)
        return answer(400, "", "http1.codec_error", frozenset(("DPE",)))
    if arrival.payload == "http/1.0" and not pod.http10:
        ctx.say(f"sidecar {pod.key}", "refuses HTTP/1.0", False, function="low_version")
        return answer(426, UPGRADE_REQUIRED, "low_version", frozenset(("DPE",)))
    if arrival.host is None and arrival.payload != "http/1.0":
        ctx.say(f"sidecar {pod.key}", "refuses a request without Host", False, function="missing_host_header")
        return answer(400, "", "missing_host_header")
    token = ctx.mesh.tokens.judge(pod.namespace, pod.labels, arrival.headers)
    if token is not None:
        policy, broken = token
        ctx.say(policy, "finds a token" + (" that is none" if broken else ""), False if broken else None)
        if broken:
            return answer(401, BAD_FORM, f"jwt_authn_access_denied{{{BAD_FORM.replace(' ', '_')}}}")
        ctx.lacks(f"whether {policy} accepts the token")
    decision = _authorize(ctx, arrival, pod, port, True)
    if decision.allowed is False:
        return answer(403, RBAC_DENIED, decision.details)
    h2 = protocol.http2 or (protocol.family is Family.AUTO and arrival.payload == "http/2")
    inner = msgspec.structs.replace(arrival, tls="none", payload="http/2" if h2 else "http/1.1")
    far = application(ctx, inner, pod, ip, port)
    return _answered(ctx, far, arrival, pod, protocol)


def _answered(ctx: Context, far: FarEnd, arrival: Arrival, pod: Workload, protocol: Protocol) -> FarEnd:
    """What the inbound router makes of the application's behaviour."""
    mtls = over(arrival)
    retries = ctx.mesh.config.inbound_retries and protocol.name not in ("grpc", "grpc-web")
    match far.kind:
        case "response":
            return msgspec.structs.replace(far, log=LogLine(frozenset(), "via_upstream"), mtls=mtls)
        case "silent":
            # A caller that gives up closes an HTTP/1 connection, but only resets its stream in HTTP/2.
            gone, details = ("DR", "http2.remote_reset") if arrival.payload == "http/2" else GONE
            log = LogLine(frozenset((gone,)), details)
            return msgspec.structs.replace(far, log=log, mtls=mtls)
        case "refused":
            reply = reset_reply(ctx.version, "remote connection failure", connect_cause(ctx.version), retries)
        case "dropped":
            reply = reset_reply(ctx.version, "connection timeout", "", retries)
        case "closed":
            reply = reset_reply(ctx.version, "connection termination")
        case _:
            reply = reset_reply(ctx.version, "protocol error")
    return FarEnd(
        kind="response",
        status=reply.status,
        body=reply.body,
        log=LogLine(reply.flags, reply.details),
        mtls=mtls,
        server=pod.key,
        reached_app=far.reached_app,
    )


def _tcp(ctx: Context, arrival: Arrival, pod: Workload, ip: str, port: int) -> FarEnd:
    """The inbound TCP proxy."""
    decision = _authorize(ctx, arrival, pod, port, False)
    if decision.allowed is False and not ctx.fact("server_first_binary", *places(ip, port, pod)):
        # The filter judges the caller's first bytes; what a server says before them has passed already.
        log = _unfinished(ctx, "tcp", pod, ip, port)
        return FarEnd(kind="closed", log=log, mtls=over(arrival), server=pod.key)
    inner = msgspec.structs.replace(arrival, tls="none")
    far = application(ctx, inner, pod, ip, port)
    if far.kind in ("refused", "dropped"):
        # In plain text the sidecar closes with the request unread, which the kernel turns into a reset.
        cut = arrival.tls == "none"
        return FarEnd(kind="closed", cut=cut, log=UNREACHED, mtls=over(arrival), server=pod.key)
    return msgspec.structs.replace(far, log=ADMITTED, mtls=over(arrival))
