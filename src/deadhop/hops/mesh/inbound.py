"""The server's sidecar: the inbound filter chain for what arrives, authorization, and the way to the application.

Reference: istio ``pilot/pkg/networking/core/route.go`` (inbound retries) and ``pilot/pkg/security/authz``.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from deadhop.hops.mesh.ambient import in_ambient, through_ztunnel
from deadhop.hops.mesh.authz import Caller, Decision
from deadhop.hops.mesh.context import Context
from deadhop.hops.mesh.farend import Arrival, FarEnd, application, over, places, reach
from deadhop.hops.mesh.front import Front, front_of_objects
from deadhop.hops.mesh.jwt import BAD_FORM
from deadhop.hops.mesh.proxy.inbound import front_of_proxy
from deadhop.hops.mesh.proxy.rbac import judge
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
INVALID_FIELD = LogLine(frozenset(("DPE",)), "http2.invalid.header.field")
#: ``delayed_close_timeout`` of the connection manager, which istiod leaves at Envoy's default.
DELAYED_CLOSE = 1.0
UNREACHED = LogLine(frozenset(("UF", "URX")))


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
        proxy = ctx.proxies.get(pod.key)
        if proxy is not None and proxy.router and ctx.enter is not None:
            far = ctx.enter(ctx, proxy, arrival, pod, ip, port)
            if far is not None:
                return far
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
    front = front_of(ctx, arrival, pod, ip, port)
    if arrival.tls == "none" and arrival.payload == "partial-tls" and front.inspects:
        ctx.say(f"sidecar {pod.key}", "the TLS inspector waits for the rest of the hello", False)
        return FarEnd(kind="silent", mtls=False, server=pod.key)
    chain = front.chain
    name = f"sidecar {pod.key} virtualInbound"
    if chain == "none":
        what = "plain text" if arrival.tls == "none" and arrival.payload != "tls" else "this TLS"
        ctx.say(
            name,
            f"no filter chain takes {what} in {front.mode}",
            False,
            function="filter_chain_not_found",
            sources=front.sources,
        )
        if arrival.tls != "none":
            cause = tls_cause(ctx.version, PEER_RESET)
            return FarEnd(kind="tls-failed", cause=cause, log=NO_CHAIN, server=pod.key)
        return FarEnd(kind="closed", cut=True, log=NO_CHAIN, mtls=False, server=pod.key)
    if chain == "rejects":
        ctx.say(
            name,
            "the sender presents no client certificate",
            False,
            function="SSL handshake",
            sources=front.sources,
        )
        kind = "tcp" if front.tcp else "http"
        return FarEnd(kind="closed", mtls=False, server=pod.key, log=_unfinished(ctx, kind, pod, ip, port))
    if arrival.tls == "istio" and front.ends_tls:
        failed = _handshake(ctx, arrival, pod)
        if failed is not None:
            return msgspec.structs.replace(failed, log=_unfinished(ctx, chain, pod, ip, port))
    elif not front.ends_tls and (arrival.tls != "none" or arrival.payload in ("tls", "partial-tls")):
        return _tls_meets_plain_chain(ctx, arrival, pod, ip, port, front)
    ctx.say(name, f"filter chain: {chain}", function="getFilterChainMatchOptions", sources=front.sources)
    if chain == "http":
        return _http(ctx, arrival, pod, ip, port, front)
    return _tcp(ctx, arrival, pod, ip, port, front)


def front_of(ctx: Context, arrival: Arrival, pod: Workload, ip: str, port: int) -> Front:
    """The inbound chain: what the proxy runs where its configuration is known, else what the objects imply."""
    proxy = ctx.proxies.get(pod.key)
    real = front_of_proxy(ctx, proxy, arrival, ip, port) if proxy is not None else None
    return real or front_of_objects(ctx, arrival, pod, port)


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
    ctx: Context, arrival: Arrival, pod: Workload, ip: str, port: int, front: Front
) -> FarEnd:
    """TLS bytes on a chain that does not terminate them."""
    if (chain := front.chain) == "tcp":
        if _authorize(ctx, arrival, pod, port, False, front).allowed is False:
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
        f"{front.mode}: the HTTP codec meets TLS bytes",
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


def _caller(ctx: Context, arrival: Arrival, port: int, http: bool, front: Front) -> Caller:
    """What the sidecar knows of the caller: its name only where the chain itself ends the mesh's TLS."""
    principal = ""
    if over(arrival) and front.ends_tls and arrival.source is not None:
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


