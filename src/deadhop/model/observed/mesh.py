"""Envoy and Istio output."""

from __future__ import annotations

from deadhop.model.record import Record


class EnvoyAccess(Record, frozen=True, kw_only=True):
    """An access-log line in Istio's default format, text or JSON. Flags are a set: their order carries no meaning."""

    method: str = ""
    path: str = ""
    protocol: str = ""
    status: int = 0
    flags: frozenset[str] = frozenset()
    details: str = ""
    termination: str = ""
    transport_failure: str = ""
    received: int | None = None
    sent: int | None = None
    duration_ms: int | None = None
    user_agent: str = ""
    request_id: str = ""
    authority: str = ""
    upstream_host: str = ""
    cluster: str = ""
    upstream_local: str = ""
    downstream_local: str = ""
    downstream_remote: str = ""
    sni: str = ""
    route: str = ""
    forwarded_for: str = ""

    @property
    def inbound(self) -> bool:
        return self.cluster.startswith("inbound|")


class EnvoyListener(Record, frozen=True, kw_only=True):
    """A listener of a proxy: address, port, what it matches, where it leads."""

    name: str = ""
    address: str
    port: int
    destination: str = ""
    http: bool | None = None
    chains: tuple[str, ...] = ()


class EnvoyCluster(Record, frozen=True, kw_only=True):
    """A cluster of a proxy, with what is known of its endpoints (``address:port health``)."""

    name: str
    type: str = ""
    endpoints: tuple[str, ...] | None = None
    rule: str = ""
    sni: str = ""


class EnvoyRouteHost(Record, frozen=True, kw_only=True):
    """A virtual host of a route configuration."""

    route: str
    vhost: str = ""
    domains: tuple[str, ...] = ()


class ProxySync(Record, frozen=True, kw_only=True):
    """One row of ``istioctl proxy-status``: resource kind to SYNCED, STALE or NOT SENT."""

    proxy: str
    states: tuple[tuple[str, str], ...]
    version: str = ""


class EnvoyEndpoint(Record, frozen=True, kw_only=True):
    """One row of ``istioctl proxy-config endpoints``: ``address:port``, its health and its cluster."""

    address: str
    status: str = ""
    cluster: str = ""


class MeshVersion(Record, frozen=True, kw_only=True):
    """The release that a part of the mesh runs: ``role`` is ``client``, ``control-plane`` or ``data-plane``."""

    role: str
    version: str
    name: str = ""
    count: int | None = None
