"""Who is behind an address of a flow, and which address is behind a name: told by the pods that the evidence lists.

Engines that judge packets print addresses alone, hubble prints names alone. A pod in the host's network shares its
address with the node, so its address names nobody: an end with such an address is a node.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from deadhop.model.observed.kube import Node, Pod
from deadhop.model.observed.policy import Flow, FlowEnd


def attributed(flows: Iterable[Flow], pods: Iterable[Pod], nodes: Iterable[Node] = ()) -> list[Flow]:
    """The flows with the names and addresses that the pods tell, in their order."""
    pods = list(pods)
    hosts = {*nodes_by_address(nodes)} | {p.ip for p in pods if p.ip and on_host(p)}
    by_ip: dict[str, set[str]] = {}
    by_name: dict[str, set[str]] = {}
    for pod in pods:
        if (
            pod.ip
            and pod.name
            and pod.ip not in hosts
            and pod.phase not in ("Succeeded", "Completed", "Failed")
        ):
            name = f"{pod.namespace or 'default'}/{pod.name}"
            by_ip.setdefault(pod.ip, set()).add(name)
            by_name.setdefault(name, set()).add(pod.ip)
    if not by_ip and not hosts:
        return list(flows)
    return [_flow(flow, by_ip, by_name, hosts) for flow in flows]


def nodes_by_address(nodes: Iterable[Node]) -> dict[str, Node]:
    """The nodes by each of their internal addresses."""
    return {address: node for node in nodes for address in node.internal_ips}


def on_host(pod: Pod) -> bool:
    """Whether a pod uses the host's network: it says so, or its address is its node's."""
    status = pod.raw.get("status")
    host = status.get("hostIP") if isinstance(status, dict) else None
    return bool(pod.host_network) or bool(pod.ip and pod.ip == host)


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
