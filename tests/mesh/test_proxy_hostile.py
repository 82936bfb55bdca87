"""Configurations of any shape: reading, compiling and walking never raise."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deadhop.hops.mesh.api import Mesh, MeshRequest, walk
from deadhop.hops.mesh.proxy.compare import differences

from . import dumps as d
from .worlds import CALLER, VIP, strict, world

MESH = world(strict())
WHOLE = d.config_dump()
INBOUND = d.server_dump(strict=False)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 70000), st.text(max_size=6), st.just([]), st.just({}), st.just([{}]), st.just({"a": []})
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a value."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        found += places(below, (*path, key))
    return found


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value at a place."""
    copy = json.loads(json.dumps(value))
    at = copy
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = new
    return copy


def total(mesh: Mesh, *documents: Any) -> None:
    proxies = d.proxies(*documents, pods=(CALLER, "shop/orders"))
    for request in (
        MeshRequest(client=CALLER, dst_ip=VIP, dst_port=80, host="orders.shop", path="/a?q=1"),
        MeshRequest(client=CALLER, dst_ip=VIP, dst_port=80, host="x", scheme="https", sni="x.y"),
        MeshRequest(client="203.0.113.7", dst_ip="10.244.0.10", dst_port=8080, host="x"),
    ):
        assert walk(mesh, request, proxies=proxies).ending
    for proxy in proxies.values():
        assert isinstance(differences(mesh, proxy), list)


@settings(max_examples=600, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(places(WHOLE)), VALUES, st.booleans())
def test_a_clients_dump_with_anything_anywhere(path: tuple[Any, ...], value: Any, camel: bool) -> None:
    dump = put(WHOLE, path, value)
    total(MESH, d.camel(dump) if camel else dump, INBOUND)


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(places(INBOUND)), VALUES)
def test_a_servers_dump_with_anything_anywhere(path: tuple[Any, ...], value: Any) -> None:
    total(MESH, WHOLE, put(INBOUND, path, value))


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(1, len(json.dumps(WHOLE, indent=1))))
def test_a_dump_that_is_cut_off(at: int) -> None:
    total(MESH, ("caller.txt", json.dumps(WHOLE, indent=1)[:at]))


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from((f"{d.CLUSTER}::10.0.0.9:80::cx_active::0", "a::b::c::d", "::", f"{d.CLUSTER}::added_via_api::true", f"{d.CLUSTER}::[::1]:80::health_flags::/failed_eds_health", "x::1:2:3::priority::9")), max_size=6))  # fmt: skip
def test_clusters_as_text(rows: list[str]) -> None:
    total(MESH, WHOLE, ("caller/clusters", "\n".join(rows)))
