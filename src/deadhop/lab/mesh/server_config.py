"""The server side's bootstrap: for every captured pod port a listener with Istio's inbound filter chains."""

from __future__ import annotations

from pathlib import Path

import msgspec

from deadhop.hops.mesh.front import inbound_port
from deadhop.hops.mesh.mesh import Mesh
from deadhop.hops.mesh.mtls_server import Mode
from deadhop.hops.mesh.protocol import Family
from deadhop.hops.mesh.workload import Workload
from deadhop.lab.mesh import config_common as c
from deadhop.lab.mesh.config_common import Json
from deadhop.lab.mesh.rbac import network_filters, rbac_filters


class Inbound(msgspec.Struct, frozen=True):
    """One pod port: where it is listened on, where the application is, and the server's certificate."""

    pod: Workload
    ip: str
    port: int
    also: tuple[tuple[str, int], ...]
    app_port: int
    cert: Path
    key: Path
    root: Path


def server_bootstrap(mesh: Mesh, ports: list[Inbound], log: Path) -> Json:
    """All server sidecars in one process: they share nothing but the process."""
    listeners = [_listener(mesh, p, log) for p in ports]
    return c.bootstrap(listeners, [_cluster(mesh, p) for p in ports])


def _name(p: Inbound) -> str:
    return f"inbound|{p.port}||{p.ip}"


def _cluster(mesh: Mesh, p: Inbound) -> Json:
    protocol = inbound_port(mesh, p.pod, p.port).protocol
    mode = c.H2 if protocol.http2 else c.AS_DOWNSTREAM if protocol.family is Family.AUTO else c.H1
    return {
        "name": _name(p),
        "type": "STATIC",
        "connect_timeout": c.seconds(mesh.config.connect_timeout),
        "typed_extension_protocol_options": c.http_options(mode),
        "load_assignment": {
            "cluster_name": _name(p),
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": c.socket_address("127.0.0.1", p.app_port)}}]}
            ],
        },
    }


def _listener(mesh: Mesh, p: Inbound, log: Path) -> Json:
    mode = mesh.peer.mode(p.pod.namespace, p.pod.labels, p.port).mode
    found = inbound_port(mesh, p.pod, p.port)
    retry = {"retry_on": "reset-before-request", "num_retries": 2}
    action: Json = {"cluster": _name(p), "timeout": "0s"}
    if mesh.config.inbound_retries and found.protocol.name not in ("grpc", "grpc-web"):
        action["retry_policy"] = retry
    routes = {
        "virtual_hosts": [
            {
                "name": "inbound|http",
                "domains": ["*"],
                "routes": [{"name": "default", "match": {"prefix": "/"}, "route": action}],
            }
        ]
    }
    policies = mesh.authz.of(p.pod.namespace, p.pod.labels)
    http = c.http_manager(routes, log, p.pod.http10, rbac_filters(policies))
    tcp = c.tcp_proxy(_name(p), log)
    return {
        "name": f"{p.ip}_{p.port}",
        "address": c.socket_address(p.ip, p.port),
        "enable_reuse_port": False,
        "additional_addresses": [{"address": c.socket_address(*a)} for a in p.also],
        # Without a chain that terminates TLS nothing inspects for it, and TLS bytes count as raw.
        "listener_filters": [*([] if mode is Mode.DISABLE else [c.TLS_INSPECTOR]), c.HTTP_INSPECTOR],
        "listener_filters_timeout": "0s",
        "continue_on_listener_filters_timeout": True,
        "access_log": c.access_log(log, only_no_route=True),
        "filter_chains": chains(mode, found.protocol.family, p, http, [*network_filters(policies), tcp]),
    }


def chains(mode: Mode, family: Family, p: Inbound, http: Json, tcp: list[Json]) -> list[Json]:
    """The filter chains of ``getFilterChainMatchOptions`` for one port."""
    secure = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": c.TYPE + "transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": c.tls_files(p.cert, p.key, p.root, ["h2", "http/1.1"]),
            "require_client_certificate": True,
        },
    }
    plain_http = ["http/1.1", "h2c", *(["http/1.0"] if p.pod.http10 else [])]

    def chain(
        name: str, match: Json, filters: list[Json], terminate: bool = False, alpn: list[str] | None = None
    ) -> Json:
        wanted = {**match, **({"application_protocols": alpn} if alpn else {})}
        out: Json = {"name": name, "filter_chain_match": wanted, "filters": filters}
        return out | ({"transport_socket": secure} if terminate else {})

    match mode, family:
        case Mode.STRICT, Family.HTTP:
            return [chain("http-mtls", c.TLS, [http], True)]
        case Mode.STRICT, Family.TCP:
            return [chain("tcp-mtls", c.TLS, tcp, True)]
        case Mode.STRICT, _:
            return [
                chain("auto-http-mtls", c.TLS, [http], True, c.ISTIO_HTTP_ALPN),
                chain("auto-tcp-mtls", c.TLS, tcp, True),
            ]
        case Mode.PERMISSIVE, Family.HTTP:
            return [chain("http-mtls", c.TLS, [http], True, c.ISTIO_ALPN), chain("http-raw", c.RAW, [http])]
        case Mode.PERMISSIVE, Family.TCP:
            return [
                chain("tcp-mtls", c.TLS, tcp, True, c.ISTIO_ALPN),
                chain("tcp-foreign", c.TLS, tcp),
                chain("tcp-raw", c.RAW, tcp),
            ]
        case Mode.PERMISSIVE, _:
            return [
                chain("auto-http-mtls", c.TLS, [http], True, c.ISTIO_HTTP_ALPN),
                chain("auto-http-raw", c.RAW, [http], alpn=plain_http),
                chain("auto-tcp-mtls", c.TLS, tcp, True, ["istio-peer-exchange", "istio"]),
                chain("auto-tcp-raw", c.RAW, tcp),
                chain("auto-foreign", c.TLS, tcp),
            ]
        case _, Family.HTTP:
            return [chain("http-raw", {}, [http])]
        case _, Family.TCP:
            return [chain("tcp-raw", {}, tcp)]
    return [chain("auto-http-raw", c.RAW, [http], alpn=plain_http), chain("auto-tcp-raw", c.RAW, tcp)]
