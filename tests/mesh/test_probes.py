"""Kubelet probes under STRICT: fine through the agent, reset where they were not rewritten."""

from __future__ import annotations

from deadhop.hops.mesh.api import probe_fate

from .worlds import pod, strict, world


def test_a_probe_that_was_not_rewritten_is_reset_by_a_strict_sidecar() -> None:
    mesh = world(strict(), pod("orders", "shop", "10.244.0.10"))
    server = mesh.pods["shop/orders"]
    assert probe_fate(mesh, server, 15020).arrives
    fate = probe_fate(mesh, server, 8080)
    assert not fate.arrives
    assert "PeerAuthentication shop/strict" in fate.why


def test_permissive_mode_and_exclusion_let_it_pass() -> None:
    assert probe_fate(world(), world().pods["shop/orders"], 8080).arrives
    outside = {"traffic.sidecar.istio.io/excludeInboundPorts": "8080"}
    mesh = world(strict(), pod("orders", "shop", "10.244.0.10", annotations=outside))
    assert probe_fate(mesh, mesh.pods["shop/orders"], 8080).arrives
