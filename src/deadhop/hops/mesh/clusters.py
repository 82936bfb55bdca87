"""The client's side of a cluster: its hosts, and for each of them mutual TLS or plain text.

A DestinationRule's ``tls`` decides; without it auto-mTLS does, per endpoint by label and PeerAuthentication, for
ORIGINAL_DST clusters for all endpoints at once. Reference: istio ``pilot/pkg/networking/core/cluster_tls.go``
(``buildUpstreamTLSSettings``, ``applyUpstreamTLSSettings``), ``cluster_builder.go`` and ``pilot/pkg/model/
push_context.go`` (``BestEffortInferServiceMTLSMode``), ``endpoints/mtls_checker.go``.
"""

from __future__ import annotations

import msgspec

from deadhop.hops.mesh.decode import selector_matches
from deadhop.hops.mesh.destinationrule import DestinationRule, Policy, Pool
from deadhop.hops.mesh.listeners import in_scope
from deadhop.hops.mesh.mesh import Mesh
from deadhop.hops.mesh.mtls_server import Mode
from deadhop.hops.mesh.scope import Scope
from deadhop.hops.mesh.virtualservice import Destination
from deadhop.hops.mesh.workload import Workload
from deadhop.hops.service.registry import Endpoint, MeshService, Resolution, ServicePort
from deadhop.model.record import Source

PASSTHROUGH = "PassthroughCluster"
BLACKHOLE = "BlackHoleCluster"


class Host(msgspec.Struct, frozen=True):
    """One upstream host: ``tls`` is ``none``, ``istio`` (the mesh certificate) or ``user`` (SIMPLE, MUTUAL).

    Not ``sure``: the endpoint names a pod that is not among the objects, so its label is not known.
    """

    address: str
    port: int
    tls: str
    why: str
    sure: bool = True


class Cluster(msgspec.Struct, frozen=True):
    """A cluster as one client has it. ``kind`` is Envoy's discovery type; ``sources`` where its proxy shows it."""

    name: str
    kind: str
    hosts: tuple[Host, ...]
    connect_timeout: float
    http2: bool = False
    auto_http2: bool = False
    pool: Pool = Pool()
    sans: tuple[str, ...] = ()
    decided_by: str = ""
    sources: tuple[Source, ...] = ()
    sni: str = ""


def passthrough(mesh: Mesh, ip: str, port: int) -> Cluster:
    """PassthroughCluster: the original destination, always in plain text, HTTP version as received."""
    host = Host(ip, port, "none", "PassthroughCluster never uses mutual TLS")
    return Cluster(PASSTHROUGH, "ORIGINAL_DST", (host,), mesh.config.connect_timeout, auto_http2=True)


def cluster_name(host: str, port: int, subset: str = "") -> str:
    """``outbound|port|subset|host`` (``model.BuildSubsetKey``)."""
    return f"outbound|{port}|{subset}|{host}"


def lookup(mesh: Mesh, scope: Scope, host: str, port: int) -> MeshService | None:
    """The service that a host means to this proxy; an alias leads to its concrete service."""
    found = mesh.by_host.get(host, [])
    if found and found[0].resolution is Resolution.ALIAS:
        concrete = next((s for s in mesh.services if host in s.aliases), None)
        found = [concrete] if concrete else []
    seen = [s for s in found if in_scope(mesh, scope, s, port)]
    seen.sort(key=lambda s: (s.namespace != scope.namespace, not s.kubernetes))
    return seen[0] if seen else None


def resolve(
    mesh: Mesh, scope: Scope, target: Destination, listener_port: int
) -> tuple[MeshService | None, int]:
    """The service and port of a route's destination: without a port a one-port service means its own
    (``GetDestinationCluster``)."""
    number = target.port
    if number is None:
        named = mesh.by_host.get(target.host, [])
        single = named[0].ports[0].number if named and len(named[0].ports) == 1 else None
        number = single or listener_port
    return lookup(mesh, scope, target.host, number), number


def rule_for(mesh: Mesh, client: Workload, service: MeshService) -> DestinationRule | None:
    """The DestinationRule that this client's proxy applies to a service."""
    return mesh.rules.find(service.host, service.namespace, client.namespace, client.labels)


def _auto_mode(mesh: Mesh, service: MeshService, port: ServicePort, original_dst: bool) -> tuple[bool, str]:
    """Does auto-mTLS put TLS on this cluster at all?"""
    if not mesh.config.auto_mtls:
        return False, "enableAutoMtls is off and no DestinationRule asks for TLS"
    if service.external:
        return False, "a MESH_EXTERNAL host gets no auto-mTLS"
    if original_dst:
        members = service.ready_endpoints(port)
        if not members:
            return False, "the headless service has no endpoints"
        plain = next((e for e, _ in members if not mesh.endpoint_tls(e)), None)
        if plain is not None:
            return (
                False,
                f"endpoint {plain.address} of the headless service has no sidecar, so all get plain text",
            )
    namespace = mesh.peer.namespace_mode(service.namespace)
    if namespace.mode is Mode.DISABLE:
        return False, f"{namespace.decided_by} turns TLS off for namespace {service.namespace}"
    return True, "auto-mTLS"


def _host(mesh: Mesh, endpoint: Endpoint, number: int, tls: str, why: str) -> Host:
    if tls == "auto":
        pod = mesh.pods.get(endpoint.pod)
        if pod is None and endpoint.pod:
            return Host(
                endpoint.address, number, "none", f"pod {endpoint.pod} is not among the objects", False
            )
        if not mesh.endpoint_tls(endpoint):
            return Host(
                endpoint.address, number, "none", "the endpoint has no label security.istio.io/tlsMode=istio"
            )
        server = mesh.peer.mode(pod.namespace, pod.labels, number) if pod else None
        if server and server.mode is Mode.DISABLE:
            return Host(
                endpoint.address, number, "none", f"{server.decided_by} turns TLS off for the endpoint"
            )
        return Host(endpoint.address, number, "istio", "auto-mTLS, the endpoint has a sidecar")
    return Host(endpoint.address, number, tls, why)


def endpoint_host(mesh: Mesh, endpoint: Endpoint, number: int) -> Host:
    """An endpoint as auto-mTLS marks it, whatever a DestinationRule says."""
    return _host(mesh, endpoint, number, "auto", "")


def _sans(mesh: Mesh, service: MeshService, policy: Policy) -> tuple[str, ...]:
    """The server names that an mTLS client accepts; empty where any name of the mesh's root will do."""
    if policy.tls and policy.tls.mode == "ISTIO_MUTUAL" and policy.tls.sans:
        return policy.tls.sans
    if service.sans:
        return service.sans
    accounts = {p.spiffe(mesh.config.trust_domain) for e in service.endpoints if (p := mesh.pods.get(e.pod))}
    return tuple(sorted(f"spiffe://{a}" for a in accounts))


def build_cluster(
    mesh: Mesh, client: Workload, service: MeshService, port: ServicePort, subset: str, dst: tuple[str, int]
) -> Cluster | None:
    """The cluster for one port and subset of a service, None where no DestinationRule defines the subset.

    ``dst`` is the connection's original destination, which ORIGINAL_DST clusters dial.
    """
    rule = rule_for(mesh, client, service)
    if subset and (rule is None or subset not in rule.subsets):
        return None
    policy = rule.effective(port.number, subset) if rule else Policy()
    original_dst = service.resolution is Resolution.PASSTHROUGH or policy.load_balancer == "PASSTHROUGH"
    by = str(rule.meta) if rule else ""
    tls, why = client_tls(mesh, service, port, policy, original_dst, by)
    if original_dst:
        kind = Resolution.PASSTHROUGH.value
        whole = "istio" if tls == "auto" else tls
        hosts: tuple[Host, ...] = (Host(dst[0], dst[1], whole, why),)
    else:
        kind = service.resolution.value
        wanted = rule.subsets[subset].labels if rule and subset else {}
        hosts = tuple(
            _host(mesh, e, n, tls, why)
            for e, n in service.ready_endpoints(port)
            if selector_matches(wanted, e.labels)
        )
    pool = policy.pool or Pool()
    upgrade = pool.h2_upgrade == "UPGRADE" or (mesh.config.h2_upgrade and pool.h2_upgrade != "DO_NOT_UPGRADE")
    return Cluster(
        name=cluster_name(service.host, port.number, subset),
        kind=kind,
        hosts=hosts,
        connect_timeout=mesh.config.connect_timeout if pool.connect_timeout is None else pool.connect_timeout,
        http2=port.protocol.http2 or (upgrade and port.protocol.family == "http"),
        auto_http2=port.protocol.family == "auto",
        pool=pool,
        sans=_sans(mesh, service, policy),
        decided_by=by or why,
    )


def client_tls(
    mesh: Mesh, service: MeshService, port: ServicePort, policy: Policy, original_dst: bool, by: str
) -> tuple[str, str]:
    """``none``, ``istio``, ``user``, or ``auto`` for each endpoint by its label; and why."""
    if policy.tls is not None:
        match policy.tls.mode:
            case "ISTIO_MUTUAL":
                return "istio", f"{by} sets tls ISTIO_MUTUAL"
            case "SIMPLE" | "MUTUAL":
                return "user", f"{by} sets tls {policy.tls.mode}"
        return "none", f"{by} sets tls DISABLE"
    on, why = _auto_mode(mesh, service, port, original_dst)
    return ("auto" if on else "none"), why
