"""Clusters, their TLS and their endpoints: what istiod would make of the objects beside what the proxy has."""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.hops.mesh.clusters import build_cluster, client_tls, cluster_name, rule_for
from deadhop.hops.mesh.decode import Meta, address, selector_matches
from deadhop.hops.mesh.destinationrule import DestinationRule, Policy
from deadhop.hops.mesh.listeners import in_scope
from deadhop.hops.mesh.mesh import Mesh
from deadhop.hops.mesh.protocol import Family
from deadhop.hops.mesh.proxy.config import ProxyConfig
from deadhop.hops.mesh.proxy.difference import Difference, scoped_out
from deadhop.hops.mesh.proxy.sockets import MATCH_KEY, client_socket
from deadhop.hops.mesh.workload import Workload
from deadhop.hops.service.registry import MeshService, Resolution, ServicePort
from deadhop.model.observed.proxy import ProxyResource
from deadhop.model.proto_json import message, messages, socket_address, string
from deadhop.snapshot.istio import cluster_parts

#: What a cluster uses for a host that takes mutual TLS and for one that does not.
_EXPECTED = {
    "auto": ("istio", "none"),
    "istio": ("istio", "istio"),
    "user": ("user", "user"),
    "none": ("none", "none"),
}
NOWHERE = "0.0.0.0"
_WORD = {"istio": "mutual TLS", "user": "TLS of its own", "none": "plain text"}
_SAID = {
    ("istio", "none"): "mutual TLS for endpoints that take it (auto-mTLS)",
    ("istio", "istio"): "mutual TLS",
    ("user", "user"): "TLS of its own",
    ("none", "none"): "plain text",
}


def clusters(mesh: Mesh, client: Workload, proxy: ProxyConfig) -> Iterator[Difference]:
    """The differences in outbound clusters."""
    ports: dict[str, set[int]] = {}
    for name in proxy.clusters:
        parts = cluster_parts(name)
        if parts is not None and parts.direction == "outbound" and parts.port is not None:
            ports.setdefault(parts.host, set()).add(parts.port)
    scope = mesh.scope_of(client)
    for service in mesh.services:
        if service.resolution is Resolution.ALIAS:
            continue
        rule = rule_for(mesh, client, service)
        for port in service.ports:
            if port.protocol.family is Family.UDP or not in_scope(mesh, scope, service, port.number):
                continue
            subsets = ("", *(rule.subsets if rule else ()))
            for subset in subsets:
                name = cluster_name(service.host, port.number, subset)
                real = proxy.clusters.get(name)
                if real is not None:
                    yield from _tls(mesh, client, service, port, rule, subset, proxy, real)
                    yield from _endpoints(mesh, service, port, rule, subset, proxy, real)
                elif "cluster" in proxy.whole:
                    missing = _missing(mesh, service, port, rule, subset, ports, proxy)
                    if missing is not None:
                        yield missing


def _missing(
    mesh: Mesh,
    service: MeshService,
    port: ServicePort,
    rule: DestinationRule | None,
    subset: str,
    ports: dict[str, set[int]],
    proxy: ProxyConfig,
) -> Difference | None:
    held = ports.get(service.host, set())
    if subset and port.number not in held:
        return None
    others = tuple(
        r
        for n, r in proxy.clusters.items()
        if (p := cluster_parts(n)) is not None and p.host == service.host and p.direction == "outbound"
    )
    name = cluster_name(service.host, port.number, subset)
    runs = f"only port {', '.join(map(str, sorted(held)))}" if held and not subset else "none"
    by: tuple[Meta, ...] = (rule.meta,) if subset and rule else (service.meta,)
    return Difference(
        aspect="cluster",
        subject=name,
        objects=f"subset {subset}" if subset else f"a cluster for port {port.number}",
        runs=runs,
        by=by,
        resources=others[:4],
        # A service of which the proxy has nothing may be out of its scope.
        presumes=() if held else scoped_out(mesh),
        host=service.host,
        port=port.number,
    )


def _tls(
    mesh: Mesh,
    client: Workload,
    service: MeshService,
    port: ServicePort,
    rule: DestinationRule | None,
    subset: str,
    proxy: ProxyConfig,
    real: ProxyResource,
) -> Iterator[Difference]:
    policy = rule.effective(port.number, subset) if rule else Policy()
    original = service.resolution is Resolution.PASSTHROUGH or policy.load_balancer == "PASSTHROUGH"
    tls, why = client_tls(mesh, service, port, policy, original, str(rule.meta) if rule else "")
    shown = None if original else _shown(proxy, real)
    if original:
        one, own = _EXPECTED["istio" if tls == "auto" else tls][0], _socket(real, "")
        said, has, same = _WORD.get(one, one), _WORD.get(own, own), own in (one, "")
    elif shown is None:
        wanted = _EXPECTED[tls]
        runs = (_socket(real, "istio"), _socket(real, ""))
        said, has = _SAID.get(wanted, ""), _SAID.get(runs, " and ".join(runs))
        same = runs == wanted or "" in runs
    else:
        derived = build_cluster(mesh, client, service, port, subset, (NOWHERE, port.number))
        mine = {(h.address, h.port): h.tls for h in derived.hosts if h.sure} if derived else {}
        unlike = {a: (mine[a], t) for a, t in _members(shown, real) if a in mine and t and mine[a] != t}
        first = next(iter(sorted(unlike.items())), (("", 0), ("", "")))
        said, has = (f"{_WORD.get(t, t)} for {first[0][0]}:{first[0][1]}" for t in first[1])
        same = not unlike
    if same:
        names = _names(mesh, client, service, port, subset, real)
        if names is None:
            return
        said, has = names
    peer = mesh.peer.namespace_mode(service.namespace).decided_by
    decider = rule.meta if rule is not None and policy.tls is not None else peer
    absent = () if decider is not None else ("DestinationRule", "PeerAuthentication", "ConfigMap")
    if original and decider is None:
        # Whether every endpoint of a headless service has a sidecar is what its slices and pods say.
        absent = (*absent, "EndpointSlice")
    yield Difference(
        aspect="tls",
        subject=real.name,
        objects=f"{said} ({why})",
        runs=has,
        by=(service.meta, *((decider,) if decider is not None else ())),
        resources=(real,) if shown is None else (real, shown),
        presumes=absent,
        host=service.host,
        port=port.number,
    )


