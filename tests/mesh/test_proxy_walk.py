"""The walk over what a proxy really runs, in the shapes of Envoy's admin port and of istioctl."""

from __future__ import annotations

from typing import Any

import pytest

from deadhop.hops.mesh.api import MeshOutcome, MeshRequest, ProxyConfig, walk

from . import dumps as d
from .worlds import CALLER, VIP, flags, policy, service, strict, world

KINDS = ("snake", "camel", "istioctl")


def call(
    proxies: dict[str, ProxyConfig],
    *extra: Any,
    host: str | None = "orders.shop",
    mesh: Any = None,
    **more: Any,
) -> MeshOutcome:
    request = MeshRequest(**{"client": CALLER, "dst_ip": VIP, "dst_port": 80, "host": host, **more})
    return walk(mesh or world(*extra), request, proxies=proxies)


def shapes(kind: str) -> dict[str, ProxyConfig]:
    """One configuration, printed in three ways."""
    dump = d.config_dump()
    if kind == "snake":
        return d.proxies(dump)
    if kind == "camel":
        return d.proxies(d.camel(dump))
    lists = {
        "listeners": [d.virtual_outbound(), d.sidecar_listener()],
        "routes": [d.routes()],
        "clusters": [d.cluster(), *d.builtin()],
    }
    texts = [
        f"$ istioctl proxy-config {topic} caller.web -o json\n{d.json.dumps(d.camel(items), indent=2)}\n"
        for topic, items in lists.items()
    ]
    hosts = {"name": d.CLUSTER, "hostStatuses": [{"address": {"socketAddress": {"address": "10.244.0.10", "portValue": 8080}}, "healthStatus": {"edsHealthStatus": "HEALTHY"}}]}  # fmt: skip
    texts.append(f"$ istioctl -n web pc endpoints caller -o json\n{d.json.dumps([hosts], indent=2)}\n")
    return d.proxies(("session.txt", "\n".join(texts)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_walk_goes_over_the_dump(kind: str) -> None:
    outcome = call(shapes(kind), strict())
    assert (outcome.status, outcome.mtls, outcome.unknown) == (200, True, ())
    shown = [s for s in outcome.steps if s.sources]
    assert {s.detail.get("vhost") for s in shown} & {f"{d.ORDERS}:80"}
    assert len(shown) >= 4, "listener, virtual host, route and cluster are cited"


def test_the_dump_wins_over_the_objects() -> None:
    stale = d.routes(
        "80", d.vhost("old", ["orders.shop"], d.route(f"outbound|80|v1|{d.ORDERS}")), d.ALLOW_ANY
    )
    outcome = call(d.proxies(d.config_dump(route_configs=[stale])))
    assert (outcome.status, flags(outcome)) == (503, {"NC"})
    assert call({}).status == 200


def test_a_registry_only_proxy_answers_502_whatever_the_objects_say() -> None:
    blocked = {"match": {"prefix": "/"}, "direct_response": {"status": 502}, "name": "block_all"}
    table = d.routes("80", d.vhost("block_all", ["*"], blocked))
    outcome = call(d.proxies(d.config_dump(route_configs=[table])))
    assert (outcome.status, outcome.client_log and outcome.client_log.route) == (502, "block_all")


def test_plain_text_where_the_dumped_cluster_has_no_tls() -> None:
    outcome = call(d.proxies(d.config_dump(clusters=[d.cluster(mesh_tls=False), *d.builtin()])), strict())
    assert (outcome.status, flags(outcome)) == (503, {"UC"})


@pytest.mark.parametrize("state", ["warming_state", "error_state"])
def test_a_listener_that_does_not_serve_yet_leaves_the_one_before(state: str) -> None:
    refused = {"listener": d.listener("0.0.0.0", 80, [])} if state == "warming_state" else {"failed_configuration": d.listener("0.0.0.0", 80, []), "details": "duplicate"}  # fmt: skip
    dump = d.config_dump(more=[{"name": "0.0.0.0_80", state: refused}])
    assert call(d.proxies(dump)).status == 200
    only = d.config_dump(listeners=[d.virtual_outbound()], more=[{"name": "0.0.0.0_80", state: refused}])
    outcome = call(d.proxies(only))
    assert outcome.client_log is not None
    assert outcome.client_log.cluster == "PassthroughCluster", "virtualOutbound takes what no listener serves"


def test_a_draining_listener_takes_no_connection() -> None:
    dump = d.config_dump(
        listeners=[d.virtual_outbound()],
        more=[{"name": "0.0.0.0_80", "draining_state": {"listener": d.sidecar_listener()}}],
    )
    outcome = call(d.proxies(dump))
    assert outcome.client_log is not None
    assert outcome.client_log.cluster == "PassthroughCluster"


def test_a_masked_dump_falls_back_on_the_objects() -> None:
    names = {"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump", "dynamic_active_clusters": [{"cluster": {"name": "outbound|9||x"}}]}, {"@type": "t/envoy.admin.v3.BootstrapConfigDump", "bootstrap": {"node": d.node()}}]}  # fmt: skip
    outcome = call(d.proxies(names), strict())
    assert (outcome.status, outcome.mtls) == (200, True)


