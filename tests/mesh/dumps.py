"""Configurations as istiod sends them and Envoy's admin port shows them, small: for the caller and the server of ``worlds``."""

from __future__ import annotations

import json
import re
from typing import Any

from deadhop.evidence import read_bytes
from deadhop.hops.mesh.api import ProxyConfig
from deadhop.model.observed.proxy import ProxyDump, ProxyResource
from deadhop.model.record import Record
from deadhop.snapshot.proxies import by_proxy

Json = dict[str, Any]
EXT = "type.googleapis.com/envoy.extensions."
ORDERS = "orders.shop.svc.cluster.local"
CLUSTER = f"outbound|80||{ORDERS}"
UPDATED = "2026-03-02T09:00:00.000Z"
SDS = {
    "tls_certificate_sds_secret_configs": [{"name": "default"}],
    "combined_validation_context": {
        "default_validation_context": {
            "match_subject_alt_names": [{"exact": "spiffe://cluster.local/ns/shop/sa/orders"}]
        }
    },
}
HTTP2 = {
    "typed_extension_protocol_options": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "explicit_http_config": {"http2_protocol_options": {}}
        }
    }
}


def address(ip: str, port: int) -> Json:
    return {"socket_address": {"address": ip, "port_value": port}}


def tls(direction: str, **more: Any) -> Json:
    config = {
        "@type": f"{EXT}transport_sockets.tls.v3.{direction}TlsContext",
        "common_tls_context": SDS,
        **more,
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}


def manager(**more: Any) -> Json:
    kind = f"{EXT}filters.network.http_connection_manager.v3.HttpConnectionManager"
    filters = [{"name": "istio.alpn"}, {"name": "envoy.filters.http.router"}]
    config = {"@type": kind, "http_filters": filters, **more}
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def rds(name: str) -> Json:
    return manager(rds={"route_config_name": name}, upgrade_configs=[{"upgrade_type": "websocket"}])


def tcp(cluster: str) -> Json:
    config = {"@type": f"{EXT}filters.network.tcp_proxy.v3.TcpProxy", "cluster": cluster}
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": config}


def inspector(what: str) -> Json:
    return {"name": f"envoy.filters.listener.{what}_inspector"}


def listener(ip: str, port: int, chains: list[Json], *, default: Json | None = None, **more: Any) -> Json:
    out = {"name": f"{ip}_{port}", "address": address(ip, port), "filter_chains": chains, **more}
    return out | ({"default_filter_chain": default} if default else {})


def sidecar_listener(port: int = 80) -> Json:
    match = {"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]}
    return listener(
        "0.0.0.0",
        port,
        [{"filter_chain_match": match, "filters": [rds(str(port))]}],
        default={"name": "PassthroughFilterChain", "filters": [tcp("PassthroughCluster")]},
        listener_filters=[inspector("http")],
        traffic_direction="OUTBOUND",
        bind_to_port=False,
    )


def virtual_outbound(cluster: str = "PassthroughCluster") -> Json:
    hole = {
        "name": "virtualOutbound-blackhole",
        "filter_chain_match": {"destination_port": 15001},
        "filters": [tcp("BlackHoleCluster")],
    }
    chains = [hole, {"name": "virtualOutbound-catchall-tcp", "filters": [tcp(cluster)]}]
    return listener("0.0.0.0", 15001, chains, use_original_dst=True, traffic_direction="OUTBOUND") | {
        "name": "virtualOutbound"
    }


def virtual_inbound(strict: bool = True, filters: list[Json] | None = None, port: int = 8080) -> Json:
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster": f"inbound|{port}||", "timeout": "0s"},
        "name": "default",
    }
    config = {"name": f"inbound|{port}||", "virtual_hosts": [{"name": "inbound|http|80", "domains": ["*"], "routes": [route]}]}  # fmt: skip
    http = manager(route_config=config)
    http["typed_config"]["http_filters"] = [*(filters or []), {"name": "envoy.filters.http.router"}]
    secure = {"filter_chain_match": {"destination_port": port, "transport_protocol": "tls"}, "name": f"0.0.0.0_{port}", "transport_socket": tls("Downstream", require_client_certificate=True), "filters": [http]}  # fmt: skip
    chains = [secure]
    if not strict:
        secure["filter_chain_match"]["application_protocols"] = ["istio-http/1.1", "istio-h2", "istio"]
        chains.append(
            {
                "filter_chain_match": {"destination_port": port, "transport_protocol": "raw_buffer"},
                "name": f"0.0.0.0_{port}",
                "filters": [http],
            }
        )
    return listener(
        "0.0.0.0",
        15006,
        chains,
        listener_filters=[inspector("tls"), inspector("http")],
        traffic_direction="INBOUND",
    ) | {"name": "virtualInbound"}


def cluster(name: str = CLUSTER, kind: str = "EDS", mesh_tls: bool = True, **more: Any) -> Json:
    out: Json = {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": name, "type": kind, "connect_timeout": "10s"}  # fmt: skip
    if kind == "EDS":
        out["eds_cluster_config"] = {"eds_config": {"ads": {}}, "service_name": name}
    if mesh_tls:
        out["transport_socket_matches"] = [
            {"name": "tlsMode-istio", "match": {"tlsMode": "istio"}, "transport_socket": tls("Upstream", sni=f"outbound_.80_._.{ORDERS}")},
            {"name": "tlsMode-disabled", "match": {}, "transport_socket": {"name": "envoy.transport_sockets.raw_buffer"}},
        ]  # fmt: skip
    return out | more


def builtin() -> list[Json]:
    passthrough = cluster("PassthroughCluster", "ORIGINAL_DST", False)
    return [passthrough, cluster("BlackHoleCluster", "STATIC", False)]


def assignment(
    name: str = CLUSTER, *members: tuple[str, int], mesh_tls: bool = True, health: str = "HEALTHY"
) -> Json:
    marks = {"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": "istio"}}} if mesh_tls else {}
    hosts = [
        {"endpoint": {"address": address(*m)}, "health_status": health, "metadata": marks}
        for m in members or (("10.244.0.10", 8080),)
    ]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]}


