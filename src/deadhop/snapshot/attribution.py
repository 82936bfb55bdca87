"""Who is behind an address of a flow, and which address is behind a name: told by the pods that the evidence lists.

Engines that judge packets print addresses alone, hubble prints names alone. A pod in the host's network shares its
address with the node, so its address names nobody: an end with such an address is a node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from deadhop.model.observed.kube import Node, Pod
from deadhop.model.observed.policy import Flow, FlowEnd


def attributed(flows: Iterable[Flow], pods: Iterable[Pod], nodes: Iterable[Node] = ()) -> list[Flow]:
    """The flows with the names and addresses that the pods tell, in their order."""
    pods = list(pods)
    hosts = {*nodes_by_address(nodes)} | {p.ip for p in hosted(pods) if p.ip}
    by_ip: dict[str, set[str]] = {}
    by_name: dict[str, set[str]] = {}
    for pod in pods:
        if pod.ip and pod.name and pod.ip not in hosts and pod.phase not in _ENDED:
            name = f"{pod.namespace or 'default'}/{pod.name}"
            by_ip.setdefault(pod.ip, set()).add(name)
            by_name.setdefault(name, set()).add(pod.ip)
    if not by_ip and not hosts:
        return list(flows)
    return [_flow(flow, by_ip, by_name, hosts) for flow in flows]


def nodes_by_address(nodes: Iterable[Node]) -> dict[str, Node]:
    """The nodes by each of their internal addresses."""
    return {address: node for node in nodes for address in node.internal_ips}


#: Names of nodes that hold the node's address: EC2's ip-10-0-1-2.region.compute.internal, and those named by the address.
_NAMED_BY_ADDRESS = re.compile(r"^(?:ip-)?(\d{1,3})[-.](\d{1,3})[-.](\d{1,3})[-.](\d{1,3})(?:\.[a-z].*)?$")
_ENDED = ("Succeeded", "Completed", "Failed")


def on_host(pod: Pod) -> bool:
    """Whether a pod uses the host's network: it says so, or its address is its node's."""
    status = pod.raw.get("status")
    host = status.get("hostIP") if isinstance(status, dict) else None
    named = _NAMED_BY_ADDRESS.match(pod.node)
    return bool(pod.host_network) or bool(
        pod.ip and pod.ip in (host, ".".join(named.groups()) if named else "")
    )


def hosted(pods: Iterable[Pod]) -> list[Pod]:
    """The pods that use the host's network; those among them that share one address on one node can do nothing else."""
    running = [p for p in pods if p.phase not in _ENDED]
    sharing: dict[tuple[str, str], set[str]] = {}
    for pod in running:
        if pod.ip and pod.node:
            sharing.setdefault((pod.node, pod.ip), set()).add(f"{pod.namespace}/{pod.name}")
    return [p for p in running if on_host(p) or len(sharing.get((p.node, p.ip), ())) > 1]


def _flow(flow: Flow, by_ip: dict[str, set[str]], by_name: dict[str, set[str]], hosts: set[str]) -> Flow:
    src, dst = _end(flow.src, by_ip, by_name, hosts), _end(flow.dst, by_ip, by_name, hosts)
    return flow if src is flow.src and dst is flow.dst else msgspec.structs.replace(flow, src=src, dst=dst)


def _end(end: FlowEnd, by_ip: dict[str, set[str]], by_name: dict[str, set[str]], hosts: set[str]) -> FlowEnd:
    if end.ip in hosts and not end.identity and not end.name:
        return msgspec.structs.replace(end, identity="remote-node")
    if end.ip and not end.name and len(names := by_ip.get(end.ip, set())) == 1:
        return msgspec.structs.replace(end, name=next(iter(names)))
    if end.name and not end.ip and len(ips := by_name.get(end.name, set())) == 1:
        return msgspec.structs.replace(end, ip=next(iter(ips)))
    return end
