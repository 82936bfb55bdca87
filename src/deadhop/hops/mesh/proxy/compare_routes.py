"""Virtual hosts and routes: what istiod would make of the objects beside what the proxy has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deadhop.hops.mesh.clusters import cluster_name, resolve
from deadhop.hops.mesh.decode import Meta
from deadhop.hops.mesh.listeners import known
from deadhop.hops.mesh.matching import applies_to_caller
from deadhop.hops.mesh.mesh import Mesh
from deadhop.hops.mesh.protocol import Family
from deadhop.hops.mesh.proxy.config import ProxyConfig
from deadhop.hops.mesh.proxy.difference import Difference, scoped_out
from deadhop.hops.mesh.proxy.routes import target_of
from deadhop.hops.mesh.routes import (
    ALLOW_ANY,
    BLOCK_ALL,
    VirtualHost,
    catch_all,
    claims,
    port_routes,
    usable_rules,
)
from deadhop.hops.mesh.virtualservice import HttpRoute, Match
from deadhop.hops.mesh.workload import Workload
from deadhop.model.observed.proxy import ProxyResource
from deadhop.model.proto_json import flag, get, message, messages, string
from deadhop.snapshot.istio import cluster_parts

Target = tuple[str, str, frozenset[str], tuple[tuple[str, int], ...]]
"""A path condition (``prefix``, ``path``, ``safe_regex``), its value, the headers and parameters that are asked for,
and the weighted clusters (or the answer)."""


def routes(mesh: Mesh, client: Workload, proxy: ProxyConfig) -> Iterator[Difference]:
    """The differences in the route configurations that ports share."""
    scope = mesh.scope_of(client)
    policy_said = False
    yield from _own_routes(mesh, client, proxy)
    for number in mesh.by_port:
        resource = proxy.routes.get(str(number))
        if resource is None or get(resource.raw, "virtual_hosts") is None:
            continue
        if not any(p.protocol.family is Family.HTTP for _, p in known(mesh, scope, number)):
            continue
        table = proxy.virtual_hosts(resource.raw)
        for vhost in dict.fromkeys(port_routes(mesh, scope, client, number).exact.values()):
            yield from _vhost(mesh, client, proxy, vhost, number, resource)
        real = table.catch_all
        if real is not None and not policy_said:
            wanted = catch_all(scope).name
            runs = _policy(real)
            if runs and runs != wanted:
                policy_said = True
                yield _outbound_policy(mesh, client, wanted, runs, resource)


def _own_routes(mesh: Mesh, client: Workload, proxy: ProxyConfig) -> Iterator[Difference]:
    """A port without declared protocol has a route configuration of its own, in which every Host matches."""
    scope = mesh.scope_of(client)
    for number in mesh.by_port:
        for service, port in known(mesh, scope, number):
            name = f"{service.host}:{number}"
            resource = proxy.routes.get(name)
            vhost = next(messages(resource.raw, "virtual_hosts"), None) if resource is not None else None
            if port.protocol.family is Family.AUTO and resource is not None and vhost is not None:
                claimed = claims(usable_rules(mesh, scope, client, number), {service.host: service})
                derived = VirtualHost(name, ("*",), service, claimed.get(service.host))
                yield from _targets(mesh, client, derived, vhost, service.host, number, resource)


def _policy(vhost: Mapping[str, Any]) -> str:
    first = next(messages(vhost, "routes"), {})
    target = target_of(first, vhost, "/")
    if target.answer is not None and target.answer[0] == 502:
        return BLOCK_ALL
    return ALLOW_ANY if target.clusters == (("PassthroughCluster", 100),) else ""


def _outbound_policy(
    mesh: Mesh, client: Workload, wanted: str, runs: str, resource: ProxyResource
) -> Difference:
    modes = {ALLOW_ANY: "ALLOW_ANY", BLOCK_ALL: "REGISTRY_ONLY"}
    sidecar = mesh.scope_of(client).sidecar
    own = sidecar is not None and bool(sidecar.outbound_mode)
    by = (
        sidecar.meta
        if sidecar is not None and own
        else Meta("ConfigMap", mesh.config.root_namespace, "istio", "")
    )
    return Difference(
        aspect="outbound policy",
        subject="outboundTrafficPolicy",
        objects=modes[wanted],
        runs=modes[runs],
        by=(by,) if own or mesh.config.said else (),
        resources=(resource,),
        presumes=() if own or mesh.config.said else ("ConfigMap",),
    )


def _vhost(
    mesh: Mesh, client: Workload, proxy: ProxyConfig, vhost: VirtualHost, number: int, resource: ProxyResource
) -> Iterator[Difference]:
    domain = vhost.service.host if vhost.service is not None else vhost.domains[0]
    if domain not in vhost.domains or domain.startswith("*"):
        return
    owners = (vhost.rules.meta if vhost.rules else None, vhost.service.meta if vhost.service else None)
    found = proxy.virtual_hosts(resource.raw).match(domain)
    if found is None or found[1] == "*":
        # A host of which the proxy has no cluster either may be out of its scope.
        known_host = any((p := cluster_parts(n)) is not None and p.host == domain for n in proxy.clusters)
        yield Difference(
            aspect="virtual host",
            subject=f"{domain} on port {number}",
            objects=f"virtual host {vhost.name}",
            runs="none" if found is None else f"only {string(found[0], 'name')}",
            by=tuple(m for m in owners if m is not None)[:1],
            resources=(resource,),
            presumes=() if known_host else scoped_out(mesh),
            host=domain,
            port=number,
        )
        return
    yield from _targets(mesh, client, vhost, found[0], domain, number, resource)


def _targets(
    mesh: Mesh,
    client: Workload,
    vhost: VirtualHost,
    real: Mapping[str, Any],
    domain: str,
    number: int,
    resource: ProxyResource,
) -> Iterator[Difference]:
    """The routes of one virtual host: what they ask and where they lead."""
    wanted, runs = _wanted(mesh, client, vhost, number), _runs(real)
    if set(wanted) == set(runs):
        return
    owners = (vhost.rules.meta if vhost.rules else None, vhost.service.meta if vhost.service else None)
    by = tuple(m for m in owners if m is not None)
    yield Difference(
        aspect="route",
        subject=f"{domain} on port {number}",
        objects=_said(wanted),
        runs=_said(runs),
        by=by,
        resources=(resource,),
        presumes=() if vhost.rules is not None else ("VirtualService",),
        host=domain,
        port=number,
    )


def _wanted(mesh: Mesh, client: Workload, vhost: VirtualHost, port: int) -> list[Target]:
    """What the objects make of a virtual host. istiod writes no route behind one that takes everything."""
    if vhost.rules is None:
        assert vhost.service is not None
        return [("prefix", "/", frozenset(), ((cluster_name(vhost.service.host, port), 100),))]
    out: list[Target] = []
    for route in vhost.rules.http:
        to = _destinations(mesh, client, route, port)
        groups: tuple[tuple[Match, ...], ...] = route.groups or ((),)
        for group in groups:
            if not all(applies_to_caller(m, client.namespace, client.labels, port) for m in group):
                continue
            out.append((*_path(group), _asked(group), to))
            if not any(_narrow(m) for m in group):
                return out
    return out


def _narrow(match: Match) -> bool:
    uri = match.uri is not None and (match.uri.kind, match.uri.value) != ("prefix", "/")
    return uri or any(
        (match.method, match.authority, match.scheme, match.headers, match.without, match.query)
    )


def _path(group: tuple[Match, ...]) -> tuple[str, str]:
    for match in group:
        if match.uri is not None:
            kind = {"exact": "path", "regex": "safe_regex"}.get(match.uri.kind, match.uri.kind)
            return kind, match.uri.value
    return "prefix", "/"


def _asked(group: tuple[Match, ...]) -> frozenset[str]:
    pseudo = {":method": "method", ":authority": "authority", ":scheme": "scheme"}
    names = {name for m in group for name, field in pseudo.items() if getattr(m, field) is not None}
    return frozenset(names | {name for m in group for name, _ in (*m.headers, *m.without, *m.query)})


def _destinations(mesh: Mesh, client: Workload, route: HttpRoute, port: int) -> tuple[tuple[str, int], ...]:
    if route.redirect is not None:
        return (("redirect", 0),)
    if route.direct is not None:
        return ((f"answer {route.direct[0]}", 0),)
    scope = mesh.scope_of(client)
    weighted = []
    for target in route.destinations:
        service, number = resolve(mesh, scope, target, port)
        name = cluster_name(service.host if service else target.host, number, target.subset)
        weighted.append((name, target.weight))
    return _weights(weighted)


def _weights(clusters: list[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """The clusters with the share that each has of all, in per cent; those without a share are left out."""
    if len(clusters) == 1:
        return ((clusters[0][0], 100),)
    total = sum(w for _, w in clusters)
    shares = [(n, round(100 * w / total)) for n, w in clusters if w > 0] if total > 0 else []
    return tuple(sorted(shares))


def _runs(vhost: Mapping[str, Any]) -> list[Target]:
    out: list[Target] = []
    for route in messages(vhost, "routes"):
        match = message(route, "match")
        kind, value = _real_path(match)
        if "redirect" in route:
            to: tuple[tuple[str, int], ...] = (("redirect", 0),)
        elif direct := message(route, "direct_response"):
            to = ((f"answer {get(direct, 'status')}", 0),)
        else:
            to = _weights(list(target_of(route, vhost, "/").clusters))
        asked = frozenset(
            string(m, "name").lower() if field == "headers" else string(m, "name")
            for field in ("headers", "query_parameters")
            for m in messages(match, field)
        )
        out.append((kind, value, asked, to))
        narrow = asked or get(match, "runtime_fraction")
        if (kind, value) == ("prefix", "/") and not narrow and flag(match, "case_sensitive", default=True):
            break
    return out


def _real_path(match: Mapping[str, Any]) -> tuple[str, str]:
    for field in ("prefix", "path", "path_separated_prefix"):
        value = get(match, field)
        if isinstance(value, str):
            return ("prefix" if field == "path_separated_prefix" else field), value
    return "safe_regex", string(match, "safe_regex", "regex")


def _said(targets: list[Target]) -> str:
    lines = []
    for kind, value, asked, to in targets[:4]:
        where = "" if (kind, value) == ("prefix", "/") else f"{kind} {value} "
        where += f"with {', '.join(sorted(asked))} " if asked else ""
        shares = ", ".join(n if len(to) == 1 else f"{n} {w} %" for n, w in to) or "nowhere"
        lines.append(f"{where}to {shares}")
    return (
        "; ".join(lines) + (f" and {len(targets) - 4} more routes" if len(targets) > 4 else "") or "no route"
    )
