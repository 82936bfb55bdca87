"""One proxy's configuration, ready to ask: serving listeners by address, routes, clusters and endpoints by name.

A resource that warms does not serve yet, one that drains no longer does, a rejected one never did; each leaves the
version before it in place, if there is one. Reference: envoy ``api/envoy/admin/v3/config_dump_shared.proto``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deadhop.hops.mesh.vhost import VirtualHosts
from deadhop.model.observed.proxy import ProxyResource
from deadhop.model.proto_json import flag, get, messages, socket_address, string
from deadhop.model.record import Source
from deadhop.snapshot.proxies import ProxyState

SERVING = ("static", "active")


class ProxyConfig:
    """What one proxy runs. ``whole``: the kinds of which nothing is missing. ``role`` is the node's type."""

    def __init__(
        self,
        owner: str,
        resources: Iterable[ProxyResource],
        whole: Iterable[str] = (),
        role: str = "",
        envoy: str = "",
    ) -> None:
        self.owner, self.role, self.envoy = owner, role, envoy
        self.whole = frozenset(whole)
        self.listeners: dict[str, ProxyResource] = {}
        self.routes: dict[str, ProxyResource] = {}
        self.clusters: dict[str, ProxyResource] = {}
        self.endpoints: dict[str, ProxyResource] = {}
        self.hosts: dict[str, ProxyResource] = {}
        self.warming: list[ProxyResource] = []
        self.rejected: list[ProxyResource] = []
        tables = {
            "listener": self.listeners,
            "route": self.routes,
            "cluster": self.clusters,
            "endpoints": self.endpoints,
            "hosts": self.hosts,
        }
        for resource in resources:
            if resource.state in SERVING:
                tables[resource.kind][resource.name] = resource
            elif resource.state == "warming":
                self.warming.append(resource)
            elif resource.state == "rejected":
                self.rejected.append(resource)
        self.by_address: dict[tuple[str, int], ProxyResource] = {}
        for listener in self.listeners.values():
            if usable(listener):
                for where in addresses(listener.raw):
                    self.by_address.setdefault(where, listener)
        self._tables: dict[int, tuple[Mapping[str, Any], VirtualHosts[Mapping[str, Any]]]] = {}

    @classmethod
    def of(cls, state: ProxyState) -> ProxyConfig:
        """The configuration that the readings of one proxy add up to."""
        return cls(state.owner, state.resources, state.whole, state.role, state.envoy)

    @property
    def router(self) -> bool:
        """Is it a gateway's proxy, whose listeners are bound and not reached through iptables?

        Without a node to say so: it has a gateway's route configurations and no listener that iptables redirects to.
        """
        if self.role:
            return self.role in ("router", "waypoint")
        captured = {"virtualOutbound", "virtualInbound"} & self.listeners.keys()
        return not captured and any(name.startswith(("http.", "https.")) for name in self.routes)

    def default_listener(self, outbound: bool) -> ProxyResource | None:
        """``virtualOutbound`` or ``virtualInbound``: the listener that iptables redirects to."""
        name, port = ("virtualOutbound", 15001) if outbound else ("virtualInbound", 15006)
        found = self.listeners.get(name)
        if found is not None and usable(found):
            return found
        return self.by_address.get(("0.0.0.0", port)) or self.by_address.get(("::", port))

    def captured(self, ip: str, port: int, outbound: bool) -> ProxyResource | None:
        """The listener for an original destination: its exact address, the wildcard of its port, the default.

        Reference: envoy ``source/server/active_tcp_listener.cc`` (``getBalancedHandlerByAddress``).
        """
        wildcard = "::" if ":" in ip else "0.0.0.0"
        for where in ((ip, port), (wildcard, port), ("0.0.0.0", port)):
            found = self.by_address.get(where)
            if found is not None and suits(found, outbound):
                return found
        return self.default_listener(outbound)

    def virtual_hosts(self, route: Mapping[str, Any]) -> VirtualHosts[Mapping[str, Any]]:
        """The virtual hosts of a route configuration, compiled for matching."""
        held = self._tables.get(id(route))
        if held is None:
            table: VirtualHosts[Mapping[str, Any]] = VirtualHosts(flag(route, "ignore_port_in_host_matching"))
            held = self._tables[id(route)] = (route, table)
            for vhost in messages(route, "virtual_hosts"):
                domains = get(vhost, "domains")
                for domain in domains if isinstance(domains, list) else ():
                    if isinstance(domain, str):
                        table.add(domain, vhost)
        return held[1]

    def sources(self, *resources: ProxyResource | None) -> tuple[Source, ...]:
        """Where these resources stand."""
        return tuple(r.source for r in resources if r is not None)


def usable(listener: ProxyResource) -> bool:
    """Does the listener say what it does? A mask may have taken its chains."""
    return next(messages(listener.raw, "filter_chains"), None) is not None or bool(
        get(listener.raw, "default_filter_chain")
    )


def suits(listener: ProxyResource, outbound: bool) -> bool:
    """Does the listener serve that direction? One that does not say serves both."""
    said = string(listener.raw, "traffic_direction")
    return said not in (("INBOUND",) if outbound else ("OUTBOUND",))


def addresses(listener: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Every address of a listener."""
    found = [socket_address(listener, "address")]
    found += [socket_address(more, "address") for more in messages(listener, "additional_addresses")]
    return [a for a in found if a is not None]


Proxies = Mapping[str, ProxyConfig]
