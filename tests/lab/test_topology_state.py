"""A topology file read as a snapshot against the namespaces that it makes: the same packets, the same ends."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from deadhop.collect.child import gather_in_child
from deadhop.evidence.namespace.folders import folders
from deadhop.hops.linux.walk import walk_packet
from deadhop.lab import scenarios
from deadhop.lab.topology import build
from deadhop.lab.topology.made import Lab
from deadhop.lab.verify import unavailable
from deadhop.model.packet import PacketFlow
from deadhop.model.topology import Topology

pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "available")]
TOPOLOGIES = [
    name
    for name in scenarios.shipped()
    if (scenarios.FOLDER / f"{name}.yaml").exists() and not scenarios.load(name).topology.guest  # type: ignore[union-attr]
]


def packets(topology: Topology, name: str) -> list[PacketFlow]:
    """From every address of the topology to every other, sent here and received on every device, small and large."""
    addresses = [
        str(ipaddress.ip_interface(a).ip)
        for spec in topology.namespaces.values()
        for all_ in spec.addresses.values()
        for a in all_
    ]
    devices = [
        end.partition("/")[2]
        for link in topology.links
        for end in (link.dev, link.peer)
        if end.partition("/")[0] == name
    ]
    own = [
        str(ipaddress.ip_interface(a).ip)
        for all_ in topology.namespaces[name].addresses.values()
        for a in all_
    ]
    return [
        PacketFlow(src=src, dst=dst, in_dev=dev, proto="udp", sport=5000, dport=53, length=length, df=df)
        for dev in (None, *devices)
        for src in (own if dev is None else addresses)
        for dst in addresses
        if src != dst
        for length, df in ((100, False), (1480, True), (2300, True), (2300, False))
    ]


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_the_file_says_what_the_namespaces_show(name: str, tmp_path: Path) -> None:
    scenario = scenarios.load(name)
    if missing := scenario.missing():
        pytest.skip(missing)
    topology = scenario.topology
    assert topology is not None
    with Lab() as lab:
        build.build(lab, topology)
        for namespace in topology.namespaces:
            (tmp_path / namespace).mkdir()
            gather_in_child(tmp_path / namespace, namespace, lab.entering(namespace), kernel_log=False)
    real = {f.name: f.namespace for f in folders([str(tmp_path)])[0]}
    written, problems = folders([str(scenarios.FOLDER / f"{name}.yaml")])
    assert not problems
    compared = 0
    for folder in written:
        ruled = topology.namespaces[folder.name].nft
        for flow in packets(topology, folder.name):
            says, is_ = walk_packet(folder.namespace, flow), walk_packet(real[folder.name], flow)
            if says.disposition == "unknown":
                assert ruled, (folder.name, flow, says.steps[-1])
                continue
            compared += 1
            assert (says.disposition, says.reason, says.out) == (is_.disposition, is_.reason, is_.out), (
                folder.name,
                flow,
            )
    assert compared >= 40
