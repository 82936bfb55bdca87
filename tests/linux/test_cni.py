"""Which datapath a node shows, and what a walk takes for granted because of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deadhop.evidence.namespace.folders import folders
from deadhop.hops.cni import datapaths
from deadhop.hops.linux.across import Wiring, walk_across
from deadhop.model.net import Link, NextHop, Route, Rule
from deadhop.model.netns import NetNamespace
from deadhop.model.packet import PacketFlow


def node(*devices: str, routes: tuple[Route, ...] = (), rules: tuple[Rule, ...] = ()) -> NetNamespace:
    return NetNamespace(links=tuple(Link(ifname=d) for d in devices), routes4=routes, rules4=rules)


def host_route(dev: str) -> Route:
    return Route(family=4, dst="10.0.0.9", legs=(NextHop(dev=dev),))


@pytest.mark.parametrize(
    ("ns", "names"),
    [
        (node("cilium_host", "lxc1"), ["Cilium, routes by cilium_host"]),
        (node("cilium_host", "lxc1", routes=(host_route("lxc1"),)), ["Cilium, endpoint routes"]),
        (node("eni1", rules=(Rule(family=4, priority=512, table="main"),)), ["AWS VPC CNI"]),
        (node("eni1"), []),
        (node("cali1", "vxlan.calico"), ["Calico"]),
        (node("cni0", "flannel.1"), ["Flannel"]),
        (node("kube-ipvs0"), ["kube-proxy, IPVS"]),
        (node("eth0"), []),
    ],
)
def test_the_listing_tells_the_datapath(ns: NetNamespace, names: list[str]) -> None:
    assert [row.name for row in datapaths(ns)] == names


def test_a_walk_says_that_bpf_host_routing_is_not_seen() -> None:
    found, _ = folders([str(Path(__file__).parent / "across" / "cilium_host.yaml")])
    wires = Wiring({f.name: f.namespace for f in found})
    end = walk_across(wires, "node", PacketFlow(src="10.0.0.150", dst="10.0.0.63", dport=7, sport=4000))
    assert end.netns == "web"
    assert any("Host Routing: Legacy" in text for text in end.answer.assumed)
    assert any(step.function == "cil_from_host" for stage in end.stages for step in stage.steps)