def _names(
    mesh: Mesh, client: Workload, service: MeshService, port: ServicePort, subset: str, real: ProxyResource
) -> tuple[str, str] | None:
    """The server names that the client accepts, where both sides name some and have none in common."""
    derived = build_cluster(mesh, client, service, port, subset, (NOWHERE, port.number))
    wanted = derived.sans if derived is not None and mesh.config.said else ()
    if any(name.endswith("/sa/default") for name in wanted):
        return None  # a pod that does not say its service account
    runs = client_socket(real.raw, {MATCH_KEY: {"tlsMode": "istio", "tls": "istio"}}).sans
    if not wanted or not runs or set(wanted) & set(runs):
        return None
    return f"servers named {', '.join(wanted[:3])}", f"only {', '.join(runs[:3])}"


def _socket(real: ProxyResource, mode: str) -> str:
    return client_socket(real.raw, {MATCH_KEY: {"tlsMode": mode} if mode else {}}).tls


def _shown(proxy: ProxyConfig, real: ProxyResource) -> ProxyResource | None:
    """The endpoints of a cluster with their metadata, where the dump has them."""
    name = string(real.raw, "eds_cluster_config", "service_name") or real.name
    return proxy.endpoints.get(name) or proxy.endpoints.get(real.name)


def _members(shown: ProxyResource, real: ProxyResource) -> Iterator[tuple[tuple[str, int], str]]:
    for locality in messages(shown.raw, "endpoints"):
        for entry in messages(locality, "lb_endpoints"):
            where = socket_address(entry, "endpoint", "address")
            if where is not None:
                socket = client_socket(real.raw, message(entry, "metadata", "filter_metadata"))
                yield (address(where[0]), where[1]), socket.tls


def _endpoints(
    mesh: Mesh,
    service: MeshService,
    port: ServicePort,
    rule: DestinationRule | None,
    subset: str,
    proxy: ProxyConfig,
    real: ProxyResource,
) -> Iterator[Difference]:
    said = mesh.of_kind("EndpointSlice") or mesh.of_kind("Endpoints")
    if (
        service.resolution is not Resolution.CLIENT_SIDE_LB
        or string(real.raw, "type") == "ORIGINAL_DST"
        or not said
    ):
        return
    shown = _shown(proxy, real) or proxy.hosts.get(real.name)
    if shown is None:
        return
    labels = rule.subsets[subset].labels if rule and subset in rule.subsets else {}
    chosen = [(e, n) for e, n in service.ready_endpoints(port) if selector_matches(labels, e.labels)]
    wanted = {(e.address, n) for e, n in chosen}
    known = {(e.address, n) for e in service.endpoints if (n := e.port_for(port)) is not None}
    has = _held(shown)
    spoken = {":" in ip for ip, _ in has}
    lacking = {a for a in wanted - has if not has or (":" in a[0]) in spoken}
    stale = has - known
    if not lacking and not stale:
        return
    yield Difference(
        aspect="endpoints",
        subject=real.name,
        objects=_listed(wanted),
        runs=_listed(has),
        by=(service.meta,),
        resources=(shown,),
        # Endpoints of another cluster of the mesh stand in no object of this one.
        presumes=_unseen(service, bool(lacking)),
        host=service.host,
        port=port.number,
    )


def _unseen(service: MeshService, lacking: bool) -> tuple[str, ...]:
    if not service.endpoints:
        return ("EndpointSlice",)
    return () if lacking else ("another cluster",)


def _held(shown: ProxyResource) -> set[tuple[str, int]]:
    if shown.kind == "hosts":
        found = [socket_address(h, "address") for h in messages(shown.raw, "host_statuses")]
    else:
        found = [
            socket_address(e, "endpoint", "address")
            for locality in messages(shown.raw, "endpoints")
            for e in messages(locality, "lb_endpoints")
        ]
    return {(address(a[0]), a[1]) for a in found if a is not None}


def _listed(hosts: set[tuple[str, int]]) -> str:
    shown = [f"{ip}:{number}" for ip, number in sorted(hosts)]
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "") or "no endpoint"
