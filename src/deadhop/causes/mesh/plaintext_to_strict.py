"""A caller without mesh TLS sends plain text to a workload that accepts only mutual TLS.

What happens
------------
The server's PeerAuthentication is STRICT, so its inbound listener has filter chains for TLS alone. A caller without a
sidecar, or one whose traffic bypasses it, sends plain text: no filter chain matches, Envoy closes the connection and
logs ``0 NR filter_chain_not_found``. In ambient mode the server's ztunnel refuses a connection that came outside of the
tunnel and names the policy made of the PeerAuthentication. The caller sees a reset or an empty reply.

How to tell it from its neighbours
----------------------------------
The server's own log line proves it. A caller that gets an HTTP answer with ``server: envoy`` has a sidecar of its own:
then look at its Host (pass-through) or its destination rule instead. Permissive mode cures it.

Fix
---
Bring the caller into the mesh, or make that port permissive.

References
----------
Istio PeerAuthentication; pilot/pkg/networking/core inbound filter chains; Envoy details filter_chain_not_found;
pilot/pkg/serviceregistry/kube/controller/ambient/authorization.go (istio_converted_static_strict).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from deadhop.hops.mesh_world import MeshWorld, least_mesh, walk
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import DialFailure, HttpExchange, HttpRequestDump, LocalReply
from deadhop.model.observed.kube import PeerAuthentication, Pod, mappings
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.names import same_service
from deadhop.snapshot.said import said

SLUG = "plaintext-to-strict-mtls"
CLOSED = ("reset", "empty")


def strict(policies: list[PeerAuthentication]) -> list[PeerAuthentication]:
    """The policies that demand mutual TLS."""
    return [
        p
        for p in policies
        if isinstance(p.spec.get("mtls"), dict) and str(p.spec["mtls"].get("mode", "")).upper() == "STRICT"
    ]


def check(view: View) -> Iterator[Hypothesis]:
    unmatched = [a for a in view.of(EnvoyAccess) if "NR" in a.flags and "filter_chain_not_found" in a.details]
    denied = said(view.of(Message), "plaintext-refused", emitter="ztunnel")
    refused: list[Record] = [*unmatched, *denied]
    demands = strict(view.of(PeerAuthentication))
    answered = [e for e in view.of(HttpExchange) if e.status and "envoy" in e.header("server").lower()]
    proxied = [*answered, *(r for r in view.of(LocalReply) if r.reset_reason)]
    passed_through = [
        r for r in proxied if isinstance(r, LocalReply) and r.reset_reason == "connection termination"
    ]
    if refused and passed_through == proxied:
        proxied = []  # its own sidecar let the request out as plain text: the two ends tell one story
    closed = [
        *(e for e in view.of(HttpExchange) if e.error in CLOSED),
        *(d for d in view.of(DialFailure) if d.error in CLOSED),
        *said(view.of(Message), "upstream-reset", "upstream-closed-early"),
    ]
    passed = [a for a in view.of(EnvoyAccess) if a.cluster == "PassthroughCluster"]
    foreign = [
        d
        for d in view.of(HttpRequestDump)
        if d.host_header and d.dial_host and not same_service(d.host_header, d.dial_host)
    ]
    bare = [p for p in view.of(Pod) if p.raw.get("spec") and not _sidecar(p)]
    clients = {m.field("client") for m in denied}
    bare += [p for p in view.of(Pod) if p.ip and p.ip in clients and p not in bare]
    if not (refused or (demands and (closed or proxied)) or proxied):
        return
    yield Hypothesis(
        subject=unmatched[0].downstream_local if unmatched else (denied[0].field("server") if denied else "the server's inbound port"),
        title="A caller without mesh TLS sends plain text to a workload that accepts only mutual TLS.",
        checks=(
            judged("plain text reaches a server whose proxy takes only mutual TLS, and is refused there", True if refused else None, refused, weight=2.0, required=not (demands and closed), decide="kubectl logs SERVER-POD -c istio-proxy --tail=50   # 0 NR filter_chain_not_found"),
            judged("the caller has no sidecar (it gets no HTTP answer from a proxy)", False if proxied else (True if closed or bare else None), proxied or closed or bare, weight=0.9, required=bool(proxied) and not refused),
            shown("the caller's connection is closed without an answer", closed, weight=0.7, required=bool(demands and closed and not refused)),
            shown("a policy demands mutual TLS", demands, weight=0.8, required=bool(demands and closed and not refused), decide="kubectl get peerauthentication -A -o yaml"),
            shown("the server's ztunnel names the policy: one that is made of a strict PeerAuthentication", denied, weight=0.7),
            judged("the caller's Host is the Service's own", False if foreign or passed else None, [*foreign, *passed], weight=0.8),
        ),
        explains=("the server's sidecar closes the connection before any byte reaches the application",),
        world=_world(),
        walk=walk,
        fixes=_fixes(),
        prior=-1.3,
    )  # fmt: skip


def _sidecar(pod: Pod) -> bool:
    containers = [*mappings(pod.spec, "containers"), *mappings(pod.spec, "initContainers")]
    return any(c.get("name") == "istio-proxy" for c in containers)


def _world() -> MeshWorld:
    mesh, request = least_mesh("server", "default", 80)
    return MeshWorld(mesh=mesh, request=msgspec.structs.replace(request, client="203.0.113.7"))


def _fixes() -> tuple[Fix, ...]:
    port = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "server", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "server"}},
            "portLevelMtls": {"8080": {"mode": "PERMISSIVE"}},
        },
    }
    return (
        Fix(
            title="Bring the caller into the mesh",
            artifact="kubectl label namespace CALLER-NAMESPACE istio-injection=enabled\nkubectl -n CALLER-NAMESPACE rollout restart deployment CALLER\n",
            apply=lambda w: w.with_request(client="default/client"),
            changed=("the caller's pods restart and all their traffic passes a sidecar",),
        ),
        Fix(
            title="Make that one port permissive",
            artifact="apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: SERVER, namespace: NAMESPACE}\nspec:\n  selector: {matchLabels: {app: SERVER}}\n  portLevelMtls:\n    PORT: {mode: PERMISSIVE}\n",
            apply=lambda w: w.with_objects(port),
            changed=("anybody may send plain text to that port; policies on identities no longer match such callers",),
        ),
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="A caller without mesh TLS sends plain text to a workload that accepts only mutual TLS.",
    inputs=(EnvoyAccess, HttpExchange, DialFailure, LocalReply, HttpRequestDump, PeerAuthentication, Pod, Message),
    needs=(EnvoyAccess, PeerAuthentication, LocalReply, Message),
    rivals=("host-header-forwarded-breaks-mesh-routing", "pod-ip-call-bypasses-mtls-under-strict", "destinationrule-drops-mtls-under-strict", "kubelet-probe-blocked-by-strict-mtls"),
    check=check,
)  # fmt: skip
