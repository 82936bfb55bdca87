"""Outbound listeners: which one would take a connection by the objects, beside the one that the proxy has for it."""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.hops.mesh.listeners import Listener, choose_listener
from deadhop.hops.mesh.mesh import Mesh
from deadhop.hops.mesh.proxy.config import ProxyConfig
from deadhop.hops.mesh.proxy.difference import Difference, scoped_out
from deadhop.hops.mesh.routes import families
from deadhop.hops.mesh.workload import Workload
from deadhop.model.observed.proxy import ProxyResource

NOWHERE = "0.0.0.0"
DEFAULT = "virtualOutbound"


def listeners(mesh: Mesh, client: Workload, proxy: ProxyConfig) -> Iterator[Difference]:
    """The addresses for which another listener serves. Only a whole dump can lack one."""
    if "listener" not in proxy.whole or proxy.default_listener(True) is None:
        return
    scope = mesh.scope_of(client)
    if scope.sidecar is not None and any(listener.port is not None for listener in scope.listeners):
        return  # its egress listeners have addresses of their own
    own = families(client)
    # What the proxy has beyond that may belong to a Service that was not collected.
    wanted = [*mesh.by_address, *((NOWHERE, port) for port in mesh.by_port)]
    for ip, port in dict.fromkeys(wanted):
        derived = choose_listener(mesh, scope, client.ips, ip, port)
        runs = proxy.captured(ip, port, outbound=True)
        if runs is None or _name(proxy, runs, ip, port) == derived.name or ip in client.ips:
            continue
        if ("IPv6" if ":" in ip else "IPv4") not in own:
            continue
        yield _difference(mesh, proxy, derived, runs, ip, port)


def _name(proxy: ProxyConfig, listener: ProxyResource, ip: str, port: int) -> str:
    if listener is proxy.default_listener(True):
        return DEFAULT
    return f"{ip}_{port}" if (ip, port) in proxy.by_address else f"{NOWHERE}_{port}"


def _difference(
    mesh: Mesh, proxy: ProxyConfig, derived: Listener, runs: ProxyResource, ip: str, port: int
) -> Difference:
    owner = derived.service
    if owner is None:
        owner = next((s for s, _ in mesh.by_port.get(port, ()) if str(s.meta) == derived.decided_by), None)
    known = owner is not None and any(f"||{owner.host}" in name for name in proxy.clusters)
    presumes: tuple[str, ...] = ("Service", "EndpointSlice") if owner is None else ()
    if owner is not None and not known:
        presumes = scoped_out(mesh)
    if owner is not None and owner.headless:
        presumes = ("EndpointSlice",)
    return Difference(
        aspect="listener",
        subject=f"{ip}:{port}",
        objects=f"listener {derived.name}",
        runs=f"listener {_name(proxy, runs, ip, port)}",
        by=(owner.meta,) if owner is not None else (),
        resources=(runs,),
        presumes=presumes,
        host=owner.host if owner is not None else "",
        port=port,
    )
