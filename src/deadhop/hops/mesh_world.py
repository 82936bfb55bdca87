"""One request through a mesh as a world to prove fixes in: the objects, the request, and its trace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from deadhop.hops.mesh.api import Mesh
from deadhop.hops.mesh.api import walk as walk_mesh
from deadhop.model.mesh import AppFact, MeshRequest
from deadhop.model.trace import Disposition, Hop, Step, Trace


class MeshWorld(msgspec.Struct, frozen=True, kw_only=True):
    """``mesh`` and ``request`` as the mesh hop takes them; ``facts`` what is known of the far end.

    ``proxies`` are configurations that proxies really run. Changed objects are walked without them: what istiod makes
    of the objects reaches every proxy.
    """

    mesh: Any
    request: MeshRequest
    facts: tuple[AppFact, ...] = ()
    envoy: str | None = None
    proxies: Any = None

    def with_request(self, **fields: object) -> MeshWorld:
        return msgspec.structs.replace(self, request=msgspec.structs.replace(self.request, **fields))

    def with_objects(self, *put: Mapping[str, Any], remove: Iterable[tuple[str, str]] = ()) -> MeshWorld:
        return msgspec.structs.replace(self, mesh=self.mesh.changed(put=put, remove=remove), proxies=None)

    def pushed(self) -> MeshWorld:
        """The world in which every proxy runs what the objects imply."""
        return msgspec.structs.replace(self, proxies=None)


def walk(world: MeshWorld) -> Trace:
    """The trace of the request through both sidecars."""
    outcome = walk_mesh(world.mesh, world.request, world.facts, envoy=world.envoy, proxies=world.proxies)
    served = outcome.ending == "response" and (outcome.status or 0) < 400
    disposition = Disposition.DELIVERED if served else outcome.disposition
    if disposition.arrives and not served:
        disposition = Disposition.ANSWERED
    steps = outcome.steps or (Step(decided_by="mesh", text="no step is known", ok=None),)
    if not served and not any(s.ok is False for s in steps):
        steps = (*steps, Step(decided_by="mesh", text=outcome.reason or outcome.ending, ok=False))
    if served:
        steps = tuple(msgspec.structs.replace(s, ok=True) if s.ok is False else s for s in steps)
    log = outcome.client_log
    flags = ",".join(sorted(log.flags)) if log and log.flags else ""
    cluster = f", cluster {log.cluster}" if log and log.cluster else ""
    status = f"{outcome.status} " if outcome.status else ""
    kind = {True: "over mutual TLS", False: "as plain text", None: "not delivered"}[outcome.mtls]
    request = world.request
    return Trace(
        flow=f"{request.client} -> {request.dst_ip}:{request.dst_port}, Host {request.host or '(none)'}",
        disposition=disposition,
        hops=(Hop(kind="mesh", name="both sidecars", steps=steps),),
        reason=flags or outcome.reason,
        says=f"{status}{outcome.ending if not outcome.status else ''}{flags}{cluster}, {kind}".strip(", "),
    )


def least_mesh(
    service: str,
    namespace: str,
    port: int,
    *,
    name: str = "http",
    target: int = 8080,
    strict: bool = True,
    extra: Iterable[Mapping[str, Any]] = (),
) -> tuple[Mesh, MeshRequest]:
    """The smallest mesh in which a client with a sidecar calls ``service``: for evidence without objects.

    The client is ``default/client``; the ClusterIP and pod addresses are of the documentation ranges.
    """
    meta = {"name": service, "namespace": namespace}
    sidecar = {"name": "istio-proxy", "image": "istio/proxyv2"}
    labels = {"app": service, "security.istio.io/tlsMode": "istio"}
    documents: list[Mapping[str, Any]] = [
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"clusterIP": "192.0.2.10", "selector": {"app": service}, "ports": [{"name": name, "port": port, "targetPort": target}]}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {**meta, "labels": {"kubernetes.io/service-name": service}}, "addressType": "IPv4", "ports": [{"name": name, "port": target}], "endpoints": [{"addresses": ["198.51.100.20"], "conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": f"{service}-0", "namespace": namespace}}]},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{service}-0", "namespace": namespace, "labels": labels}, "spec": {"containers": [{"name": "app", "ports": [{"containerPort": target}]}, sidecar]}, "status": {"podIP": "198.51.100.20"}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client", "namespace": "default", "labels": {"security.istio.io/tlsMode": "istio"}}, "spec": {"containers": [{"name": "app"}, sidecar]}, "status": {"podIP": "198.51.100.10"}},
        *extra,
    ]  # fmt: skip
    if strict:
        documents.append(
            {
                "apiVersion": "security.istio.io/v1",
                "kind": "PeerAuthentication",
                "metadata": {"name": "default", "namespace": "istio-system"},
                "spec": {"mtls": {"mode": "STRICT"}},
            }
        )
    request = MeshRequest(
        client="default/client",
        dst_ip="192.0.2.10",
        dst_port=port,
        host=f"{service}.{namespace}.svc.cluster.local",
    )
    return Mesh.from_objects(documents), request
