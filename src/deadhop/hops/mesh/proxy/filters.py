"""The filters of a chain: an HTTP connection manager or a TCP proxy, and what stands before them.

Reference: envoy ``config/listener/v3/listener_components.proto``, ``filters/network/*/v3``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from deadhop.hops.mesh.context import Context
from deadhop.hops.mesh.farend import Arrival
from deadhop.hops.mesh.proxy.chains import Bytes, Chain, find_chain, inspects, named
from deadhop.hops.mesh.proxy.config import ProxyConfig
from deadhop.model.observed.proxy import ProxyResource
from deadhop.model.proto_json import flag, get, message, messages, string, type_of

#: Filters that end no request by themselves, or that are judged elsewhere (by the words of their names).
HARMLESS = (
    "router", "cors", "fault", "stats", "alpn", "metadata", "peer_metadata", "grpc_web", "rbac", "authn", "jwt_authn",
    "compressor", "decompressor", "set_filter_state", "connect_authority", "access_log", "tap", "http_inspector",
    "original_src", "upstream_codec", "health_check", "forward_downstream_sni", "sni_cluster", "stateful_session",
)  # fmt: skip
_MESH_HTTP = {"http/2": "istio-h2", "http/1.0": "istio-http/1.0"}
_SNIFFED = {"http/1.1": ("http/1.1",), "http/1.0": ("http/1.0",), "http/2": ("h2c",)}


class Outlet(msgspec.Struct, frozen=True):
    """What a listener does with a connection: ``manager`` (HTTP) or ``tcp``; without either another protocol."""

    listener: ProxyResource
    chain: Chain
    manager: Mapping[str, Any] | None
    tcp: Mapping[str, Any] | None
    before: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        return f"{self.listener.name} {named(self.chain)}"


def in_tls(arrival: Arrival) -> bool:
    """Do TLS bytes arrive?"""
    return arrival.tls != "none" or arrival.payload in ("tls", "partial-tls")


def sniffed(listener: Mapping[str, Any], arrival: Arrival, ip: str, port: int) -> Bytes:
    """What the listener's own filters find out about a connection."""
    secure = in_tls(arrival) and inspects(listener, "tls_inspector", port)
    alpn: tuple[str, ...] = ()
    if secure:
        if arrival.tls != "istio":
            alpn = ("h2", "http/1.1")
        elif arrival.http:
            alpn = (_MESH_HTTP.get(arrival.payload, "istio-http/1.1"), "istio")
        else:
            alpn = ("istio-peer-exchange", "istio")
    elif not in_tls(arrival) and inspects(listener, "http_inspector", port):
        alpn = _SNIFFED.get(arrival.payload, ())
    protocol = "tls" if secure else "raw_buffer"
    return Bytes(ip, port, arrival.source_ip, protocol, alpn, arrival.sni if secure else "")


def outlet(listener: ProxyResource, seen: Bytes) -> Outlet | None:
    """The chain that takes a connection and its filters, None where none does. Raises :class:`LookupError`."""
    chain = find_chain(listener.raw, seen)
    if chain is None:
        return None
    manager = tcp = None
    before: list[Mapping[str, Any]] = []
    for item in messages(chain, "filters"):
        config = message(item, "typed_config") or message(item, "config")
        name = type_of(config) or string(item, "name")
        if name == "HttpConnectionManager" or name.endswith("http_connection_manager"):
            manager = config
            break
        if name == "TcpProxy" or name.endswith("tcp_proxy"):
            tcp = config
            break
        before.append(item)
    return Outlet(listener, chain, manager, tcp, tuple(before))


def route_config(
    proxy: ProxyConfig, manager: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any] | None, ProxyResource | None]:
    """The name of a manager's route configuration, and the configuration where the dump has it."""
    inline = message(manager, "route_config")
    if inline:
        return string(inline, "name"), inline, proxy.routes.get(string(inline, "name"))
    name = string(manager, "rds", "route_config_name")
    resource = proxy.routes.get(name)
    raw = resource.raw if resource is not None and get(resource.raw, "virtual_hosts") is not None else None
    if raw is None and resource is None and "route" in proxy.whole:
        raw = {"name": name}
    return name, raw, resource


def strange(ctx: Context, filters: Mapping[str, Any], field: str, where: str) -> None:
    """Record the filters that may answer or change a request and that this model does not evaluate."""
    for item in messages(filters, field):
        if flag(item, "disabled"):
            continue
        said = string(item, "name")
        word = said.rpartition(".")[2].lower()
        kind = type_of(message(item, "typed_config")).lower()
        if not any(h == word or h.replace("_", "") == kind or word.endswith(h) for h in HARMLESS):
            ctx.lacks(f"what the filter {said or kind} of {where} does")
