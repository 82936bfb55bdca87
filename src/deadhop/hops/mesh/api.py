"""What diagnosis and causes ask of the mesh.

To prove a fix, walk a changed world: ``walk(mesh, msgspec.structs.replace(request, host="orders.shop"))`` for
another request, ``walk(mesh.changed(put=[policy], remove=[("DestinationRule", "shop/plain")]), request)`` for
other objects. A mesh never changes, so both worlds can be compared.
"""

from __future__ import annotations

from deadhop.hops.mesh.clusters import Cluster, build_cluster
from deadhop.hops.mesh.destinationrule import DestinationRule
from deadhop.hops.mesh.listeners import Listener, choose_listener
from deadhop.hops.mesh.mesh import Mesh, target_port
from deadhop.hops.mesh.mtls_server import Mode, ServerMode
from deadhop.hops.mesh.probes import ProbeFate, probe_fate
from deadhop.hops.mesh.proxy.config import Proxies, ProxyConfig
from deadhop.hops.mesh.routes import VirtualHost, domains_of, find_virtual_host
from deadhop.hops.mesh.walk import walk
from deadhop.hops.mesh.workload import Workload, captures_inbound, captures_outbound
from deadhop.model.mesh import AppFact, LogLine, MeshOutcome, MeshRequest


def server_mtls_mode(mesh: Mesh, workload: Workload, port: int) -> ServerMode:
    """The mutual-TLS mode that a workload's sidecar demands on a container port, and the policy that decides."""
    return mesh.peer.mode(workload.namespace, workload.labels, port)


def which_listener(mesh: Mesh, client: Workload, ip: str, port: int) -> Listener:
    """The listener of a client's sidecar that takes a captured connection to ``ip:port``."""
    return choose_listener(mesh, mesh.scope_of(client), client.ips, ip, port)


def which_vhost(
    mesh: Mesh, client: Workload, port: int, host: str, ip: str = "0.0.0.0"
) -> tuple[VirtualHost, str] | None:
    """The virtual host and the matching domain for a Host on a port; None is Envoy's 404.

    ``ip`` is the original destination: a port without declared protocol has a listener of its own on the
    ClusterIP, in which every Host matches.
    """
    listener = which_listener(mesh, client, ip, port)
    return find_virtual_host(mesh, mesh.scope_of(client), client, listener, port, host)


def known_domains(mesh: Mesh, client: Workload, service_host: str) -> list[str]:
    """Every Host under which a client's sidecar knows a service, in the order istiod lists them."""
    return next((domains_of(mesh, s, client)[0] for s in mesh.by_host.get(service_host, [])), [])


__all__ = [
    "AppFact",
    "Cluster",
    "DestinationRule",
    "LogLine",
    "Mesh",
    "MeshOutcome",
    "MeshRequest",
    "Mode",
    "ProbeFate",
    "Proxies",
    "ProxyConfig",
    "ServerMode",
    "VirtualHost",
    "Workload",
    "build_cluster",
    "captures_inbound",
    "captures_outbound",
    "known_domains",
    "probe_fate",
    "server_mtls_mode",
    "target_port",
    "walk",
    "which_listener",
    "which_vhost",
]
