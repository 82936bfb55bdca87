"""Envoy protos, as JSON, that both sidecars of the oracle share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

Json = dict[str, Any]
TYPE = "type.googleapis.com/envoy.extensions."
HCM = TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
ISTIO_HTTP_ALPN = ["istio-http/1.0", "istio-http/1.1", "istio-h2"]
ISTIO_ALPN = ["istio-peer-exchange", "istio", *ISTIO_HTTP_ALPN]
RAW = {"transport_protocol": "raw_buffer"}
TLS = {"transport_protocol": "tls"}


SLOT = os.getpid() % 16
TLS_VERSIONS = {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}


def loopback(ip: str) -> str:
    """Where an address of the world lives in the oracle: 10.a.b.c (b below 16) at 127.a.(16*slot+b).c.

    The slot follows the process, so that runs beside each other do not meet.
    """
    parts = ip.split(".")
    if len(parts) != 4 or parts[0] != "10":
        return ip
    return f"127.{parts[1]}.{(int(parts[2]) + 16 * SLOT) % 256}.{parts[3]}"


def socket_address(ip: str, port: int) -> Json:
    ip = loopback(ip)
    return {"socket_address": {"address": ip, "port_value": port}}


def access_log(path: Path, only_no_route: bool = False) -> list[Json]:
    """One JSON line per request or connection, or only for connections that no filter chain took."""
    fields = {
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "cluster": "%UPSTREAM_CLUSTER_RAW%",
        "route": "%ROUTE_NAME%",
        "code": "%RESPONSE_CODE%",
    }
    log: Json = {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": TYPE + "access_loggers.file.v3.FileAccessLog",
            "path": str(path),
            "log_format": {"json_format": fields},
        },
    }
    if only_no_route:
        log["filter"] = {"response_flag_filter": {"flags": ["NR"]}}
    return [log]


def tls_files(cert: Path, key: Path, root: Path, alpn: list[str]) -> Json:
    """The part of a TLS context that both directions have."""
    return {
        "tls_certificates": [
            {"certificate_chain": {"filename": str(cert)}, "private_key": {"filename": str(key)}}
        ],
        "validation_context": {"trusted_ca": {"filename": str(root)}},
        "alpn_protocols": alpn,
        "tls_params": TLS_VERSIONS,
    }


def listener_filter(name: str, kind: str) -> Json:
    return {"name": name, "typed_config": {"@type": f"{TYPE}filters.listener.{kind}"}}


TLS_INSPECTOR = listener_filter("envoy.filters.listener.tls_inspector", "tls_inspector.v3.TlsInspector")
HTTP_INSPECTOR = listener_filter("envoy.filters.listener.http_inspector", "http_inspector.v3.HttpInspector")
PROXY_PROTOCOL = listener_filter("envoy.filters.listener.proxy_protocol", "proxy_protocol.v3.ProxyProtocol")


def router() -> Json:
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": TYPE + "filters.http.router.v3.Router"},
    }


def http_manager(routes: Json, log: Path, http10: bool, filters: list[Json] | None = None) -> Json:
    """An HTTP connection manager filter; the server's side has ``filters`` and names the caller to the application."""
    inbound = filters is not None
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": HCM,
            "stat_prefix": "http",
            "route_config": routes,
            "http_filters": [*(filters or []), router()],
            "access_log": access_log(log),
            "stream_idle_timeout": "0s",
            "normalize_path": True,
            "use_remote_address": False,
            "forward_client_cert_details": "APPEND_FORWARD" if inbound else "SANITIZE",
            "set_current_client_cert_details": {"uri": True} if inbound else {},
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "http_protocol_options": {"accept_http_10": http10},
        },
    }


def tcp_proxy(cluster: str, log: Path) -> Json:
    """A TCP proxy filter."""
    return {
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": TYPE + "filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "tcp",
            "cluster": cluster,
            "access_log": access_log(log),
        },
    }


def http_options(mode: Json) -> Json:
    """Which HTTP version an upstream is spoken to in."""
    return {HTTP_OPTIONS: {"@type": "type.googleapis.com/" + HTTP_OPTIONS, **mode}}


H1: Json = {"explicit_http_config": {"http_protocol_options": {}}}
H2: Json = {"explicit_http_config": {"http2_protocol_options": {}}}
AS_DOWNSTREAM: Json = {
    "use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}
}


def seconds(value: float) -> str:
    return f"{value:.3f}s"


def bootstrap(listeners: list[Json], clusters: list[Json]) -> Json:
    """A static bootstrap with its admin endpoint on a free loopback port."""
    return {
        "admin": {"address": socket_address("127.0.0.1", 0)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }
