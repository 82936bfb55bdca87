"""Which of the client sidecar's listeners takes a captured connection.

``virtualOutbound`` hands it to the listener with the exact ``IP:port``, else to ``0.0.0.0:port``, else it keeps it.
Reference: istio ``pilot/pkg/networking/core/listener.go`` (``buildSidecarOutboundListeners``) and
``listener_builder.go`` (``buildVirtualOutboundListener``).
"""

from __future__ import annotations

import msgspec

from deadhop.hops.mesh.decode import within
from deadhop.hops.mesh.mesh import Mesh
from deadhop.hops.mesh.protocol import SERVER_FIRST_PORTS, Family
from deadhop.hops.mesh.scope import Scope
from deadhop.hops.service.registry import MeshService, ServicePort

VIRTUAL_OUTBOUND = 15001


class Listener(msgspec.Struct, frozen=True):
    """A listener as far as it decides. ``http``: it has an HTTP chain whose route configuration is ``rds``.

    ``service`` is the target of its TCP chain; without one that chain is the passthrough (or blackhole).
    """

    name: str
    http: bool
    rds: str
    service: MeshService | None
    port: ServicePort | None
    decided_by: str
    sniffs: bool = False


class PortView(msgspec.Struct, frozen=True):
    """What one proxy's wildcard listener on a port is made of."""

    http_by: MeshService | None
    tcp: tuple[MeshService, ServicePort] | None
    tcp_first: bool


def known(mesh: Mesh, scope: Scope, port: int) -> list[tuple[MeshService, ServicePort]]:
    """The services of a scope that have a port, one per host: own namespace, then Kubernetes, then the oldest."""
    chosen: dict[str, tuple[MeshService, ServicePort]] = {}
    pulled = pulled_in(mesh, scope, port)
    for service, service_port in mesh.by_port.get(port, ()):
        if not scope.sees(service, port) and not (
            service.host in pulled and service.visible_from(scope.namespace)
        ):
            continue
        held = chosen.get(service.host)
        if held is None or _preference(service, scope) < _preference(held[0], scope):
            chosen[service.host] = (service, service_port)
    return list(chosen.values())


def _preference(service: MeshService, scope: Scope) -> tuple[bool, bool]:
    return (service.namespace != scope.namespace, not service.kubernetes)


def pulled_in(mesh: Mesh, scope: Scope, port: int) -> frozenset[str]:
    """Hosts that an imported VirtualService routes to (``SidecarScope`` imports them as well)."""
    if scope.sidecar is None:
        return frozenset()
    key = ("pulled", scope.key, port)
    if key not in mesh.cache:
        hosts: set[str] = set()
        for v in mesh.virtual_services:
            if (
                v.in_mesh
                and v.visible_from(scope.namespace)
                and scope.imports_config(v.meta.namespace, v.hosts, port)
            ):
                hosts.update(d.host for r in v.http for d in r.destinations)
                hosts.update(d.host for r in (*v.tcp, *v.tls) for d in r.destinations)
        mesh.cache[key] = frozenset(hosts)
    found: frozenset[str] = mesh.cache[key]
    return found


def in_scope(mesh: Mesh, scope: Scope, service: MeshService, port: int) -> bool:
    """Does the proxy have this service on this port, imported or pulled in?"""
    if scope.sees(service, port):
        return True
    return service.visible_from(scope.namespace) and service.host in pulled_in(mesh, scope, port)


def _has_address(service: MeshService) -> bool:
    return bool(service.vips or service.blocks)


def port_view(mesh: Mesh, scope: Scope, port: int) -> PortView:
    """The wildcard listener of a port, from the services that would share it."""
    key = ("port", scope.key, port)
    found = mesh.cache.get(key)
    if not isinstance(found, PortView):
        http: MeshService | None = None
        tcp: tuple[MeshService, ServicePort] | None = None
        tcp_first = False
        for service, service_port in known(mesh, scope, port):
            family = service_port.protocol.family
            if family is Family.HTTP:
                http = http or service
            elif tcp is None and not _has_address(service) and not service.headless:
                tcp = (service, service_port)
                tcp_first = http is None
                if family is Family.AUTO:
                    http = http or service
        if http and tcp and port in SERVER_FIRST_PORTS:
            http, tcp = (None, tcp) if tcp_first else (http, None)
        found = mesh.cache[key] = PortView(http, tcp, tcp_first)
    return found


def choose_listener(mesh: Mesh, scope: Scope, own_ips: tuple[str, ...], ip: str, port: int) -> Listener:
    """The listener for a connection to ``ip:port``."""
    if port == VIRTUAL_OUTBOUND:
        return Listener("virtualOutbound", False, "", None, None, "virtualOutbound-blackhole")
    exact = [
        (s, p)
        for s, p in mesh.by_address.get((ip, port), ())
        if in_scope(mesh, scope, s, port) and not (s.headless and ip in own_ips)
    ]
    if not exact:
        exact = [
            (s, p)
            for s in mesh.with_blocks
            if within(ip, s.blocks) and in_scope(mesh, scope, s, port)
            if (p := s.port(port)) is not None and p.protocol.family in (Family.TCP, Family.AUTO)
        ]
    if exact:
        service, service_port = exact[0]
        sniffed = service_port.protocol.family is Family.AUTO
        rds = f"{service.host}:{port}" if sniffed else ""
        return Listener(f"{ip}_{port}", sniffed, rds, service, service_port, str(service.meta), sniffed)
    view = port_view(mesh, scope, port)
    if view.http_by or view.tcp:
        target, target_port = view.tcp or (None, None)
        sniffs = target_port is not None and target_port.protocol.family is Family.AUTO
        by = view.http_by or target
        return Listener(
            f"0.0.0.0_{port}",
            view.http_by is not None,
            str(port),
            target,
            target_port,
            str(by.meta if by else ""),
            sniffs,
        )
    return Listener("virtualOutbound", False, "", None, None, "virtualOutbound-catchall-tcp")
