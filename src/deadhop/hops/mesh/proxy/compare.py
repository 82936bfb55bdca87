"""What the objects imply for a proxy beside what it runs: the differences, each with the objects and resources behind it.

Only what can be told apart is compared: destinations, paths, ports, endpoints, TLS; not timeouts, retries, filters. A
gateway's listeners are not derived from objects here, so a gateway's proxy is not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deadhop.hops.mesh.clusters import lookup
from deadhop.hops.mesh.decode import dig, labels, meta_of, rows, selector_matches, text
from deadhop.hops.mesh.mesh import Mesh
from deadhop.hops.mesh.proxy.compare_clusters import clusters
from deadhop.hops.mesh.proxy.compare_inbound import inbound
from deadhop.hops.mesh.proxy.compare_listeners import listeners
from deadhop.hops.mesh.proxy.compare_routes import routes
from deadhop.hops.mesh.proxy.config import ProxyConfig
from deadhop.hops.mesh.proxy.difference import PATCHES, Difference
from deadhop.hops.mesh.workload import Workload
from deadhop.model.mesh import MeshRequest

#: As many differences as a person reads; what follows is of the same push.
MOST = 40
_ORDER = ("route", "virtual host", "cluster", "listener", "inbound", "tls", "outbound policy", "endpoints")


def differences(mesh: Mesh, proxy: ProxyConfig) -> list[Difference]:
    """How a sidecar's configuration differs from what the objects imply; empty for a proxy that is no known pod's."""
    pod = mesh.pods.get(proxy.owner)
    if pod is None or proxy.router or proxy.role not in ("", "sidecar"):
        return []
    found = [d for part in (routes, clusters, listeners, inbound) for d in part(mesh, pod, proxy)]
    return sorted(found, key=lambda d: (bool(d.presumes), _ORDER.index(d.aspect)))[:MOST]


def patched(
    difference: Difference, filters: Iterable[Mapping[str, Any]], pod: Workload, root: str
) -> list[str]:
    """The EnvoyFilters that may be the reason for a difference: they reach this workload and that kind of resource."""
    return [
        meta.key
        for doc in filters
        if (meta := meta_of(doc)).namespace in (root, pod.namespace)
        and selector_matches(labels(dig(doc, "spec", "workloadSelector", "labels")), pod.labels)
        and any(
            text(p.get("applyTo")) in PATCHES[difference.aspect]
            for p in rows(dig(doc, "spec", "configPatches"))
        )
    ]


def request_for(mesh: Mesh, difference: Difference, pod: Workload) -> MeshRequest | None:
    """A request of this proxy's workload that meets the difference; None where none follows from it."""
    if not difference.host or difference.aspect == "inbound":
        return None
    service = lookup(mesh, mesh.scope_of(pod), difference.host, difference.port)
    if service is None or not service.vips:
        return None
    return MeshRequest(client=pod.key, dst_ip=service.vips[0], dst_port=difference.port, host=difference.host)
