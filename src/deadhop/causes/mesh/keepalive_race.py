"""The server closes idle pooled connections sooner than the proxy expects.

What happens
------------
The proxy keeps connections to the server open for reuse. The server closes one after its own, shorter idle timeout,
while the proxy sends a request on it: the request is reset (503, UC). POSTs and other unsafe methods are not retried.

How to tell it from its neighbours
----------------------------------
A small steady share of 503 with UC, often the first request after an idle time, on the server's own cluster and a
live address. Plain text to strict mutual TLS fails always and through the pass-through or with NR at the server; an
overflow or a refused connect has its own flag.

Fix
---
Make the server's idle timeout longer than the proxy's, and retry on reset.

References
----------
Envoy response flag UC; Istio DestinationRule connectionPool.http.idleTimeout; Node http.Server.keepAliveTimeout (5
s).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.evidence.fields import host_port
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import LocalReply, NginxProxy
from deadhop.model.observed.kube import DestinationRule, mapping
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.record import Record
from deadhop.snapshot.captures import cut_when_idle
from deadhop.snapshot.said import said

SLUG = "keepalive-idle-timeout-race"

LOCAL = ("127.0.0.1", "127.0.0.6", "::1", "::6")


def check(view: View) -> Iterator[Hypothesis]:
    lines = view.of(EnvoyAccess)
    closed = [
        a
        for a in lines
        if "UC" in a.flags
        and a.status == 503
        and a.cluster not in ("PassthroughCluster", "BlackHoleCluster")
        and a.upstream_host
    ]
    inner = [a for a in closed if a.inbound or host_port(a.upstream_host)[0] in LOCAL]
    served = [
        a
        for a in lines
        if a.status and a.status < 500 and any(a.upstream_host == c.upstream_host for c in closed)
    ]
    idled = [pair for c in closed if (pair := _idled(c, lines))]
    cut = [
        c
        for c in cut_when_idle(view.of(CapturedPacket))
        if not closed or any(host_port(a.upstream_host)[0] in (c[1].src, *LOCAL) for a in closed)
    ]
    early = said(view.of(Message), "upstream-closed-early")
    early += [
        m for m in said(view.of(Message), "upstream-reset") if m.field("what") != "connecting to upstream"
    ]
    idle = said(view.of(Message), "idle-connection-closed")
    pooled = [
        p
        for p in view.of(NginxProxy)
        if p.setting("keepalive") or (p.upstream and p.setting("proxy_http_version") == "1.1")
    ]
    limits: list[Record] = [
        o for o in view.of(CiliumOption) if re.search(r"keep-?_?alive.?timeout|idle.?timeout", o.key, re.I)
    ]
    limits += [
        r
        for r in view.of(DestinationRule)
        if mapping(r.spec, "trafficPolicy", "connectionPool", "http").get("idleTimeout")
    ]
    against: list[Record] = [
        a for a in lines if "filter_chain_not_found" in a.details or a.flags & {"UO", "UF", "UH", "NR"}
    ]
    against += [
        r for r in view.of(LocalReply) if r.reset_reason and r.reset_reason != "connection termination"
    ]
    cited: list[Record] = [*closed, *early, *idle, *(c[3] for c in cut)]
    if not cited or (not closed and not idle and not cut and not (early and (pooled or limits))):
        return
    yield Hypothesis(
        subject=closed[0].upstream_host if closed else f"{cut[0][1].src}:{cut[0][1].sport}" if cut else "the pooled connections to the server",
        title="The server closes idle connections sooner than the proxy expects: a request sent at that moment is reset.",
        checks=(
            shown("an established connection to the server was closed before the answer", cited, weight=1.25, required=True, decide="kubectl logs POD -c istio-proxy | grep ' 503 UC '"),
            shown("the connection had served a request and then lain idle for seconds", [*(r for pair in idled for r in pair), *(p for c in cut[:2] for p in c)], weight=1.7 if cut else 1.3, decide="kubectl logs POD -c istio-proxy   # the same %UPSTREAM_LOCAL_ADDRESS% before, and how long before"),
            shown("the connection that closes is the one to the application itself", inner, weight=0.5),
            shown("the same server answers other requests", served, weight=0.7),
            shown("connections are kept for reuse, with limits of their own", [*pooled, *limits], weight=0.6, decide="# compare the server's keep-alive timeout with the proxy's idle timeout"),
            judged("nothing else ends the connections", False if against else None, against, weight=1.6, required=bool(against)),
        ),
        explains=("a small steady share of requests fails, often the first after an idle time",),
        fixes=(
            Fix(title="Close idle connections on the proxy's side first", artifact="apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: NAME, namespace: NAMESPACE}\nspec:\n  host: HOST\n  trafficPolicy:\n    connectionPool:\n      http: {idleTimeout: 4s}   # below the server's keep-alive timeout\n"),
            Fix(title="Raise the server's keep-alive timeout", artifact="# node: server.keepAliveTimeout = 65000; server.headersTimeout = 66000\n# gunicorn: --keep-alive 65; uvicorn: --timeout-keep-alive 65; tomcat: keepAliveTimeout=\"65000\"\n"),
        ),
        prior=-1.3,
    )  # fmt: skip


def _idled(closed: EnvoyAccess, lines: list[EnvoyAccess]) -> tuple[EnvoyAccess, EnvoyAccess] | None:
    """The last request that the same upstream connection served, a second or more before it was found closed."""
    if closed.time is None or not closed.upstream_local:
        return None
    before = [
        a
        for a in lines
        if (a.upstream_local, a.upstream_host) == (closed.upstream_local, closed.upstream_host)
        and a.time is not None
        and a.time < closed.time
        and a.status
        and a.status < 500
    ]
    last = max(before, key=lambda a: a.time or 0.0, default=None)
    if last is None or last.time is None or closed.time - last.time - (last.duration_ms or 0) / 1000 < 1:
        return None
    return last, closed


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="The server closes idle pooled connections sooner than the proxy expects, and a request sent then is reset.",
    inputs=(
        EnvoyAccess,
        Message,
        NginxProxy,
        CiliumOption,
        DestinationRule,
        LocalReply,
        CapturedPacket,
    ),
    needs=(
        EnvoyAccess,
        Message,
        CapturedPacket,
    ),
    rivals=(
        "plaintext-to-strict-mtls",
        "circuit-breaker-overflow",
        "duplicate-transfer-encoding-header",
        "app-not-listening",
    ),
    check=check,
)
