"""A reverse proxy resolved the upstream name once and keeps sending to the old address.

What happens
------------
nginx resolves a literal name in proxy_pass or in an upstream block when it loads its configuration, and never again.
When pods behind a headless Service, or a recreated Service, get other addresses, the proxy keeps the old ones until
it is reloaded.

How to tell it from its neighbours
----------------------------------
Errors name an upstream address that is no longer an endpoint; a reload or restart cures it; the name is literal or
bound to an upstream block. A Service without endpoints fails after a reload too.

Fix
---
Let the proxy resolve at run time (a variable and a resolver), or point it at a stable Service address.

References
----------
nginx proxy_pass (variables), resolver, upstream server resolve (1.27.3 and later).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.evidence.fields import host_port, is_ip
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import ErrorPage, HttpExchange, NginxProxy
from deadhop.model.observed.kube import Endpoints, Pod
from deadhop.model.observed.message import Message
from deadhop.model.observed.shell import CommandRun
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "proxy-caches-stale-upstream-address"


def check(view: View) -> Iterator[Hypothesis]:
    bound = [
        p
        for p in view.of(NginxProxy)
        if (p.upstream and not any("resolve" in s.split() for s in p.upstream))
        or (p.proxy_pass and "$" not in p.proxy_pass)
    ]
    bound = [
        p
        for p in bound
        if p.target
        and not is_ip(host_port(p.target)[0])
        and not p.target.startswith(("unix:", "127.", "localhost"))
    ]
    dynamic = [p for p in view.of(NginxProxy) if p.proxy_pass and "$" in p.proxy_pass and not p.upstream]
    failed: list[Record] = [
        *said(view.of(Message), "upstream-connect-failed", "no-live-upstreams"),
        *(m for m in said(view.of(Message), "upstream-timeout") if m.field("what") == "connecting to"),
    ]
    failed += [c for c in view.of(CommandRun) if re.search(r"\(50[24]\b", c.line)]
    failed += [e for e in view.of(HttpExchange) if e.status in (502, 504)]
    failed += [p for p in view.of(ErrorPage) if p.status in (502, 504)]
    failed += [m for m in said(view.of(Message), "access") if m.field("status") in ("502", "504")]
    live = {host_port(a)[0] for e in view.of(Endpoints) for a in e.ready} | {
        p.ip for p in view.of(Pod) if p.ip
    }
    live_at: list[Record] = [*(e for e in view.of(Endpoints) if e.ready), *(p for p in view.of(Pod) if p.ip)]
    dialled = {
        host_port(m.field("upstream").partition("://")[2].partition("/")[0])[0]: m
        for m in view.of(Message)
        if m.emitter == "nginx" and m.field("upstream") and m.kind != "access"
    }
    gone = [m for ip, m in dialled.items() if is_ip(ip) and live and ip not in live]
    still = [m for ip, m in dialled.items() if ip in live]
    renewed = [
        c for c in view.of(CommandRun) if re.search(r"nginx -s reload|rollout restart|delete pod", c.line)
    ]
    pooled = [p for p in bound if p.upstream and p.variables]
    if not gone and not (bound and failed):
        return
    yield Hypothesis(
        subject=bound[0].target if bound else "the proxy's upstream address",
        title="The proxy resolved its upstream's name once and sends to an address that is no longer right.",
        checks=(
            shown("the proxy cannot reach the address that it holds", gone or failed, weight=0.7 if not gone else 1.2, required=True, decide="nginx error log: the upstream address; kubectl get endpointslices -o wide"),
            judged("that address is no endpoint any more", True if gone else (False if still else None), [*live_at[:4]] if gone else still, weight=1.5, required=bool(still) and not gone, decide="kubectl get endpointslices -A -o wide | grep ADDRESS"),
            shown("the name is literal or bound to an upstream block, so it is resolved at load only", bound, weight=0.7, decide="nginx -T | grep -nE 'proxy_pass|upstream|resolver'"),
            shown("a resolver is configured, and the upstream block of that name keeps it from being used", pooled, weight=0.4),
            shown("a reload or restart follows", renewed, weight=0.4),
            judged("the name is not resolved at run time", False if dynamic and not bound else None, dynamic, weight=1.0),
        ),
        explains=("a reload or restart of the proxy cures it",),
        fixes=(Fix(title="Resolve at run time", artifact="resolver kube-dns.kube-system.svc.cluster.local valid=10s;\nset $backend SERVICE.NAMESPACE.svc.cluster.local;\nproxy_pass http://$backend:PORT;   # no upstream block of that name\n"),),
        prior=-1.3,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="ingress",
    title="A reverse proxy resolved the upstream name once and keeps sending to the old address.",
    inputs=(
        NginxProxy,
        Message,
        CommandRun,
        HttpExchange,
        ErrorPage,
        Endpoints,
        Pod,
    ),
    needs=(
        NginxProxy,
        Message,
    ),
    rivals=(
        "service-selector-matches-no-pods",
        "app-not-listening",
        "keepalive-idle-timeout-race",
    ),
    check=check,
)
