"""Cluster DNS as a cluster's objects show it: the Corefile with its files, the Service, the names that it serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from deadhop.hops.dns import Corefile, KubeService, World, parse_corefile
from deadhop.hops.mesh.decode import meta_of, table
from deadhop.hops.mesh.mesh import Document, Mesh
from deadhop.hops.mesh.protocol import Family
from deadhop.hops.service.registry import MeshService

FOLDER = "/etc/coredns"
"""Where every installer mounts the ConfigMap."""
_LABELS = ({"k8s-app": "kube-dns"}, {"k8s-app": "coredns"}, {"app.kubernetes.io/name": "coredns"})
_NODE_LOCAL = "__PILLAR__"


class ClusterDNS(msgspec.Struct, frozen=True, kw_only=True):
    """``server`` is the Service's address, ``backends`` its endpoints as (address, port)."""

    corefile: Corefile
    world: World
    server: str
    backends: tuple[tuple[str, int], ...]
    domain: str
    where: str


def cluster_dns(mesh: Mesh) -> ClusterDNS | None:
    """None where the objects hold no Corefile or no Service of cluster DNS."""
    maps = [d for d in mesh.of_kind("ConfigMap") if _is_corefile(table(d.get("data")))]
    if not maps:
        return None
    chosen = min(maps, key=_preference)
    meta = meta_of(chosen)
    service = next((s for s in mesh.services if _is_dns(s, meta.namespace)), None)
    port = service.port(53) if service else None
    if service is None or port is None or not service.vips:
        return None
    data = table(chosen.get("data"))
    corefile = parse_corefile(str(data["Corefile"]))
    files = {f"{FOLDER}/{key}": str(text) for key, text in data.items() if key != "Corefile"}
    hostnames = _hostnames(mesh)
    known = tuple(_kube_service(s, hostnames) for s in mesh.services if s.kubernetes)
    return ClusterDNS(
        corefile=corefile,
        world=World(services=known, files=files),
        server=service.vips[0],
        backends=tuple((e.address, number) for e, number in service.ready_endpoints(port)),
        domain=_domain(corefile),
        where=str(meta),
    )


def _preference(document: Document) -> tuple[bool, bool, str]:
    meta = meta_of(document)
    return meta.name != "coredns", meta.namespace != "kube-system", meta.name


def _is_corefile(data: Mapping[str, Any]) -> bool:
    text = data.get("Corefile")
    return isinstance(text, str) and _NODE_LOCAL not in text


def _is_dns(service: MeshService, namespace: str) -> bool:
    selects = any(wanted.items() <= service.selector.items() for wanted in _LABELS)
    return service.kubernetes and service.namespace == namespace and selects


def _domain(corefile: Corefile) -> str:
    """The zone of the ``kubernetes`` plugin: cluster.local unless it names another."""
    named = (
        arg.rstrip(".")
        for block in corefile.servers
        for directive in block.all("kubernetes")
        for arg in directive.args
        if not arg.endswith("arpa") and not arg.endswith("arpa.")
    )
    return next((name for name in named if "." in name), "cluster.local")


def _hostnames(mesh: Mesh) -> dict[str, str]:
    """``namespace/pod`` to the name that its endpoints have: ``spec.hostname`` where there is a ``subdomain`` too."""
    return {
        meta_of(d).key: str(spec["hostname"])
        for d in mesh.of_kind("Pod")
        if (spec := table(d.get("spec"))).get("hostname") and spec.get("subdomain")
    }


def _kube_service(service: MeshService, hostnames: Mapping[str, str]) -> KubeService:
    endpoints = tuple(
        (hostnames.get(e.pod) or e.address.replace(".", "-").replace(":", "-"), e.address)
        for e in service.endpoints
        if e.ready
    )
    return KubeService(
        namespace=service.namespace,
        name=service.meta.name,
        cluster_ips=() if service.headless else service.vips,
        endpoints=endpoints,
        ports=tuple(
            (p.name, "UDP" if p.protocol.family is Family.UDP else "TCP", p.number) for p in service.ports
        ),
        external_name=service.external_name,
    )
