"""The route configurations of a client sidecar: virtual hosts per port, and the route a request takes.

Reference: istio ``pilot/pkg/networking/core/httproute.go`` (``buildSidecarOutboundHTTPRouteConfig``,
``BuildSidecarOutboundVirtualHosts``) and ``route/route.go`` (``BuildSidecarVirtualHostWrapper``).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from deadhop.hops.mesh.hosts import covers, listed_addresses, service_domains, specificity
from deadhop.hops.mesh.listeners import Listener, known
from deadhop.hops.mesh.matching import applies_to_caller
from deadhop.hops.mesh.mesh import Mesh
from deadhop.hops.mesh.protocol import Family
from deadhop.hops.mesh.scope import Scope
from deadhop.hops.mesh.vhost import VirtualHosts
from deadhop.hops.mesh.virtualservice import VirtualService
from deadhop.hops.mesh.workload import Workload
from deadhop.hops.service.registry import MeshService

ALLOW_ANY = "allow_any"
BLOCK_ALL = "block_all"
DYNAMIC_DNS = "ALLOW_ANY_DYNAMIC_DNS"


class VirtualHost(msgspec.Struct, frozen=True, eq=False):
    """One virtual host: routes of ``rules``, else the default route to ``service``; neither is the catch-all."""

    name: str
    domains: tuple[str, ...]
    service: MeshService | None = None
    rules: VirtualService | None = None


def families(client: Workload) -> list[str]:
    """The IP families of a client pod; IPv4 where its addresses are not known."""
    return [*dict.fromkeys("IPv6" if ":" in ip else "IPv4" for ip in client.ips)] or ["IPv4"]


def domains_of(mesh: Mesh, service: MeshService, client: Workload) -> tuple[list[str], set[str]]:
    """What istiod lists for a service's virtual host in this client's configuration, and the expanded names in it."""
    return service_domains(
        (service.host, *service.aliases),
        client.namespace,
        cluster_domain=mesh.cluster_domain,
        headless=service.headless,
        addresses=listed_addresses(service.vips, families(client)),
    )


def applicable(v: VirtualService, client: Workload, port: int) -> bool:
    """Has the VirtualService any HTTP route for this proxy and port? One without leaves the service's default."""
    return any(
        not r.groups
        or any(all(applies_to_caller(m, client.namespace, client.labels, port) for m in g) for g in r.groups)
        for r in v.http
    )


def usable_rules(mesh: Mesh, scope: Scope, client: Workload, port: int) -> list[VirtualService]:
    """The VirtualServices that a proxy gets for a port, first claims first."""
    return [
        v
        for v in mesh.virtual_services
        if v.in_mesh
        and v.http
        and v.visible_from(scope.namespace)
        and scope.imports_config(v.meta.namespace, v.hosts, port)
        and applicable(v, client, port)
    ]


def claims(rules: list[VirtualService], registry: dict[str, MeshService]) -> dict[str, VirtualService]:
    """Which VirtualService configures each service: an exact host before wildcards, the most specific of those, the first."""
    claimed: dict[str, VirtualService] = {}
    wild: list[tuple[str, VirtualService]] = []
    for v in rules:
        for host in v.hosts:
            if host.startswith("*"):
                wild.append((host, v))
            elif host in registry:
                claimed.setdefault(host, v)
    wild.sort(key=lambda hv: specificity(hv[0]), reverse=True)
    for pattern, v in wild:
        for host in registry:
            if host not in claimed and covers(pattern, host):
                claimed[host] = v
    return claimed


def _virtual_hosts(
    mesh: Mesh, scope: Scope, client: Workload, port: int
) -> Iterator[tuple[VirtualHost, set[str]]]:
    registry = {
        s.host: s for s, p in known(mesh, scope, port) if p.protocol.family in (Family.HTTP, Family.AUTO)
    }
    rules = usable_rules(mesh, scope, client, port)
    claimed = claims(rules, registry)
    for v in rules:
        mine = [registry[h] for h, owner in claimed.items() if owner is v]
        matched = any(covers(h, s) for h in v.hosts for s in registry) if mine or port != 80 else True
        if matched:
            for host in v.hosts:
                if host in registry or (host.startswith("*") and any(covers(host, s) for s in registry)):
                    continue
                yield VirtualHost(f"{host}:{port}", (host,), None, v), set()
        for service in mine:
            names, expanded = domains_of(mesh, service, client)
            yield VirtualHost(f"{service.host}:{port}", tuple(names), service, v), expanded
    for host, service in registry.items():
        if host not in claimed:
            names, expanded = domains_of(mesh, service, client)
            yield VirtualHost(f"{host}:{port}", tuple(names), service, None), expanded


def catch_all(scope: Scope) -> VirtualHost:
    """The last virtual host: ``allow_any`` to the original destination, or ``block_all``, which answers 502."""
    return VirtualHost(BLOCK_ALL if scope.outbound_mode == "REGISTRY_ONLY" else ALLOW_ANY, ("*",))


def port_routes(mesh: Mesh, scope: Scope, client: Workload, port: int) -> VirtualHosts[VirtualHost]:
    """The route configuration named by a port, without domains that another virtual host has already."""
    key = ("rds", scope.key, client.namespace, tuple(families(client)), port, _caller_key(mesh, client))
    found = mesh.cache.get(key)
    if isinstance(found, VirtualHosts):
        return found
    table: VirtualHosts[VirtualHost] = VirtualHosts()
    names: set[str] = set()
    hosts = list(_virtual_hosts(mesh, scope, client, port))
    fqdns = {v.service.host for v, _ in hosts if v.service}
    for vhost, expanded in hosts:
        if vhost.name in names:
            continue
        names.add(vhost.name)
        for domain in vhost.domains:
            if domain in expanded and domain in fqdns:
                continue
            table.add(domain, vhost)
    table.add("*", catch_all(scope))
    mesh.cache[key] = table
    return table


def _caller_key(mesh: Mesh, client: Workload) -> tuple[tuple[str, str], ...]:
    if "source labels" not in mesh.cache:
        mesh.cache["source labels"] = any(
            m.source_labels for v in mesh.virtual_services for r in v.http for g in r.groups for m in g
        )
    return tuple(sorted(client.labels.items())) if mesh.cache["source labels"] else ()


def find_virtual_host(
    mesh: Mesh, scope: Scope, client: Workload, listener: Listener, port: int, authority: str
) -> tuple[VirtualHost, str] | None:
    """The virtual host for an authority on a listener, and the domain that matched."""
    if listener.rds == str(port) or listener.service is None:
        return port_routes(mesh, scope, client, port).match(authority)
    service = listener.service
    claimed = claims(usable_rules(mesh, scope, client, port), {service.host: service})
    return VirtualHost(listener.rds, ("*",), service, claimed.get(service.host)), "*"
