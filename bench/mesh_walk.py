"""Walks per second, and the time to derive a mesh, for 1,000 and 10,000 services.

    python bench/mesh_walk.py [SERVICES...]

Every service has one port, one pod with a sidecar and one EndpointSlice; every tenth has a VirtualService and a
DestinationRule; half of them share one port, as they do in real meshes. The first walk on a port builds its
route configuration and is timed apart.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from deadhop.hops.mesh.api import Mesh, MeshRequest, walk

Doc = dict[str, Any]
WALKS = 4000


def meta(name: str, namespace: str, **more: Any) -> Doc:
    return {"name": name, "namespace": namespace, "creationTimestamp": "2026-03-02T08:00:00Z", **more}


def pod(name: str, namespace: str, app: str, ip: str) -> Doc:
    return {
        "kind": "Pod",
        "metadata": meta(name, namespace, labels={"app": app, "security.istio.io/tlsMode": "istio"}),
        "spec": {
            "serviceAccountName": app,
            "containers": [
                {"name": app, "ports": [{"containerPort": 8080}]},
                {"name": "istio-proxy", "image": "proxyv2:1.32.0"},
            ],
        },
        "status": {"podIP": ip, "podIPs": [{"ip": ip}]},
    }


def objects(services: int) -> list[Doc]:
    out: list[Doc] = [
        {
            "kind": "ConfigMap",
            "metadata": meta("istio", "istio-system"),
            "data": {"mesh": "enableAutoMtls: true\n"},
        },
        {
            "kind": "PeerAuthentication",
            "metadata": meta("mesh", "istio-system"),
            "spec": {"mtls": {"mode": "STRICT"}},
        },
        pod("caller-0", "ns-0", "caller", "10.250.0.1"),
    ]
    for i in range(services):
        name, namespace = f"svc-{i}", f"ns-{i % 50}"
        high, low = divmod(i, 250)
        ip, vip = f"10.200.{high}.{low + 1}", f"10.100.{high}.{low + 1}"
        port = {"name": "http", "port": port_of(i), "targetPort": 8080, "protocol": "TCP"}
        host = f"{name}.{namespace}.svc.cluster.local"
        out += [
            pod(f"{name}-0", namespace, name, ip),
            {
                "kind": "Service",
                "metadata": meta(name, namespace),
                "spec": {"clusterIP": vip, "clusterIPs": [vip], "selector": {"app": name}, "ports": [port]},
            },
            {
                "kind": "EndpointSlice",
                "metadata": meta(name, namespace, labels={"kubernetes.io/service-name": name}),
                "ports": [{"name": "http", "port": 8080}],
                "endpoints": [{"addresses": [ip], "targetRef": {"kind": "Pod", "name": f"{name}-0"}}],
            },
        ]
        if i % 10 == 0:
            subsets = [{"name": "v1", "labels": {"app": name}}]
            route = [{"destination": {"host": host, "subset": "v1"}}]
            http = [{"match": [{"uri": {"prefix": "/api"}}], "route": route}, {"route": route}]
            out += [
                {
                    "kind": "DestinationRule",
                    "metadata": meta(name, namespace),
                    "spec": {"host": host, "subsets": subsets},
                },
                {
                    "kind": "VirtualService",
                    "metadata": meta(name, namespace),
                    "spec": {"hosts": [host], "http": http},
                },
            ]
    return out


def port_of(i: int) -> int:
    return 80 if i % 2 else 8000 + i % 20


def requests(services: int) -> list[MeshRequest]:
    out = []
    for n in range(WALKS):
        i = n * 7919 % services
        high, low = divmod(i, 250)
        host = f"svc-{i}.ns-{i % 50}" if n % 4 else "foreign.example.com"
        out.append(
            MeshRequest(
                client="ns-0/caller-0", dst_ip=f"10.100.{high}.{low + 1}", dst_port=port_of(i), host=host
            )
        )
    return out


def measure(services: int) -> None:
    docs = objects(services)
    began = time.perf_counter()
    mesh = Mesh.from_objects(docs)
    derived = time.perf_counter()
    tried = requests(services)
    for port in {r.dst_port for r in tried}:
        walk(mesh, next(r for r in tried if r.dst_port == port))
    warm = time.perf_counter()
    for request in tried:
        walk(mesh, request)
    done = time.perf_counter()
    print(
        f"{services:6} services, {len(docs)} objects: derived in {derived - began:.2f} s,"
        f" route configurations in {warm - derived:.2f} s, {WALKS / (done - warm):,.0f} walks/s"
    )


if __name__ == "__main__":
    for count in [int(a) for a in sys.argv[1:]] or [1000, 10000]:
        measure(count)
