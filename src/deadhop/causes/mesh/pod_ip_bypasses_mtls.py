"""A caller inside the mesh dials a pod's address, for which its proxy has no service route.

What happens
------------
The proxy knows service names and cluster addresses. A request with a pod's address as Host falls to the pass-through
cluster, which never uses mutual TLS; a server under STRICT closes the connection (503, UC, connection termination).
Scrapers and clients with their own discovery do this.

How to tell it from its neighbours
----------------------------------
The service name works and the pod's address fails from the same caller; the cluster is PassthroughCluster and the
authority is an address. A forwarded Host is a name. A caller without a sidecar sees a reset, no 503.

Fix
---
Call the service name, give the caller the mesh's certificates, or exempt the port from strict mutual TLS.

References
----------
Istio, Understanding Traffic Routing (pass-through is never mTLS); Prometheus integration.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.http import DialFailure, HttpExchange, LocalReply
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.kube import PeerAuthentication, mapping
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.shell import CommandRun
from deadhop.model.record import Record
from deadhop.snapshot.names import service_name
from deadhop.snapshot.said import host_of, private

SLUG = "pod-ip-call-bypasses-mtls-under-strict"


def check(view: View) -> Iterator[Hypothesis]:
    by_ip: list[Record] = [
        a
        for a in view.of(EnvoyAccess)
        if private(a.authority)
        and a.cluster == "PassthroughCluster"
        and (a.flags & {"UC", "UF", "UR"} or a.status >= 500)
    ]
    ended = [r for r in view.of(LocalReply) if r.reset_reason == "connection termination"]
    for exchange in view.of(HttpExchange):
        mesh = "envoy" in exchange.header("server").lower() or "upstream connect error" in exchange.body
        closed = "connection termination" in exchange.body or exchange.header("content-length") == "95"
        if private(exchange.host) and exchange.status == 503 and mesh and (closed or ended):
            by_ip.append(exchange)
    scraped = [
        d
        for d in view.of(DialFailure)
        if d.error == "reset" and private(d.ip or d.host) and "/metrics" in d.text
    ]
    strict = [
        p
        for p in view.of(PeerAuthentication)
        if str(mapping(p.spec, "mtls").get("mode", "")).upper() == "STRICT"
    ]
    refused = [a for a in view.of(EnvoyAccess) if "filter_chain_not_found" in a.details]
    if scraped and (strict or refused):
        by_ip += scraped
    if not by_ip:
        return
    named = [e for e in view.of(HttpExchange) if service_name(e.host) and (e.status or 500) < 400]
    rows = {(c.source.file, c.source.line) for c in view.of(Counter)}
    runs = [
        c
        for c in view.of(CommandRun)
        if c.program in ("curl", "wget") and any(service_name(host_of(w)) and "://" in w for w in c.argv[1:])
    ]
    served = [c for c in runs if any((c.source.file, c.source.line + k) in rows for k in (1, 2, 3))]
    yield Hypothesis(
        subject="the call to a pod's address",
        title="The call goes to a pod's address: the sidecar has no route for it, sends plain text, and the strict server closes the connection.",
        checks=(
            shown("a request to a pod's address is closed behind the proxy", by_ip, weight=2.0, required=True, decide="kubectl logs CALLER-POD -c istio-proxy --tail=50   # PassthroughCluster, authority ADDRESS"),
            shown("the same caller is served by the service name", [*named, *served], weight=1.2, decide="curl -sv http://SERVICE.NAMESPACE:PORT/PATH   # from the same pod"),
            shown("the server demands mutual TLS", [*strict, *refused], weight=0.8, decide="kubectl get peerauthentication -A -o yaml"),
        ),
        explains=("scrapers and clients with their own discovery fail while ordinary callers work",),
        fixes=(
            Fix(title="Call the service name", artifact="curl http://SERVICE.NAMESPACE.svc.cluster.local:PORT/\n"),
            Fix(title="Make that one port permissive", artifact="apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: SERVER, namespace: NAMESPACE}\nspec:\n  selector: {matchLabels: {app: SERVER}}\n  portLevelMtls:\n    PORT: {mode: PERMISSIVE}\n"),
        ),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="A caller dials the pod address, so the call leaves as plain text and the strict server refuses it.",
    inputs=(
        EnvoyAccess,
        LocalReply,
        HttpExchange,
        DialFailure,
        PeerAuthentication,
        Counter,
        CommandRun,
    ),
    needs=(
        EnvoyAccess,
        HttpExchange,
        DialFailure,
    ),
    rivals=(
        "plaintext-to-strict-mtls",
        "host-header-forwarded-breaks-mesh-routing",
        "headless-pod-ip-host-no-route",
    ),
    check=check,
)
