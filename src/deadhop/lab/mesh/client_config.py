"""The client sidecar's bootstrap, from what the model derives: listeners, route configurations, clusters.

Instead of iptables the outbound listener reads the original destination from a PROXY header.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from deadhop.hops.mesh.clusters import BLACKHOLE, PASSTHROUGH, Cluster, build_cluster, resolve, rule_for
from deadhop.hops.mesh.listeners import VIRTUAL_OUTBOUND, Listener, choose_listener, in_scope
from deadhop.hops.mesh.matching import applies_to_caller
from deadhop.hops.mesh.mesh import Mesh
from deadhop.hops.mesh.protocol import Family
from deadhop.hops.mesh.routes import ALLOW_ANY, BLOCK_ALL, VirtualHost, find_virtual_host, port_routes
from deadhop.hops.mesh.virtualservice import Destination, HttpRoute, Match, Retries, TextMatch
from deadhop.hops.mesh.workload import Workload
from deadhop.hops.service.registry import Resolution
from deadhop.lab.mesh import config_common as c
from deadhop.lab.mesh.config_common import Json

NOWHERE = "0.0.0.0"
TCP_SUFFIX = "~tcp"
ABSENT = {"treat_missing_header_as_empty": True}


class Tls(msgspec.Struct, frozen=True):
    """Where the client's certificate and the roots are."""

    cert: Path
    key: Path
    root: Path


