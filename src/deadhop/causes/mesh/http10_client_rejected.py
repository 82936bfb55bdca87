"""A client or reverse proxy speaks HTTP/1.0, which the mesh proxy rejects by itself.

What happens
------------
Envoy answers HTTP/1.0 with 426 Upgrade Required unless it is told to accept it. nginx speaks HTTP/1.0 upstream by
default up to 1.29.6, ApacheBench and old health checkers do always.

How to tell it from its neighbours
----------------------------------
The answer is Envoy's own: 426, a plain text body, detail low_version, no upstream request. A websocket server that
wants an upgrade answers 426 too, but names the protocol in an Upgrade header. With HTTP/1.1 the same call works.

Fix
---
Use HTTP/1.1 towards upstreams, or let the mesh accept HTTP/1.0 (PILOT_HTTP10).

References
----------
Envoy HTTP/1 codec, accept_http_10; nginx proxy_http_version; Istio PILOT_HTTP10.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import HttpExchange, LocalReply, NginxProxy
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "http10-client-rejected-by-proxy"


def check(view: View) -> Iterator[Hypothesis]:
    named = [e for e in view.of(HttpExchange) if e.status == 426 and e.header("upgrade")]
    rejected: list[Record] = [
        *(e for e in view.of(HttpExchange) if e.status == 426 and not e.header("upgrade")),
        *(r for r in view.of(LocalReply) if r.text == "Upgrade Required" and not named),
        *(a for a in view.of(EnvoyAccess) if a.status == 426 or "low_version" in a.details),
        *(m for m in said(view.of(Message), "local-reply") if "low_version" in m.field("details")),
        *(
            m
            for m in said(view.of(Message), "access", "app-http-status")
            if "426" in (m.field("status"), m.field("upstream_status"))
        ),
    ]
    if not rejected and not named:
        return
    old: list[Record] = [
        *(a for a in view.of(EnvoyAccess) if a.protocol == "HTTP/1.0"),
        *(
            p
            for p in view.of(NginxProxy)
            if p.setting("pass") == "proxy_pass" and p.setting("proxy_http_version") != "1.1"
        ),
    ]
    yield Hypothesis(
        subject="the caller's HTTP version",
        title="The mesh proxy rejects HTTP/1.0 with 426: the caller, likely a reverse proxy, must speak HTTP/1.1.",
        checks=(
            judged("a proxy answers 426 without naming a protocol to upgrade to", bool(rejected), rejected or named, weight=2.5, required=True),
            shown("the request came with HTTP/1.0, or the reverse proxy is left at its HTTP/1.0 default", old, weight=0.9, decide="nginx -T | grep -n proxy_http_version"),
        ),
        explains=("the application never sees the request; a call by hand with curl works, as it speaks HTTP/1.1",),
        fixes=(
            Fix(title="Speak HTTP/1.1 towards the upstream", artifact="# nginx, in each proxied location\nproxy_http_version 1.1;\nproxy_set_header Connection \"\";\n"),
            Fix(title="Let the sidecars accept HTTP/1.0", artifact="kubectl -n istio-system set env deployment/istiod PILOT_HTTP10=1\n", note="Concerns the whole mesh."),
        ),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="A client or reverse proxy speaks HTTP/1.0 upstream, which the mesh proxy rejects.",
    inputs=(
        HttpExchange,
        LocalReply,
        EnvoyAccess,
        Message,
        NginxProxy,
    ),
    rivals=(
        "host-header-forwarded-breaks-mesh-routing",
        "upgrade-type-not-allowed",
        "port-name-protocol-misdeclared",
    ),
    check=check,
)
