"""A proxy passes on the client's Host header, and the mesh routes by Host, so the request finds no route.

What happens
------------
An application or a reverse proxy dials an in-cluster Service but sends the Host that its own client had used. The
sidecar ignores the dialled address and looks Host up among the virtual hosts of that port. An outside name is not
there: the request falls to the pass-through route, which leaves as plain text for the address that was dialled. A
server with strict mutual TLS closes that connection (503, UC); with REGISTRY_ONLY the sidecar answers 502; a gateway
or a route without a catch-all answers 404 (NR).

How to tell it from its neighbours
----------------------------------
The authority in the log is not the Service that was dialled, and the cluster is PassthroughCluster or none. With the
right Host the same call works, which excludes a wrong port, a missing endpoint and a TLS setting of the Service. A
client without a sidecar would see a reset and no HTTP answer at all.

Fix
---
Send the upstream Service's own name as Host and the original in X-Forwarded-Host.

References
----------
Istio, Understanding Traffic Routing; Envoy route matching (domains); RFC 9110 §7.2, §7.6.1.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.evidence.fields import is_ip, masked
from deadhop.hops.mesh_world import MeshWorld, least_mesh, walk
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.finding import Check
from deadhop.model.observed.http import HttpExchange, HttpRequestDump, LocalReply, NginxProxy
from deadhop.model.observed.kube import (
    Ingress,
    KubeObject,
    Namespace,
    PeerAuthentication,
    Pod,
    Service,
    Workload,
)
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.observed.shell import CommandRun
from deadhop.model.record import Record
from deadhop.snapshot.forwarded_host import auth_proxies, keeps_host, passes_host
from deadhop.snapshot.names import same_service, service_name
from deadhop.snapshot.said import public

SLUG = "host-header-forwarded-breaks-mesh-routing"
PASSTHROUGH = frozenset({"PassthroughCluster"})
#: Envoy split this reason in 1.27 (envoy PR 26750); before, it stood for a failed connect or TLS handshake.
OLD_REASON = "connection failure"


def check(view: View) -> Iterator[Hypothesis]:
    for dump in view.of(HttpRequestDump):
        host = dump.host_header
        if (
            dump.dial_host
            and host
            and service_name(dump.dial_host)
            and not same_service(host, dump.dial_host)
        ):
            yield _from_dump(view, dump, host)
    foreign = [a for a in view.of(EnvoyAccess) if _foreign(a)]
    if foreign:
        yield _from_access(view, foreign)
    yield from _from_pair(view)
    forwarding = [
        *(p for p in view.of(NginxProxy) if passes_host(p)),
        *auth_proxies(
            [*view.of(Workload), *view.of(Pod), *view.of(KubeObject)],
            view.of(CiliumOption),
            view.of(CommandRun),
        ),
    ]
    ended = [r for r in view.of(LocalReply) if r.reset_reason == "connection termination"]
    unrouted = [a for a in view.of(EnvoyAccess) if "NR" in a.flags]
    if ended or unrouted:
        forwarding += [i for i in view.of(Ingress) if keeps_host(i)]
    if forwarding:
        yield _from_proxy(view, forwarding)


def _foreign(line: EnvoyAccess) -> bool:
    host = line.authority
    if not host or is_ip(host.rpartition(":")[0] or host) or is_ip(host):
        return False
    if masked(host) or host in (line.downstream_local, line.upstream_host):
        return False  # it may be an address, or is the one that was dialled
    if (line.sni and line.sni == host.rpartition(":")[0]) or line.sni == host or line.flags & {"UF"}:
        return False  # a gateway's own host without a route; an address that refuses or does not answer
    dialled = line.upstream_host or line.downstream_local
    lost = (line.cluster in PASSTHROUGH and not public(dialled)) or (
        "NR" in line.flags and "route_not_found" in line.details
    )
    return lost and line.status >= 400


def _from_proxy(view: View, forwarding: list[Record]) -> Hypothesis:
    first = forwarding[0]
    target = first.target if isinstance(first, NginxProxy) else "the in-cluster upstream"
    ended = [r for r in view.of(LocalReply) if r.reset_reason in ("connection termination", "")]
    refused = [a for a in view.of(EnvoyAccess) if "NR" in a.flags]
    failed = [e for e in view.of(HttpExchange) if e.status in (404, 503)]
    logged = [
        m for m in view.of(Message)
        if (m.emitter == "nginx" and m.kind == "access" and m.field("status") in ("404", "503") and m.field("upstream_status") not in ("200",))
        or (m.kind == "app-http-status" and m.field("status") in ("404", "503"))
    ]  # fmt: skip
    mesh = [k for k in (*view.of(Pod), *view.of(Workload), *view.of(Namespace)) if "istio" in str(k.raw)]
    signs: list[Record] = [*ended, *refused, *failed, *logged]
    old = [p for p in forwarding if isinstance(p, NginxProxy) and p.setting("proxy_http_version") != "1.1"]
    rejected = [r for r in view.of(LocalReply) if r.text == "Upgrade Required"]
    upgrade = [e for e in view.of(HttpExchange) if e.status == 426]
    stale = [m for m in view.of(Message) if m.emitter == "nginx" and m.kind in ("upstream-connect-failed", "upstream-timeout", "broken-proxy-header", "upstream-header-too-big")]  # fmt: skip
    bad: list[Record] = [e for e in view.of(HttpExchange) if e.status in (500, 502, 504)]
    bad += [c for c in view.of(CommandRun) if "(502" in c.line or "(504" in c.line]
    return Hypothesis(
        subject=f"the proxy in front of {target}",
        title=f"The proxy sends its client's Host to {target}: a mesh routes by Host and does not know that name.",
        checks=(
            shown("the proxy passes the client's Host on to an in-cluster Service", forwarding, weight=1.3, required=True),
            shown("the request finds no route, or is closed, behind a sidecar", signs, weight=1.0, decide="kubectl logs PROXY-POD -c istio-proxy --tail=50   # 404 NR, or 503 UC with PassthroughCluster"),
            shown("the proxy's pod is in the mesh", mesh, weight=0.4, decide="kubectl get pod PROXY-POD -o jsonpath='{.spec.containers[*].name}'"),
            judged("the proxy reaches somebody who answers 404 or 503", False if bad else None, bad, weight=0.8),
            judged("the failure is not about the HTTP version or the connection", False if rejected or upgrade or stale else None, [*rejected, *upgrade, *stale], weight=1.5, required=bool(rejected or upgrade or stale)),
        ),
        explains=("the calls worked without a sidecar, as nothing routed by Host",),
        notes=("the locations leave HTTP/1.0 as well, which a mesh rejects with 426",) if old else (),
        fixes=_fixes("SERVICE.NAMESPACE.svc.cluster.local"),
        prior=-1.1,
    )  # fmt: skip


def _symptoms(view: View) -> list[LocalReply | HttpExchange | EnvoyAccess]:
    replies = [r for r in view.of(LocalReply) if r.reset_reason]
    exchanges = [
        e
        for e in view.of(HttpExchange)
        if (e.status or 0) in (404, 502, 503) and "envoy" in e.header("server").lower()
    ]
    return [
        *replies,
        *exchanges,
        *(a for a in view.of(EnvoyAccess) if a.status in (0, 404, 502, 503) and a.flags),
    ]


def _from_dump(view: View, dump: HttpRequestDump, host: str) -> Hypothesis:
    named = service_name(dump.dial_host)
    assert named is not None
    symptoms = _symptoms(view)
    right = [e for e in view.of(HttpExchange) if e.host and same_service(e.host, dump.dial_host)]
    right_ok = [e for e in right if e.status and e.status < 400]
    right_bad = [e for e in right if e.status and e.status >= 400 and e.port == (dump.dial_port or e.port)]
    passed = [a for a in view.of(EnvoyAccess) if a.cluster in PASSTHROUGH]
    refused = [a for a in view.of(EnvoyAccess) if "filter_chain_not_found" in a.details]
    return Hypothesis(
        subject=f"the caller of {dump.dial_host}:{dump.dial_port or 80}",
        title=f"The request to {dump.dial_host} carries Host {host}: the mesh routes by Host and does not know that name.",
        checks=(
            Check(text=f"the outgoing request dials {dump.dial_host} and carries Host {host}", holds=True, weight=1.6, required=True, records=(dump,)),
            shown("a mesh proxy answers in the server's place", symptoms, weight=0.8, required=True, decide="kubectl logs CALLER-POD -c istio-proxy --tail=50"),
            shown("the proxy sent the request to the pass-through cluster", passed, weight=1.5, decide="kubectl logs CALLER-POD -c istio-proxy --tail=50   # flags, cluster, route"),
            shown("the server's sidecar found no filter chain: plain text reached strict mutual TLS", refused, weight=1.0, decide="kubectl logs SERVER-POD -c istio-proxy --tail=50   # 0 NR filter_chain_not_found"),
            shown("the same call with the right Host works", right_ok, weight=1.2, decide=f"curl -sv -o /dev/null http://{dump.dial_host}:{dump.dial_port or 80}/   # from the caller's pod, its Host is the Service's"),
            judged("the virtual hosts of that port do not list the Host", None, weight=1.0, decide=f"istioctl proxy-config routes CALLER-POD --name {dump.dial_port or 80} -o json   # look the Host up in domains"),
        ),
        explains=(f"the sidecar takes Host {host} to the pass-through route, as plain text", "the dialled address does not matter for HTTP"),
        contradictions=_contradictions(view, right_bad),
        world=_world(view, named.service, named.namespace, dump.dial_port or 80, host),
        walk=walk,
        fixes=_fixes(f"{named.service}.{named.namespace or 'NAMESPACE'}.svc.cluster.local"),
        prior=-1.2,
    )  # fmt: skip


def _contradictions(view: View, right_bad: list[HttpExchange]) -> tuple[str, ...]:
    lines: list[str] = []
    for reply in view.of(LocalReply):
        if reply.reset_reason == OLD_REASON:
            lines.append(
                f'{reply.source}: the bare text "reset reason: connection failure" is printed only by Envoy up to 1.26 and means a failed connect or TLS handshake there; '
                'plain text that reaches strict mutual TLS gives "connection termination" (UC). Flags, cluster and the server\'s log decide.'
            )
    for exchange in right_bad:
        lines.append(
            f"{exchange.source}: the run by hand carried the right Host ({exchange.host}) and failed too ({exchange.status}): that is another fault, "
            f"such as a port that the Service does not expose (service-port-mismatch; kubectl get svc decides)."
        )
    return tuple(lines)


def _from_access(view: View, lines: list[EnvoyAccess]) -> Hypothesis:
    first = lines[0]
    port = (
        int(first.downstream_local.rpartition(":")[2] or 80)
        if first.downstream_local.rpartition(":")[2].isdigit()
        else 80
    )
    refused = [a for a in view.of(EnvoyAccess) if "filter_chain_not_found" in a.details]
    known = [
        s
        for s in view.of(Service)
        if same_service(first.authority, f"{s.name}.{s.namespace or 'default'}.svc.cluster.local")
    ]
    upstream = first.upstream_host.rpartition(":")[0] or first.downstream_local.rpartition(":")[0]
    target = next((s for s in view.of(Service) if s.cluster_ip and s.cluster_ip == upstream), None)
    return Hypothesis(
        subject=f"Host {first.authority} towards {first.downstream_local or first.upstream_host}",
        title=f"Requests with Host {first.authority} find no route in the mesh and fall to {first.cluster or 'a 404'}.",
        checks=(
            Check(text=f"the proxy has no route for authority {first.authority} ({first.cluster or first.details})", holds=True, weight=2.0, required=True, records=tuple(lines)),
            judged(f"{first.authority} is no Service of the mesh", not known, known, weight=0.8, required=True),
            shown("the dialled address is a Service's", [target] if target else [], weight=0.8, decide="kubectl get svc -A -o wide | grep ADDRESS"),
            shown("the server's sidecar found no filter chain: plain text reached strict mutual TLS", refused, weight=0.6, decide="kubectl logs SERVER-POD -c istio-proxy --tail=50"),
        ),
        explains=("the sidecar looks up Host, not the dialled address",),
        world=_world(view, target.name if target else "upstream", target.namespace if target else "default", port, first.authority),
        walk=walk,
        fixes=_fixes(f"{target.name}.{target.namespace}.svc.cluster.local" if target else "SERVICE.NAMESPACE.svc.cluster.local"),
        prior=-1.4,
    )  # fmt: skip


def _from_pair(view: View) -> Iterator[Hypothesis]:
    """Two runs against one address that differ in Host alone: one has no route, the other is served through Envoy."""
    runs = [e for e in view.of(HttpExchange) if e.host and e.status]
    for bad in runs:
        if bad.status not in (404, 502, 503):
            continue
        good = [e for e in runs if e.url == bad.url and e.host != bad.host and (e.status or 500) < 400]
        mesh = [
            e
            for e in (*good, *([bad] if good else []))
            if "envoy" in e.header("server").lower() or e.header("x-envoy-upstream-service-time")
        ]
        mesh = good if mesh else []
        if mesh:
            yield Hypothesis(
                subject=f"Host {bad.host} at {bad.url}",
                title=f"Host {bad.host} finds no route in the mesh where {mesh[0].host} is served.",
                checks=(
                    Check(text=f"Host {bad.host} gets {bad.status}", holds=True, weight=1.4, required=True, records=(bad,)),
                    Check(text=f"the same address with Host {mesh[0].host} is served through Envoy", holds=True, weight=1.6, required=True, records=tuple(mesh)),
                ),
                explains=("only Host differs between the two runs",),
                fixes=_fixes(mesh[0].host),
                prior=-1.0,
            )  # fmt: skip


def _world(view: View, service: str, namespace: str, port: int, host: str) -> MeshWorld:
    policies = [p.raw for p in view.of(PeerAuthentication)]
    name = next(
        (p.name for s in view.of(Service) if s.name == service for p in s.ports if p.port == port and p.name),
        "http",
    )
    mesh, request = least_mesh(
        service, namespace or "default", port, name=name, strict=not policies, extra=policies
    )
    world = MeshWorld(mesh=mesh, request=request)
    return world.with_request(host=host)


def _fixes(authority: str) -> tuple[Fix, ...]:
    return (
        Fix(
            title="Send the upstream Service's name as Host, keep the original in X-Forwarded-Host",
            artifact=(
                f"# nginx\nproxy_set_header Host {authority};\nproxy_set_header X-Forwarded-Host $host;\n"
                f"# in an application's proxy: drop the incoming Host header, set Host to {authority},\n# and add X-Forwarded-Host with the original\n"
            ),
            apply=None if "NAMESPACE" in authority else lambda w: w.with_request(host=authority),
            changed=(
                "the application behind sees the Service's name as Host; what it derives from Host must read X-Forwarded-Host",
            ),
            assumes=(
                "the port is declared as HTTP and its Service has ready endpoints with sidecars",
                "the server demands mutual TLS, as the failure implies",
            ),
        ),
    )


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="An intermediate proxy forwards the original Host, and the mesh routes by Host.",
    inputs=(HttpRequestDump, EnvoyAccess, HttpExchange, LocalReply, Service, PeerAuthentication, NginxProxy, KubeObject, Ingress, Workload, Pod, Namespace, Message, CiliumOption, CommandRun),
    needs=(HttpRequestDump, EnvoyAccess, HttpExchange, NginxProxy, Workload, Pod, KubeObject, CiliumOption, CommandRun),
    rivals=(
        "service-port-mismatch", "plaintext-to-strict-mtls", "destinationrule-drops-mtls-under-strict", "service-selector-matches-no-pods",
        "circuit-breaker-overflow", "keepalive-idle-timeout-race",
    ),
    check=check,
)  # fmt: skip