class ClientConfig:
    """Builds one bootstrap."""

    def __init__(self, mesh: Mesh, client: Workload, port: int, tls: Tls, log: Path) -> None:
        self.mesh, self.client, self.tls, self.log, self.port = mesh, client, tls, log, port
        self.scope = mesh.scope_of(client)
        self.clusters: dict[str, Json] = {}

    def build(self) -> Json:
        """The whole bootstrap."""
        mesh, scope, ips = self.mesh, self.scope, self.client.ips
        found: dict[str, tuple[Listener, str, int]] = {}
        wanted = [*mesh.by_address, *((NOWHERE, port) for port in mesh.by_port)]
        for ip, port in wanted:
            listener = choose_listener(mesh, scope, ips, ip, port)
            if listener.name != "virtualOutbound":
                own = NOWHERE if listener.name.startswith(NOWHERE) else ip
                found.setdefault(listener.name, (listener, own, port))
        listeners = [self._virtual_outbound(), *(self._listener(*item) for item in found.values())]
        self._every_cluster()
        return c.bootstrap(listeners, list(self.clusters.values()))

    def _every_cluster(self) -> None:
        """istiod sends the clusters of every port and subset in scope, whether a route leads to them or not."""
        for service in self.mesh.services:
            rule = rule_for(self.mesh, self.client, service)
            for port in service.ports:
                if service.resolution is Resolution.ALIAS or port.protocol.family is Family.UDP:
                    continue
                if not in_scope(self.mesh, self.scope, service, port.number):
                    continue
                for subset in ("", *(rule.subsets if rule else ())):
                    cluster = build_cluster(
                        self.mesh, self.client, service, port, subset, (NOWHERE, port.number)
                    )
                    if cluster is not None:
                        self._cluster(cluster)

    def _fallback(self) -> str:
        name = BLACKHOLE if self.scope.outbound_mode == "REGISTRY_ONLY" else PASSTHROUGH
        self._builtin(name)
        return name

    def _builtin(self, name: str) -> None:
        if name == PASSTHROUGH:
            self.clusters[name] = {
                "name": name,
                "type": "ORIGINAL_DST",
                "lb_policy": "CLUSTER_PROVIDED",
                "connect_timeout": c.seconds(self.mesh.config.connect_timeout),
                "typed_extension_protocol_options": c.http_options(c.AS_DOWNSTREAM),
            }
        else:
            self.clusters[name] = {"name": name, "type": "STATIC", "connect_timeout": "1s"}

    def _virtual_outbound(self) -> Json:
        self._builtin(BLACKHOLE)
        return {
            "name": "virtualOutbound",
            "address": c.socket_address("127.0.0.1", self.port),
            "use_original_dst": True,
            "enable_reuse_port": False,
            "listener_filters": [c.PROXY_PROTOCOL],
            "filter_chains": [
                {
                    "filter_chain_match": {"destination_port": VIRTUAL_OUTBOUND},
                    "filters": [c.tcp_proxy(BLACKHOLE, self.log)],
                }
            ],
            "default_filter_chain": {"filters": [c.tcp_proxy(self._fallback(), self.log)]},
        }

    def _listener(self, listener: Listener, ip: str, port: int) -> Json:
        out: Json = {"name": listener.name, "address": c.socket_address(ip, port), "bind_to_port": False}
        if listener.service is not None and listener.port is not None:
            cluster = build_cluster(self.mesh, self.client, listener.service, listener.port, "", (ip, port))
            target = self._cluster(cluster, tcp=True) if cluster else BLACKHOLE
        else:
            target = self._fallback()
        out["default_filter_chain"] = {"filters": [c.tcp_proxy(target, self.log)]}
        if listener.http:
            alpn = ["http/1.1", "h2c", *(["http/1.0"] if self.client.http10 else [])]
            routes = self._routes(listener, port)
            out["filter_chains"] = [
                {
                    "filter_chain_match": {**c.RAW, "application_protocols": alpn},
                    "filters": [c.http_manager(routes, self.log, self.client.http10)],
                }
            ]
            out["listener_filters"] = [c.HTTP_INSPECTOR]
            out["listener_filters_timeout"] = "0s"
            out["continue_on_listener_filters_timeout"] = True
        return out

    def _routes(self, listener: Listener, port: int) -> Json:
        hosts: dict[VirtualHost, list[str]] = {}
        if listener.rds == str(port):
            table = port_routes(self.mesh, self.scope, self.client, port)
            for domain, vhost in table.exact.items():
                hosts.setdefault(vhost, []).append(domain)
            for bucket in table.suffixes.values():
                for tail, vhost in bucket.items():
                    hosts.setdefault(vhost, []).append("*" + tail)
            for bucket in table.prefixes.values():
                for head, vhost in bucket.items():
                    hosts.setdefault(vhost, []).append(head + "*")
            if table.catch_all is not None:
                hosts.setdefault(table.catch_all, []).append("*")
        else:
            found = find_virtual_host(self.mesh, self.scope, self.client, listener, port, "any")
            if found:
                hosts[found[0]] = ["*"]
        virtual_hosts = [
            {"name": vhost.name, "domains": domains, "routes": self._vhost_routes(vhost, port)}
            for vhost, domains in hosts.items()
        ]
        return {
            "name": listener.rds,
            "virtual_hosts": virtual_hosts,
            "ignore_port_in_host_matching": True,
            "validate_clusters": False,
        }

    def _vhost_routes(self, vhost: VirtualHost, port: int) -> list[Json]:
        everything = {"prefix": "/"}
        if vhost.rules is not None:
            return [r for route in vhost.rules.http for r in self._rule(route, port)]
        if vhost.service is not None:
            service_port = vhost.service.port(port)
            assert service_port is not None
            cluster = build_cluster(self.mesh, self.client, vhost.service, service_port, "", (NOWHERE, port))
            assert cluster is not None
            return [
                {
                    "name": "default",
                    "match": everything,
                    "route": _action(self._cluster(cluster), Retries(), None),
                }
            ]
        if vhost.name == BLOCK_ALL:
            return [{"name": BLOCK_ALL, "match": everything, "direct_response": {"status": 502}}]
        self._builtin(PASSTHROUGH)
        action = {"cluster": PASSTHROUGH, "timeout": "0s"}
        return [{"name": ALLOW_ANY, "match": everything, "route": action}]

    def _rule(self, route: HttpRoute, port: int) -> list[Json]:
        groups = [
            g
            for g in route.groups
            if all(applies_to_caller(m, self.client.namespace, self.client.labels, port) for m in g)
        ]
        out = []
        for group in groups or ([()] if not route.groups else []):
            named = next((m.name for m in group if m.name), "")
            entry: Json = {"match": _match(group), "name": f"{route.name}.{named}" if named else route.name}
            if route.direct is not None:
                entry["direct_response"] = {
                    "status": route.direct[0],
                    "body": {"inline_string": route.direct[1]},
                }
            elif route.redirect is not None:
                entry["redirect"] = {"response_code": "MOVED_PERMANENTLY", "path_redirect": "/elsewhere"}
            else:
                target = max(route.destinations, key=lambda d: d.weight)
                retries = Retries() if route.retries is None else route.retries
                entry["route"] = _action(self._destination(target, port), retries, route.timeout)
            out.append(entry)
        return out

    def _destination(self, target: Destination, port: int) -> str:
        service, number = resolve(self.mesh, self.scope, target, port)
        service_port = service.port(number) if service else None
        cluster = None
        if service and service_port:
            cluster = build_cluster(
                self.mesh, self.client, service, service_port, target.subset, (NOWHERE, number)
            )
        return self._cluster(cluster) if cluster else f"outbound|{number}|{target.subset}|{target.host}"

    def _cluster(self, cluster: Cluster, tcp: bool = False) -> str:
        """Add a cluster. Stock Envoy cannot rewrite ALPN per request, so TCP proxies get a twin with their own."""
        name = cluster.name + (TCP_SUFFIX if tcp else "")
        if name in self.clusters:
            return name
        out: Json = {"name": name, "connect_timeout": c.seconds(cluster.connect_timeout)}
        mode = c.H2 if cluster.http2 else c.AS_DOWNSTREAM if cluster.auto_http2 else c.H1
        out["typed_extension_protocol_options"] = c.http_options(mode)
        alpn = (
            ["istio-peer-exchange", "istio"] if tcp else ["istio-h2" if cluster.http2 else "istio-http/1.1"]
        )
        sockets = {kind: self._socket(kind, cluster, alpn) for kind in ("istio", "user")}
        if cluster.kind == "ORIGINAL_DST":
            out |= {"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}
            if cluster.hosts and cluster.hosts[0].tls != "none":
                out["transport_socket"] = sockets[cluster.hosts[0].tls]
        else:
            out["type"] = "STATIC"
            out["load_assignment"] = {
                "cluster_name": name,
                "endpoints": [
                    {
                        "lb_endpoints": [
                            {
                                "endpoint": {"address": c.socket_address(self._resolved(h.address), h.port)},
                                "metadata": {
                                    "filter_metadata": {"envoy.transport_socket_match": {"tls": h.tls}}
                                },
                            }
                            for h in cluster.hosts
                        ]
                    }
                ],
            }
            out["transport_socket_matches"] = [
                {"name": kind, "match": {"tls": kind}, "transport_socket": sockets[kind]}
                for kind in sorted({h.tls for h in cluster.hosts} - {"none"})
            ]
        out |= self._breakers(cluster)
        self.clusters[name] = out
        return name

    def _resolved(self, address: str) -> str:
        """DNS, as far as the world has it: a Service's name is its ClusterIP."""
        services = self.mesh.by_host.get(address, [])
        return next((v for s in services for v in s.vips), address)

    @staticmethod
    def _breakers(cluster: Cluster) -> Json:
        pool = cluster.pool
        limits = {
            "max_connections": pool.max_connections,
            "max_pending_requests": pool.max_pending,
            "max_requests": pool.max_requests,
        }
        given: dict[str, Any] = {k: v for k, v in limits.items() if v}
        return {"circuit_breakers": {"thresholds": [given]}} if given else {}

    def _socket(self, kind: str, cluster: Cluster, alpn: list[str]) -> Json:
        if kind == "user":
            context: Json = {"common_tls_context": {"tls_params": c.TLS_VERSIONS}}
        else:
            files = c.tls_files(self.tls.cert, self.tls.key, self.tls.root, alpn)
            files["validation_context"]["match_typed_subject_alt_names"] = [
                {"san_type": "URI", "matcher": {"exact": san}} for san in cluster.sans
            ]
            context = {"common_tls_context": files}
        return {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {"@type": c.TYPE + "transport_sockets.tls.v3.UpstreamTlsContext", **context},
        }


def _action(cluster: str, retries: Retries, timeout: float | None) -> Json:
    out: Json = {"cluster": cluster, "timeout": c.seconds(timeout or 0)}
    if retries.attempts:
        codes = [int(w) for w in sorted(retries.on) if w.isdigit()]
        words = {w for w in retries.on if not w.isdigit()} - {"retriable-status-codes"}
        out["retry_policy"] = {
            "retry_on": ",".join([*sorted(words), *(["retriable-status-codes"] if codes else [])]),
            "num_retries": retries.attempts,
            "retriable_status_codes": codes,
        }
    return out


def _text(test: TextMatch) -> Json:
    if test.kind == "regex":
        return {"safe_regex": {"regex": test.value}}
    return {test.kind: test.value}


def _match(group: tuple[Match, ...]) -> Json:
    out: Json = {"prefix": "/"}
    headers: list[Json] = []
    for m in group:
        if m.uri:
            out.pop("prefix", None)
            key = {"exact": "path", "prefix": "prefix"}.get(m.uri.kind)
            out |= {key: m.uri.value} if key else {"safe_regex": {"regex": m.uri.value}}
            if m.ignore_case:
                out["case_sensitive"] = False
        for name, test in ((":method", m.method), (":authority", m.authority), *m.headers):
            if test is not None:
                headers.append(
                    {"name": name, "present_match": True}
                    if test.kind == "present"
                    else {"name": name, "string_match": _text(test)}
                )
        for name, test in m.without:
            headers.append({"name": name, "string_match": _text(test), "invert_match": True, **ABSENT})
    if headers:
        out["headers"] = headers
    return out