def test_a_cluster_that_is_missing_counts_only_in_a_whole_dump() -> None:
    whole = d.config_dump(clusters=d.builtin())
    assert flags(call(d.proxies(whole))) == {"NC"}
    lists = "$ istioctl pc clusters caller.web --fqdn x -o json\n" + d.json.dumps(d.builtin(), indent=1)
    assert call(d.proxies(("s.txt", lists))).status == 200


def test_endpoints_come_from_clusters_where_the_dump_has_none() -> None:
    text = "".join(
        f"{d.CLUSTER}::10.244.0.77:8080::{line}\n"
        for line in ("cx_active::0", "health_flags::healthy", "priority::0")
    )
    named = ("caller/clusters", f"{d.CLUSTER}::default_priority::max_connections::1024\n{text}")
    dump = ("caller/config_dump", d.config_dump(endpoints=[]))
    proxies = d.proxies(dump, named, pods=("web/caller",))
    steps = call(proxies).steps
    assert any("10.244.0.77:8080" in s.text for s in steps)
    assert any("10.244.0.10:8080" in s.text for s in call(d.proxies(dump)).steps), "else the objects tell"


def test_unhealthy_endpoints_count_only_in_panic() -> None:
    sick = d.assignment(d.CLUSTER, ("10.244.0.10", 8080), health="UNHEALTHY")
    assert call(d.proxies(d.config_dump(endpoints=[sick]))).status == 200
    never = d.cluster(common_lb_config={"healthy_panic_threshold": {}})
    outcome = call(d.proxies(d.config_dump(clusters=[never, *d.builtin()], endpoints=[sick])))
    assert flags(outcome) == {"UH"}


