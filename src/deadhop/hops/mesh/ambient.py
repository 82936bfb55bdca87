"""Ambient workloads: ztunnel carries TCP only, so no Host routing; mutual TLS between two ambient pods.

PeerAuthentication STRICT becomes a denial of callers without identity; there is no plain-text-only mode. Reference:
istio ``pilot/pkg/serviceregistry/ambient``, ztunnel ``src/proxy/inbound_passthrough.rs``.
"""

from __future__ import annotations

import msgspec

from deadhop.hops.mesh.authz import Caller
from deadhop.hops.mesh.context import Context
from deadhop.hops.mesh.farend import Arrival, FarEnd, application
from deadhop.hops.mesh.mesh import Mesh
from deadhop.hops.mesh.mtls_server import Mode
from deadhop.hops.mesh.workload import Workload

LABEL = "istio.io/dataplane-mode"


def in_ambient(mesh: Mesh, pod: Workload) -> bool:
    """Is the pod captured by ztunnel? The pod's label counts before its namespace's; a sidecar excludes it."""
    own = pod.labels.get(LABEL) or mesh.namespaces.get(pod.namespace, {}).get(LABEL, "")
    return own == "ambient" and not pod.sidecar and not pod.host_network


def through_ztunnel(ctx: Context, arrival: Arrival, pod: Workload, ip: str, port: int) -> FarEnd:
    """A connection meets the server's ztunnel: policy by identity, then the application."""
    source = arrival.source
    known = source is not None and in_ambient(ctx.mesh, source)
    server = ctx.mesh.peer.mode(pod.namespace, pod.labels, port)
    name = f"ztunnel of {pod.key}"
    if not known and server.mode is Mode.STRICT:
        by = server.decided_by or "PeerAuthentication"
        ctx.say(by, f"{name}: explicitly denied by the converted policy, the caller has no identity", False)
        return FarEnd(kind="closed", cut=True, mtls=False, server=pod.key)
    principal = source.spiffe(ctx.mesh.config.trust_domain) if known and source else ""
    decision = ctx.mesh.authz.decide(
        pod.namespace, pod.labels, Caller(principal, arrival.source_ip, port, False)
    )
    if decision.allowed is not True:
        ctx.say(decision.decided_by or name, f"{name}: {decision.text}", decision.allowed)
        if decision.allowed is None:
            ctx.lacks(f"what {decision.decided_by} decides: {decision.text}")
        else:
            return FarEnd(kind="closed", cut=True, mtls=known, server=pod.key)
    ctx.say(name, "HBONE, mutual TLS" if known else "plain text passes")
    return msgspec.structs.replace(application(ctx, arrival, pod, ip, port), mtls=known)