def _authorize(
    ctx: Context, arrival: Arrival, pod: Workload, port: int, http: bool, front: Front
) -> Decision:
    caller = _caller(ctx, arrival, port, http, front)
    if front.rules is not None:
        decision = judge(front.rules, caller)
    else:
        decision = ctx.mesh.authz.decide(pod.namespace, pod.labels, caller)
    if decision.decided_by is not None:
        ctx.say(
            decision.decided_by,
            decision.text,
            decision.allowed,
            function="envoy.filters.http.rbac",
            sources=front.sources,
        )
    if decision.allowed is None:
        ctx.lacks(f"what {decision.decided_by} decides: {decision.text}")
    return decision


def _http(ctx: Context, arrival: Arrival, pod: Workload, ip: str, port: int, front: Front) -> FarEnd:
    """The inbound HTTP connection manager."""
    mtls = over(arrival)

    def answer(status: int, body: str, details: str, flags: frozenset[str] = frozenset()) -> FarEnd:
        log = LogLine(flags, details)
        return FarEnd(kind="response", status=status, body=body, log=log, mtls=mtls, server=pod.key)

    if arrival.payload in ("tls", "partial-tls"):
        ctx.say(f"sidecar {pod.key}", "the HTTP codec meets TLS bytes inside the mesh's TLS", False)
        return answer(400, "", "http1.codec_error", frozenset(("DPE",)))
    if arrival.payload == "http/1.0" and not front.http10:
        ctx.say(f"sidecar {pod.key}", "refuses HTTP/1.0", False, function="low_version")
        return answer(426, UPGRADE_REQUIRED, "low_version", frozenset(("DPE",)))
    if arrival.host is None and arrival.payload != "http/1.0":
        ctx.say(f"sidecar {pod.key}", "refuses a request without Host", False, function="missing_host_header")
        return answer(400, "", "missing_host_header")
    if arrival.host == "" and arrival.payload == "http/2":
        ctx.say(
            f"sidecar {pod.key}",
            f"refuses an empty :authority and closes after {DELAYED_CLOSE:g} s",
            False,
            function="http2.invalid.header.field",
        )
        return FarEnd(kind="closed", after=DELAYED_CLOSE, log=INVALID_FIELD, mtls=mtls, server=pod.key)
    token = ctx.mesh.tokens.judge(pod.namespace, pod.labels, arrival.headers)
    if token is not None:
        policy, broken = token
        ctx.say(policy, "finds a token" + (" that is none" if broken else ""), False if broken else None)
        if broken:
            return answer(401, BAD_FORM, f"jwt_authn_access_denied{{{BAD_FORM.replace(' ', '_')}}}")
        ctx.lacks(f"whether {policy} accepts the token")
    decision = _authorize(ctx, arrival, pod, port, True, front)
    if decision.allowed is False:
        return answer(403, RBAC_DENIED, decision.details)
    h2 = front.http2 or (front.follows and arrival.payload == "http/2")
    inner = msgspec.structs.replace(arrival, tls="none", payload="http/2" if h2 else "http/1.1")
    far = application(ctx, inner, pod, ip, port)
    return _answered(ctx, far, arrival, pod, front.retries)


def _answered(ctx: Context, far: FarEnd, arrival: Arrival, pod: Workload, retries: bool) -> FarEnd:
    """What the inbound router makes of the application's behaviour."""
    mtls = over(arrival)
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


def _tcp(ctx: Context, arrival: Arrival, pod: Workload, ip: str, port: int, front: Front) -> FarEnd:
    """The inbound TCP proxy."""
    decision = _authorize(ctx, arrival, pod, port, False, front)
    if decision.allowed is False and not ctx.fact("server_first_binary", *places(ip, port, pod)):
        # The filter judges the caller's first bytes; what a server says before them has passed already.
        log = _unfinished(ctx, "tcp", pod, ip, port)
        # A refusal by the application comes before the caller's first bytes are judged, or read.
        cut = log is UNREACHED and arrival.tls == "none"
        return FarEnd(kind="closed", cut=cut, log=log, mtls=over(arrival), server=pod.key)
    inner = msgspec.structs.replace(arrival, tls="none")
    far = application(ctx, inner, pod, ip, port)
    if far.kind in ("refused", "dropped"):
        # In plain text the sidecar closes with the request unread, which the kernel turns into a reset.
        cut = arrival.tls == "none"
        return FarEnd(kind="closed", cut=cut, log=UNREACHED, mtls=over(arrival), server=pod.key)
    return msgspec.structs.replace(far, log=ADMITTED, mtls=over(arrival))