@pytest.mark.parametrize(
    "match, takes",
    [
        ({"prefix": "/api"}, True),
        ({"path": "/api"}, False),
        ({"path_separated_prefix": "/api"}, True),
        ({"safe_regex": {"regex": "/api/v[0-9]"}}, True),
        ({"prefix": "/API", "case_sensitive": False}, True),
        ({"prefix": "/", "headers": [{"name": "x-env", "string_match": {"exact": "dev"}}]}, True),
        ({"prefix": "/", "headers": [{"name": "x-env", "exact_match": "prod"}]}, False),
        ({"prefix": "/", "headers": [{"name": "x-env", "present_match": True, "invert_match": True}]}, False),
        ({"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]}, True),
        ({"prefix": "/", "query_parameters": [{"name": "q", "string_match": {"exact": "1"}}]}, True),
        ({"prefix": "/", "query_parameters": [{"name": "p"}]}, False),
        ({"connect_matcher": {}}, False),
    ],
)
def test_route_conditions(match: dict[str, Any], takes: bool) -> None:
    first = {"match": match, "direct_response": {"status": 418}, "name": "first"}
    table = d.routes("80", d.vhost("orders", ["*"], first, d.route()))
    outcome = call(
        d.proxies(d.config_dump(route_configs=[table])), path="/api/v1?q=1", headers=(("X-Env", "dev"),)
    )
    assert outcome.status == (418 if takes else 200)


def test_weights_leave_the_draw_open_and_a_zero_weight_does_not() -> None:
    def split(*weights: int) -> MeshOutcome:
        names = (d.CLUSTER, f"outbound|80|v2|{d.ORDERS}")
        clusters = [{"name": n, "weight": w} for n, w in zip(names, weights, strict=True)]
        entry = {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": clusters}}}
        table = d.routes("80", d.vhost("orders", ["*"], entry))
        return call(d.proxies(d.config_dump(route_configs=[table])))

    assert split(100, 0).unknown == ()
    assert split(60, 40).unknown == ("which of the route's weighted destinations is drawn",)
    assert flags(split(0, 100)) == {"NC"}


def test_tcp_by_the_services_own_listener() -> None:
    mine = d.listener(VIP, 80, [{"filters": [d.tcp(d.CLUSTER)]}], traffic_direction="OUTBOUND")
    proxies = d.proxies(d.config_dump(listeners=[d.virtual_outbound(), mine]))
    outcome = call(proxies, mesh=world(strict(), port_name="tcp"))
    assert outcome.client_log is not None
    assert (outcome.client_log.cluster, outcome.mtls) == (d.CLUSTER, True)
    elsewhere = call(proxies, dst_port=81, mesh=world(strict(), port_name="tcp"))
    assert elsewhere.client_log is not None
    assert elsewhere.client_log.cluster == "PassthroughCluster"


def test_the_servers_own_chains_decide_over_peer_authentication() -> None:
    request = {"client": "203.0.113.7", "dst_ip": "10.244.0.10", "dst_port": 8080}
    closed = call(d.proxies(d.server_dump()), **request)
    assert closed.server_log is not None
    assert (closed.ending, closed.server_log.details) == ("reset", "filter_chain_not_found")
    assert call(d.proxies(d.server_dump(strict=False)), strict(), **request).status == 200
    mutual = call(d.proxies(d.server_dump()), strict())
    assert (mutual.status, mutual.mtls) == (200, True)


def rbac(action: str, policies: dict[str, Any]) -> dict[str, Any]:
    config = {"@type": f"{d.EXT}filters.http.rbac.v3.RBAC", "rules": {"action": action, "policies": policies}}
    return {"name": "envoy.filters.http.rbac", "typed_config": config}


@pytest.mark.parametrize(
    "principal, status",
    [("spiffe://cluster.local/ns/web/sa/caller", 200), ("spiffe://cluster.local/ns/web/sa/other", 403)],
)
def test_the_servers_own_rbac_decides_over_policies(principal: str, status: int) -> None:
    allowed = {"permissions": [{"and_rules": {"rules": [{"any": True}]}}], "principals": [{"authenticated": {"principal_name": {"exact": principal}}}]}  # fmt: skip
    proxies = d.proxies(d.server_dump(filters=[rbac("ALLOW", {"ns[shop]-policy[p]-rule[0]": allowed})]))
    deny = policy("AuthorizationPolicy", {"action": "DENY", "rules": [{}]})
    assert call(proxies, deny).status == status


def gateway_pod() -> dict[str, Any]:
    pod = d.json.loads(d.json.dumps(POD))
    assert isinstance(pod, dict)
    return pod


POD = {
    "kind": "Pod",
    "metadata": {"name": "gw-1", "namespace": "istio-system", "labels": {"istio": "ingressgateway"}},
    "spec": {"serviceAccountName": "gw", "containers": [{"name": "istio-proxy", "image": "proxyv2:1.32.0"}]},
    "status": {"podIP": "10.244.5.5", "podIPs": [{"ip": "10.244.5.5"}]},
}


def gateway(*listeners: Any) -> dict[str, ProxyConfig]:
    table = d.routes("http.8080", d.vhost("shop.example.com:80", ["shop.example.com"], d.route()))
    who = d.node("gw-1", "istio-system", "router", "10.244.5.5")
    return d.proxies(d.config_dump(who=who, listeners=list(listeners), route_configs=[table]))


def test_a_gateways_own_proxy() -> None:
    proxies = gateway(d.listener("0.0.0.0", 8080, [{"filters": [d.rds("http.8080")]}]))
    at = {"client": "203.0.113.7", "dst_ip": "10.244.5.5", "dst_port": 8080}
    good = call(proxies, strict(), gateway_pod(), host="shop.example.com", **at)
    assert (good.status, good.mtls, good.server) == (200, True, "shop/orders")
    assert call(proxies, strict(), gateway_pod(), host="other.example.com", **at).status == 404
    assert (
        call(proxies, strict(), gateway_pod(), host="shop.example.com", **{**at, "dst_port": 9}).ending
        == "reset"
    )


def test_a_gateway_chooses_the_chain_by_server_name() -> None:
    def chain(name: str, to: str) -> dict[str, Any]:
        socket = d.tls("Downstream")
        return {
            "filter_chain_match": {"server_names": [name]},
            "transport_socket": socket,
            "filters": [d.rds(to)],
        }

    listener = d.listener(
        "0.0.0.0", 8443, [chain("*.example.com", "http.8080"), chain("bare.test", "none")], listener_filters=[d.inspector("tls")]
    )  # fmt: skip
    at = {"client": "203.0.113.7", "dst_ip": "10.244.5.5", "dst_port": 8443, "scheme": "https"}
    proxies = gateway(listener)
    known = call(proxies, gateway_pod(), host="shop.example.com", sni="shop.example.com", **at)
    assert known.status == 200
    unknown = call(proxies, gateway_pod(), host="shop.example.com", sni="elsewhere.test", **at)
    assert unknown.server_log is not None
    assert unknown.server_log.details == "filter_chain_not_found"


def test_a_gateway_that_sends_to_itself_ends() -> None:
    table = d.routes(
        "http.8080", d.vhost("loop", ["*"], d.route("outbound|8080||gw.istio-system.svc.cluster.local"))
    )
    me = d.assignment(
        "outbound|8080||gw.istio-system.svc.cluster.local", ("10.244.5.5", 8080), mesh_tls=False
    )
    who = d.node("gw-1", "istio-system", "router", "10.244.5.5")
    dump = d.config_dump(
        who=who,
        listeners=[d.listener("0.0.0.0", 8080, [{"filters": [d.rds("http.8080")]}])],
        route_configs=[table],
        clusters=[d.cluster("outbound|8080||gw.istio-system.svc.cluster.local", mesh_tls=False)],
        endpoints=[me],
    )
    outcome = call(
        d.proxies(dump), gateway_pod(), client="203.0.113.7", dst_ip="10.244.5.5", dst_port=8080, host="x"
    )
    assert any("goes in a circle" in s.text for s in outcome.steps)


def test_an_undeclared_port_has_routes_of_its_own() -> None:
    name = f"{d.ORDERS}:80"
    match = {"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]}
    own = d.listener(
        VIP, 80, [{"filter_chain_match": match, "filters": [d.rds(name)]}],
        default={"filters": [d.tcp(d.CLUSTER)]}, listener_filters=[d.inspector("http")],
    )  # fmt: skip
    table = d.routes(name, d.vhost(name, ["*"], d.route()))
    proxies = d.proxies(d.config_dump(listeners=[d.virtual_outbound(), own], route_configs=[table]))
    assert call(proxies, host="whatever", mesh=world(strict(), port_name="main")).mtls is True


def test_what_the_proxy_does_not_have_is_not_asked_of_other_proxies() -> None:
    other = d.config_dump(who=d.node("else", "web"), route_configs=[d.routes("80", d.ALLOW_ANY)])
    assert call(d.proxies(other), service()).mtls is True


def test_an_endpoint_inside_envoy_is_left_open() -> None:
    """Ambient: endpoints of an internal listener, which tunnels (HBONE)."""
    inner = {
        "endpoint": {"address": {"envoy_internal_address": {"server_listener_name": "connect_originate"}}}
    }
    tunnel = {"cluster_name": d.CLUSTER, "endpoints": [{"lb_endpoints": [inner]}]}
    outcome = call(d.proxies(d.config_dump(endpoints=[tunnel])))
    assert outcome.unknown == (f"the endpoints of {d.CLUSTER}",)


def test_a_warming_cluster_is_none_yet() -> None:
    dump = d.config_dump(clusters=d.builtin())
    held = next(c for c in dump["configs"] if "dynamic_active_clusters" in c)
    held["dynamic_warming_clusters"] = [{"version_info": "v8", "cluster": d.cluster()}]
    assert flags(call(d.proxies(dump))) == {"NC"}


def test_a_gateway_is_known_by_its_routes() -> None:
    """``istioctl proxy-config`` prints no node."""
    table = d.routes("http.8080", d.vhost("shop.example.com:80", ["shop.example.com"], d.route()))
    lists = {
        "listeners": [d.listener("0.0.0.0", 8080, [{"filters": [d.rds("http.8080")]}])],
        "routes": [table],
        "clusters": [d.cluster(), *d.builtin()],
    }
    text = "\n".join(
        f"$ istioctl pc {topic} gw-1.istio-system -o json\n{d.json.dumps(d.camel(items), indent=1)}\n"
        for topic, items in lists.items()
    )
    outcome = call(
        d.proxies(("s.txt", text)), strict(), gateway_pod(), client="203.0.113.7", dst_ip="10.244.5.5", dst_port=8080,
        host="shop.example.com",
    )  # fmt: skip
    assert (outcome.status, outcome.mtls) == (200, True)


def test_tls_bytes_on_an_http_port_fall_to_the_passthrough_chain() -> None:
    outcome = call(d.proxies(d.config_dump()), scheme="https")
    assert outcome.client_log is not None
    assert outcome.client_log.cluster == "PassthroughCluster"


def test_mutual_tls_that_a_plain_chain_passes_on_names_nobody() -> None:
    """PeerAuthentication DISABLE, a DestinationRule ISTIO_MUTUAL, and a policy that asks for the caller's name."""
    mesh = world(
        policy("PeerAuthentication", {"mtls": {"mode": "DISABLE"}}),
        policy("DestinationRule", {"host": "orders.shop.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}),
        policy("AuthorizationPolicy", {"rules": [{"from": [{"source": {"principals": ["cluster.local/ns/web/sa/caller"]}}]}]}),
        port_name="tcp",
    )  # fmt: skip
    steps = call({}, mesh=mesh).steps
    assert any("a caller without mesh identity" in s.text and s.ok is False for s in steps)
