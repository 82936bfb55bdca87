"""Small worlds for the mesh tests: one service, one caller, and what a test adds."""

from __future__ import annotations

from typing import Any

from deadhop.hops.mesh.api import AppFact, Mesh, MeshOutcome, MeshRequest, walk

Doc = dict[str, Any]
CALLER = "web/caller"
VIP = "10.96.0.10"
SERVER = "10.244.0.10:8080"


def meta(name: str, namespace: str, **more: Any) -> Doc:
    return {"name": name, "namespace": namespace, **more}


def pod(
    name: str,
    namespace: str,
    ip: str,
    sidecar: bool = True,
    port: int = 8080,
    annotations: Doc | None = None,
    **labels: str,
) -> Doc:
    marks = {"app": name, **({"security.istio.io/tlsMode": "istio"} if sidecar else {}), **labels}
    containers: list[Doc] = [{"name": name, "ports": [{"name": "main", "containerPort": port}]}]
    if sidecar:
        containers.append({"name": "istio-proxy", "image": "proxyv2:1.32.0"})
    return {
        "kind": "Pod",
        "metadata": meta(name, namespace, labels=marks, annotations=annotations or {}),
        "spec": {"serviceAccountName": name, "containers": containers},
        "status": {"podIP": ip, "podIPs": [{"ip": ip}]},
    }


def service(
    name: str = "orders", namespace: str = "shop", port_name: str = "http", vip: str = VIP, port: int = 80
) -> Doc:
    return {
        "kind": "Service",
        "metadata": meta(name, namespace),
        "spec": {
            "clusterIP": vip,
            "clusterIPs": [vip],
            "selector": {"app": name},
            "ports": [{"name": port_name, "port": port, "targetPort": 8080}],
        },
    }


def endpoints(name: str = "orders", namespace: str = "shop", port_name: str = "http", *ips: str) -> Doc:
    return {
        "kind": "EndpointSlice",
        "metadata": meta(name, namespace, labels={"kubernetes.io/service-name": name}),
        "ports": [{"name": port_name, "port": 8080}],
        "endpoints": [
            {"addresses": [ip], "targetRef": {"kind": "Pod", "name": f"{name}-{n}" if n else name}}
            for n, ip in enumerate(ips or ("10.244.0.10",))
        ],
    }


def config(text: str = "{}") -> Doc:
    return {"kind": "ConfigMap", "metadata": meta("istio", "istio-system"), "data": {"mesh": text}}


def policy(kind: str, spec: Doc, name: str = "p", namespace: str = "shop") -> Doc:
    return {"kind": kind, "metadata": meta(name, namespace), "spec": spec}


def strict(namespace: str = "shop") -> Doc:
    return policy("PeerAuthentication", {"mtls": {"mode": "STRICT"}}, "strict", namespace)


def world(
    *extra: Doc, port_name: str = "http", client_sidecar: bool = True, server_sidecar: bool = True
) -> Mesh:
    """A caller in ``web``, the service ``orders`` in ``shop``, and ``extra``."""
    return Mesh.from_objects(
        [
            config(),
            pod("caller", "web", "10.244.9.9", client_sidecar),
            pod("orders", "shop", "10.244.0.10", server_sidecar),
            service(port_name=port_name),
            endpoints("orders", "shop", port_name),
            *extra,
        ]
    )


def call(
    mesh: Mesh, host: str | None = "orders.shop", *facts: str, envoy: str = "1.40.0", **more: Any
) -> MeshOutcome:
    """Call the service; facts are about its only endpoint."""
    request = MeshRequest(**{"client": CALLER, "dst_ip": VIP, "dst_port": 80, "host": host, **more})
    return walk(mesh, request, [AppFact(SERVER, f) for f in facts], envoy=envoy)


def flags(outcome: MeshOutcome) -> set[str]:
    assert outcome.client_log is not None
    return set(outcome.client_log.flags)
