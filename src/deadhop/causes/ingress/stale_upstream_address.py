"""A reverse proxy resolved the upstream name once and keeps sending to the old address.

What happens
------------
nginx resolves a literal name in proxy_pass or in an upstream block when it loads its configuration, and never again;
HAProxy does the same with a server that has no resolvers section. When pods behind a headless Service, or a recreated Service, get other addresses, the proxy keeps the old ones until
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
nginx proxy_pass (variables), resolver, upstream server resolve (1.27.3 and later); HAProxy configuration manual 5.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.evidence.fields import host_port, is_ip
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import DnsLookup
from deadhop.model.observed.http import ErrorPage, HttpExchange, NginxProxy, ProxyServer
from deadhop.model.observed.kube import Endpoints, Pod, Service
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
    servers = [s for s in view.of(ProxyServer) if s.target and not is_ip(host_port(s.target)[0])]
    once = [s for s in servers if not s.resolvers]
    failed: list[Record] = [
        *said(view.of(Message), "upstream-connect-failed", "no-live-upstreams"),
        *(m for m in said(view.of(Message), "upstream-timeout") if m.field("what") == "connecting to"),
    ]
    failed += [c for c in view.of(CommandRun) if re.search(r"\(50[24]\b", c.line)]
    failed += [e for e in view.of(HttpExchange) if e.status in (502, 504)]
    failed += [p for p in view.of(ErrorPage) if p.status in (502, 504)]
    failed += [m for m in said(view.of(Message), "access") if m.field("status") in ("502", "504")]
    failed += [
        m
        for m in said(view.of(Message), "haproxy-log")
        if m.field("status") == "503" and m.field("state").startswith("SC")
    ]
    held = {s.address: s for s in view.of(ProxyServer) if s.address}
    failed += [s for s in held.values() if s.state == "down"]
    answers = _answers(
        view.of(DnsLookup),
        {host_port(t)[0] for t in (*(p.target for p in bound), *(s.target for s in servers))},
    )
    live = {host_port(a)[0] for e in view.of(Endpoints) for a in e.ready} | {
        p.ip for p in view.of(Pod) if p.ip
    }
    live |= answers.keys()
    services = {s.cluster_ip for s in view.of(Service)}
    live_at: list[Record] = [
        *answers.values(),
        *(e for e in view.of(Endpoints) if e.ready),
        *(p for p in view.of(Pod) if p.ip),
    ]
    dialled: dict[str, Record] = {
        host_port(m.field("upstream").partition("://")[2].partition("/")[0])[0]: m
        for m in view.of(Message)
        if m.emitter == "nginx" and m.field("upstream") and m.kind != "access"
    }
    dialled |= {ip: s for ip, s in held.items() if not _again(s, servers)}
    gone = [m for ip, m in dialled.items() if is_ip(ip) and live and ip not in live | services]
    still = [m for ip, m in dialled.items() if ip in live]
    renewed = [
        c for c in view.of(CommandRun) if re.search(r"nginx -s reload|rollout restart|delete pod", c.line)
    ]
    renamed = said(view.of(Message), "upstream-address-changed")
    pooled = [p for p in bound if p.upstream and p.variables]
    if not gone and not (bound and failed):
        return
    literal: list[Record] = [*bound, *once]
    yield Hypothesis(
        subject=(bound or once)[0].target if bound or once else "the proxy's upstream address",
        title="The proxy resolved its upstream's name once and sends to an address that is no longer right.",
        checks=(
            shown("the proxy cannot reach the address that it holds", gone or failed, weight=0.7 if not gone else 1.2, required=True, decide="nginx error log: the upstream address, or HAProxy's show servers state; kubectl get endpointslices -o wide"),
            judged("that address is no endpoint any more", True if gone else (False if still else None), [*live_at[:4]] if gone else still, weight=1.5, required=bool(still) and not gone, decide="kubectl get endpointslices -A -o wide | grep ADDRESS"),
            shown("the name is literal or bound to an upstream block, so it is resolved at load only", literal, weight=0.7, decide="nginx -T | grep -nE 'proxy_pass|upstream|resolver'"),
            shown("a resolver is configured, and the upstream block of that name keeps it from being used", pooled, weight=0.4),
            shown("a reload or restart follows", renewed, weight=0.4),
            judged("the name is not resolved at run time", False if renamed or (dynamic and not literal) else None, renamed or dynamic, weight=1.0, required=bool(renamed)),
        ),
        explains=("a reload or restart of the proxy cures it",),
        fixes=(Fix(title="Resolve at run time", artifact="resolver kube-dns.kube-system.svc.cluster.local valid=10s;\nset $backend SERVICE.NAMESPACE.svc.cluster.local;\nproxy_pass http://$backend:PORT;   # no upstream block of that name\n# HAProxy\nresolvers cluster\n    parse-resolv-conf\n    hold valid 10s\nbackend NAME\n    server s1 SERVICE.NAMESPACE.svc.cluster.local:PORT check resolvers cluster init-addr libc,none\n"),),
        prior=-1.3,
    )  # fmt: skip


def _answers(lookups: list[DnsLookup], names: set[str]) -> dict[str, Record]:
    """The addresses that the upstreams' names have now, as somebody looked them up."""
    return {
        a.data: one
        for one in lookups
        if one.qname.rstrip(".").lower() in {n.rstrip(".").lower() for n in names}
        for a in one.answers
        if is_ip(a.data)
    }


def _again(held: ProxyServer, servers: list[ProxyServer]) -> bool:
    """Whether the proxy asks for this server's name again while it runs."""
    return any(s.resolvers for s in servers if s.name == held.name and s.backend in ("", held.backend))


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
        ProxyServer,
        DnsLookup,
        Service,
    ),
    needs=(
        NginxProxy,
        ProxyServer,
        Message,
    ),
    rivals=(
        "service-selector-matches-no-pods",
        "app-not-listening",
        "keepalive-idle-timeout-race",
    ),
    check=check,
)