def route(to: str = CLUSTER, name: str = "default", **match: Any) -> Json:
    action = {
        "cluster": to,
        "timeout": "0s",
        "retry_policy": {"retry_on": "connect-failure,503", "num_retries": 2},
    }
    return {"match": match or {"prefix": "/"}, "route": action, "name": name}


def vhost(name: str, domains: list[str], *routes: Json) -> Json:
    return {"name": name, "domains": domains, "routes": list(routes)}


ALLOW_ANY = vhost("allow_any", ["*"], {"match": {"prefix": "/"}, "route": {"cluster": "PassthroughCluster", "timeout": "0s"}, "name": "allow_any"})  # fmt: skip


def routes(name: str = "80", *vhosts: Json) -> Json:
    orders = vhost(f"{ORDERS}:80", [ORDERS, "orders.shop", "10.96.0.10"], route())
    return {
        "name": name,
        "virtual_hosts": list(vhosts or (orders, ALLOW_ANY)),
        "ignore_port_in_host_matching": True,
    }


def node(pod: str = "caller", namespace: str = "web", role: str = "sidecar", ip: str = "10.244.9.9") -> Json:
    version = {"version": {"major_number": 1, "minor_number": 40}}
    return {
        "id": f"{role}~{ip}~{pod}.{namespace}~{namespace}.svc.cluster.local",
        "user_agent_build_version": version,
    }


def config_dump(
    *,
    who: Json | None = None,
    listeners: list[Json] | None = None,
    route_configs: list[Json] | None = None,
    clusters: list[Json] | None = None,
    endpoints: list[Json] | None = None,
    updated: str = UPDATED,
    more: list[Json] | None = None,
) -> Json:
    """A whole ``/config_dump?include_eds`` of a sidecar. ``endpoints`` of ``[]`` is one without ``include_eds``."""
    admin = "type.googleapis.com/envoy.admin.v3."

    def listed(item: Json) -> Json:
        state = {"version_info": "v7", "listener": item, "last_updated": updated}
        return {"name": item["name"], "active_state": state}

    ls = [virtual_outbound(), sidecar_listener()] if listeners is None else listeners
    rs = [routes()] if route_configs is None else route_configs
    cs = [cluster(), *builtin()] if clusters is None else clusters
    es = [assignment()] if endpoints is None else endpoints
    configs = [
        {"@type": f"{admin}BootstrapConfigDump", "bootstrap": {"node": who or node()}},
        {"@type": f"{admin}ClustersConfigDump", "version_info": "v7", "dynamic_active_clusters": [{"version_info": "v7", "cluster": c, "last_updated": updated} for c in cs]},
        {"@type": f"{admin}ListenersConfigDump", "version_info": "v7", "dynamic_listeners": [*map(listed, ls), *(more or [])]},
        {"@type": f"{admin}RoutesConfigDump", "dynamic_route_configs": [{"version_info": "v7", "route_config": r, "last_updated": updated} for r in rs]},
    ]  # fmt: skip
    if es:
        held = [{"version_info": "v7", "endpoint_config": e, "last_updated": updated} for e in es]
        configs.append({"@type": f"{admin}EndpointsConfigDump", "dynamic_endpoint_configs": held})
    return {"configs": configs}


def server_dump(**more: Any) -> Json:
    """The server's side: ``virtualInbound`` as it is."""
    who = node("orders", "shop", ip="10.244.0.10")
    return config_dump(
        who=who,
        listeners=[virtual_inbound(**more)],
        clusters=[cluster("inbound|8080||", "ORIGINAL_DST", False)],
    )


def camel(value: Any) -> Any:
    """The same as istioctl spells it; keys with dots are names, not fields."""
    if isinstance(value, list):
        return [camel(v) for v in value]
    if not isinstance(value, dict):
        return value
    return {
        k if "." in k or "@" in k else re.sub(r"_([a-z])", lambda m: m[1].upper(), k): camel(v)
        for k, v in value.items()
    }


def records(*documents: tuple[str, Any]) -> list[Record]:
    """What the readers make of files."""
    out: list[Record] = []
    for name, content in documents:
        data = content if isinstance(content, str) else json.dumps(content)
        out += read_bytes(name, data.encode()).records
    return out


def proxies(*documents: Any, pods: tuple[str, ...] = ()) -> dict[str, ProxyConfig]:
    """The proxies of some documents, each a value or ``(file name, value)``."""
    named = [d if isinstance(d, tuple) else (f"dump-{i}.json", d) for i, d in enumerate(documents)]
    found = records(*named)
    states = by_proxy(
        [r for r in found if isinstance(r, ProxyDump)],
        [r for r in found if isinstance(r, ProxyResource)],
        pods,
    )
    return {owner: ProxyConfig.of(state) for owner, state in states.items()}
