"""What a request meets on its way: capture, listener, route, mutual TLS, authorization, the application."""

from __future__ import annotations

import msgspec
import pytest

from deadhop.hops.mesh.api import AppFact, Mesh, MeshRequest, walk
from deadhop.model.trace import Disposition

from .worlds import CALLER, SERVER, VIP, call, config, endpoints, flags, pod, policy, service, strict, world


def test_a_foreign_host_is_refused_by_a_strict_server_and_the_steps_say_why() -> None:
    got = call(world(strict()), "shop.example.com")
    assert (got.status, flags(got)) == (503, {"UC"})
    assert got.client_log is not None
    assert got.client_log.cluster == "PassthroughCluster"
    said = [(s.decided_by, s.ok) for s in got.steps]
    assert ("PeerAuthentication shop/strict", True) in said
    assert said[-1] == ("sidecar shop/orders virtualInbound", False)
    assert got.disposition is Disposition.ANSWERED


def test_the_service_name_as_host_is_the_fix_and_a_changed_mesh_proves_another() -> None:
    mesh = world(strict())
    request = MeshRequest(client=CALLER, dst_ip=VIP, dst_port=80, host="shop.example.com")
    assert walk(mesh, request).status == 503
    assert walk(mesh, msgspec.structs.replace(request, host="orders.shop")).status == 200
    softer = mesh.changed(remove=[("PeerAuthentication", "shop/strict")])
    assert walk(softer, request).status == 200
    assert walk(softer, request).mtls is False
    undeclared = mesh.changed(put=[service(port_name="web"), endpoints("orders", "shop", "web")])
    assert walk(undeclared, request).mtls is True


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("orders.shop.svc.cluster.local", 200),
        ("ORDERS.shop:9999", 200),
        (VIP, 200),
        ("orders", 503),
        ("10.244.0.10", 503),
        ("", 503),
        (None, 400),
    ],
)
def test_only_listed_domains_reach_the_service(host: str | None, status: int) -> None:
    assert call(world(strict()), host).status == status


def test_registry_only_answers_502_and_closes_other_ports() -> None:
    mesh = world(config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}"))
    got = call(mesh, "shop.example.com")
    assert got.client_log is not None
    assert (got.status, got.body, got.client_log.route) == (502, "", "block_all")
    other = call(mesh, dst_port=9999)
    assert other.client_log is not None
    assert (other.status, other.client_log.cluster, flags(other)) == (None, "BlackHoleCluster", {"UH"})


def test_an_excluded_inbound_port_gets_the_clients_tls() -> None:
    outside = {"traffic.sidecar.istio.io/excludeInboundPorts": "8080"}
    mesh = world(strict(), pod("orders", "shop", "10.244.0.10", annotations=outside))
    got = call(mesh, "orders.shop", "tls_hello_gets_plaintext_error")
    assert flags(got) == {"UF", "URX"}
    assert got.server_log is None


def test_an_excluded_outbound_port_leaves_in_plain_text() -> None:
    outside = {"traffic.sidecar.istio.io/excludeOutboundPorts": "80"}
    mesh = world(strict(), pod("caller", "web", "10.244.9.9", annotations=outside))
    got = call(mesh)
    assert (got.ending, got.client_log) == ("reset", None)


@pytest.mark.parametrize("mode", ["STRICT", "PERMISSIVE"])
def test_http_10_never_reaches_the_http_chain_of_the_client(mode: str) -> None:
    mesh = world(policy("PeerAuthentication", {"mtls": {"mode": mode}}))
    got = call(mesh, http_version="1.0")
    assert got.client_log is not None
    assert got.client_log.cluster == "PassthroughCluster"
    if mode == "STRICT":
        assert got.ending == "reset"
    else:
        assert (got.status, got.body) == (426, "Upgrade Required")


def test_a_namespace_that_turns_tls_off_hides_a_strict_workload_from_clients() -> None:
    spec = {"selector": {"matchLabels": {"app": "orders"}}, "mtls": {"mode": "STRICT"}}
    mesh = world(
        policy("PeerAuthentication", {"mtls": {"mode": "DISABLE"}}, "off"),
        policy("PeerAuthentication", spec, "on"),
    )
    got = call(mesh)
    assert got.client_log is not None
    assert got.client_log.cluster == "outbound|80||orders.shop.svc.cluster.local"
    assert flags(got) == {"UC"}


def test_one_member_without_sidecar_takes_tls_from_a_whole_headless_service() -> None:
    mesh = world(
        strict(),
        service(vip="None", port=8080),
        pod("orders-1", "shop", "10.244.0.11", False),
        endpoints("orders", "shop", "http", "10.244.0.10", "10.244.0.11"),
    )
    got = call(mesh, dst_ip="10.244.0.10", dst_port=8080)
    assert flags(got) == {"UC"}
    assert any("has no sidecar, so all get plain text" in s.decided_by + s.text for s in got.steps)


def test_a_retriable_failure_says_retried_and_a_passthrough_does_not() -> None:
    known = call(world(server_sidecar=False), "orders.shop", "not_listening")
    assert known.body is not None
    assert "retried and the latest" in known.body
    foreign = call(world(server_sidecar=False), "shop.example.com", "not_listening")
    assert foreign.body is not None
    assert "retried" not in foreign.body


@pytest.mark.parametrize(
    ("envoy", "reason"),
    [
        ("1.26.0", "reset reason: connection failure, transport failure reason: delayed connect error: 111"),
        (
            "1.30.0",
            "reset reason: remote connection failure, transport failure reason: delayed connect error: 111",
        ),
        (
            "1.38.0",
            "remote connection failure, transport failure reason: delayed connect error: Connection refused",
        ),
        ("1.38.1", "reset reason: remote connection failure"),
    ],
)
def test_the_body_is_that_of_the_release(envoy: str, reason: str) -> None:
    got = call(world(server_sidecar=False), "orders.shop", "not_listening", envoy=envoy)
    assert got.body is not None
    assert got.body.endswith(reason)


