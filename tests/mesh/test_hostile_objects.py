"""Objects from strangers: compilation never raises, whatever stands where."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from deadhop.hops.mesh.api import Mesh, MeshRequest, walk
from deadhop.hops.mesh.vhost import choose

KINDS = (
    "Pod",
    "Service",
    "EndpointSlice",
    "Endpoints",
    "ConfigMap",
    "PeerAuthentication",
    "DestinationRule",
    "VirtualService",
    "ServiceEntry",
    "WorkloadEntry",
    "Sidecar",
    "AuthorizationPolicy",
    "RequestAuthentication",
    "Deployment",
)
FIELDS = (
    "spec status metadata labels annotations containers ports port name namespace host hosts http route match "
    "destination trafficPolicy tls mode subsets egress ingress rules from to when selector matchLabels endpoints "
    "addresses data mesh items subset number retries timeout uri prefix regex portLevelMtls mtls jwtRules fromHeaders podIPs clusterIPs"
).split()

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-9, 99999)
    | st.sampled_from(["", "*", "x", "10.0.0.1", "~/*", "1s"])
)
shapes = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=25,
)
documents = st.builds(
    lambda kind, name, spec, rest: {
        "kind": kind,
        "metadata": {"name": name, "namespace": "a"},
        "spec": spec,
        **rest,
    },
    st.sampled_from(KINDS),
    st.sampled_from(["istio", "x", "caller"]),
    shapes,
    st.dictionaries(st.sampled_from(["status", "data", "endpoints", "subsets", "ports"]), shapes, max_size=3),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(documents | shapes, max_size=8))
def test_any_shape_compiles_and_walks(docs: list[Any]) -> None:
    mesh = Mesh.from_objects(docs)
    walk(mesh, MeshRequest(client="a/caller", dst_ip="10.0.0.1", dst_port=80, host="x"))


def test_a_list_document_is_opened_and_nameless_objects_are_reported() -> None:
    listed = yaml.safe_load("{kind: List, items: [{kind: Namespace, metadata: {name: a}}, {kind: Pod}]}")
    mesh = Mesh.from_objects([listed, None, 7])
    assert list(mesh.namespaces) == ["a"]
    assert mesh.problems == ["an object of kind Pod has no name or no kind"]


@given(st.text(max_size=40), st.lists(st.text(max_size=20), max_size=5), st.booleans())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_matching_is_total(host: str, domains: list[str], ignore_port: bool) -> None:
    assert choose({"v": domains}, host, ignore_port) in ("v", None)
