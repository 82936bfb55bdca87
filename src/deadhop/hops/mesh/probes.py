"""Kubelet probes: answered through the sidecar's agent, or met by the inbound listener as plain text.

Injection rewrites httpGet, tcpSocket and grpc probes to ``:15020/app-health/<container>/{livez,readyz,startupz}``,
unless told not to; a container that was added after injection keeps its own. The agent calls the application
directly. Reference: istio ``pkg/kube/inject/app_probe.go``.
"""

from __future__ import annotations

import msgspec

from deadhop.hops.mesh.mesh import Mesh
from deadhop.hops.mesh.mtls_server import Mode
from deadhop.hops.mesh.workload import Workload, captures_inbound

STATUS_PORT = 15020
REWRITE = "sidecar.istio.io/rewriteAppHTTPProbers"


class ProbeFate(msgspec.Struct, frozen=True):
    """Does a probe arrive? ``arrives`` is False where the sidecar resets it; ``why`` names what decides."""

    arrives: bool
    rewritten: bool
    why: str


def probe_fate(mesh: Mesh, pod: Workload, port: int) -> ProbeFate:
    """What becomes of a probe to ``port`` as it stands in the running pod's specification."""
    if port == STATUS_PORT:
        return ProbeFate(True, True, "rewritten to the agent, which calls the application itself")
    captured, why = captures_inbound(pod, port)
    if not captured:
        return ProbeFate(True, False, why)
    server = mesh.peer.mode(pod.namespace, pod.labels, port)
    by = str(server.decided_by) if server.decided_by else "Istio's default"
    if server.mode is not Mode.STRICT:
        return ProbeFate(True, False, f"not rewritten, but {by} admits plain text")
    kept = (
        "the annotation turns rewriting off"
        if pod.annotations.get(REWRITE) == "false"
        else "it was not rewritten"
    )
    return ProbeFate(False, False, f"plain text to port {port}, {kept}, and {by} demands mutual TLS")