def test_the_servers_own_503_shows_no_flag_at_the_client() -> None:
    got = call(world(strict()), "orders.shop", "not_listening")
    assert (got.status, flags(got)) == (503, set())
    assert got.server_log is not None
    assert got.server_log.flags == {"UF", "URX"}


def test_circuit_breaking_counts_requests_in_flight() -> None:
    pool = {"tcp": {"maxConnections": 1}, "http": {"http1MaxPendingRequests": 1}}
    rule = policy("DestinationRule", {"host": "orders", "trafficPolicy": {"connectionPool": pool}})
    request = MeshRequest(client=CALLER, dst_ip=VIP, dst_port=80, host="orders.shop")
    full = walk(world(rule), request, [AppFact(SERVER, "requests_in_flight", 2)])
    assert (full.status, flags(full)) == (503, {"UO"})
    assert walk(world(rule), request, [AppFact(SERVER, "requests_in_flight", 1)]).status == 200


def test_authorization_by_principal_needs_mutual_tls() -> None:
    source = {"principals": ["cluster.local/ns/web/sa/caller"]}
    mesh = world(policy("AuthorizationPolicy", {"rules": [{"from": [{"source": source}]}]}))
    assert call(mesh).status == 200
    denied = call(mesh, "shop.example.com")
    assert (denied.status, denied.body) == (403, "RBAC: access denied")


def test_a_deny_rule_is_named_in_the_servers_log() -> None:
    rule = {"to": [{"operation": {"paths": ["/admin*"]}}]}
    mesh = world(policy("AuthorizationPolicy", {"action": "DENY", "rules": [rule]}, "no-admin"))
    got = call(mesh, path="/admin/x")
    assert got.server_log is not None
    assert got.server_log.details == "rbac_access_denied_matched_policy[ns[shop]-policy[no-admin]-rule[0]]"
    assert call(mesh, path="/").status == 200


def test_a_service_outside_the_sidecar_scope_is_unknown() -> None:
    mesh = world(
        strict(),
        service("other", "web", vip="10.96.0.20"),
        policy("Sidecar", {"egress": [{"hosts": ["./*"]}]}, namespace="web"),
    )
    got = call(mesh)
    assert got.client_log is not None
    assert got.client_log.route == "allow_any"
    assert flags(got) == {"UC"}


def test_a_subset_without_endpoints_has_no_healthy_upstream() -> None:
    mesh = world(
        policy(
            "DestinationRule", {"host": "orders", "subsets": [{"name": "v2", "labels": {"version": "v2"}}]}
        ),
        policy(
            "VirtualService",
            {"hosts": ["orders"], "http": [{"route": [{"destination": {"host": "orders", "subset": "v2"}}]}]},
        ),
    )
    got = call(mesh)
    assert (got.status, got.body, flags(got)) == (503, "no healthy upstream", {"UH"})


def test_a_service_entry_alone_knows_the_host_but_sends_plain_text() -> None:
    spec = {
        "hosts": ["shop.example.com"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "DNS",
        "location": "MESH_INTERNAL",
        "endpoints": [{"address": "orders.shop.svc.cluster.local"}],
    }
    got = call(world(strict(), policy("ServiceEntry", spec)), "shop.example.com")
    assert got.client_log is not None
    assert got.client_log.cluster == "outbound|80||shop.example.com"
    assert flags(got) == {"UC"}


def test_an_external_name_is_another_name_of_its_target() -> None:
    alias = policy(
        "Service", {"type": "ExternalName", "externalName": "orders.shop.svc.cluster.local"}, "alias", "web"
    )
    assert call(world(strict(), alias), "alias").mtls is True


def test_a_port_that_the_service_lacks_is_reported_as_open() -> None:
    got = call(world(), dst_port=81)
    assert got.unknown
    assert "10.96.0.10:81" in got.unknown[0]


def test_an_unknown_client_is_an_unknown_ending() -> None:
    got = call(world(), client="web/nobody")
    assert (got.ending, got.disposition) == ("unknown", Disposition.UNKNOWN)


def test_an_unknown_fact_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown behaviour"):
        AppFact(SERVER, "melts")


def test_the_release_follows_the_proxy_image() -> None:
    mesh = Mesh.from_objects([config(), pod("caller", "web", "10.244.9.9")])
    assert walk(mesh, MeshRequest(client=CALLER, dst_ip="10.1.1.1", dst_port=1)).envoy == "1.40.0"


def test_a_broken_token_gets_401_and_an_unverified_one_stays_open() -> None:
    mesh = world(policy("RequestAuthentication", {"jwtRules": [{"issuer": "https://issuer.example"}]}))
    broken = call(mesh, headers=(("Authorization", "Bearer x"),))
    assert (broken.status, flags(broken)) == (401, set())
    assert call(mesh, headers=(("Authorization", "Bearer a.b.c"),)).unknown
    assert call(mesh).status == 200


def test_ambient_pods_know_each_other_and_no_host() -> None:
    ambient = {
        "kind": "Namespace",
        "metadata": {"name": "shop", "labels": {"istio.io/dataplane-mode": "ambient"}},
    }
    caller = {
        "kind": "Namespace",
        "metadata": {"name": "web", "labels": {"istio.io/dataplane-mode": "ambient"}},
    }
    mesh = world(strict(), ambient, caller, client_sidecar=False, server_sidecar=False)
    assert call(mesh, "anything.example.com").mtls is True
    outside = mesh.changed(remove=[("Namespace", "default/web")])
    assert call(outside, "orders.shop").ending == "reset"
