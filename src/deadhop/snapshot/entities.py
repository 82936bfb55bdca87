"""Cilium's reserved identities and identity ranges: what kind of peer an end of a flow is.

Numbers are those of pkg/identity/numericidentity.go; local (CIDR, FQDN) identities have bit 24 set.
"""

from __future__ import annotations

from collections.abc import Iterable

from deadhop.model.observed.policy import CiliumEvent, CiliumIdentity, Flow, FlowEnd

#: Reserved identities by number, as text.
RESERVED = {
    "1": "host",
    "2": "world",
    "3": "unmanaged",
    "4": "health",
    "5": "init",
    "6": "remote-node",
    "7": "kube-apiserver",
    "8": "ingress",
    "9": "world-ipv4",
    "10": "world-ipv6",
}


def identities(*names: str) -> frozenset[str]:
    """Reserved identities as evidence writes them: by name and by number."""
    return frozenset(names) | {n for n, name in RESERVED.items() if name in names}


WORLD = identities("world", "world-ipv4", "world-ipv6")
NODE = identities("host", "remote-node", "kube-apiserver")
LOCAL = 1 << 24
CLUSTER = range(256, 1 << 16)


#: Pods through which a managed API server calls webhooks and kubelets (apiserver-network-proxy and its older kin).
_APISERVER_AGENTS = ("konnectivity", "aks-link", "tunnelfront", "proxy-agent", "apiserver-network-proxy")


def is_pod(end: FlowEnd) -> bool:
    """Whether an end is a pod: hubble names it ``namespace/pod``."""
    return "/" in end.name


def among_pods(flow: Flow, flows: Iterable[Flow]) -> bool:
    """Whether the source of a flow without names lies among pods: another client in its /16 passed by a rule at the same
    destination. The first addresses of a node's subnet are its own (OVN-Kubernetes' gateway and management port); with
    the AWS agent's lines nothing is said, as nodes and pods share their subnets there."""
    if (
        "flow info" in flow.summary.lower()
        or flow.src.name
        or flow.src.identity
        or flow.src.ip.rpartition(".")[2] in ("", "0", "1", "2")
    ):
        return False
    network = flow.src.ip.split(".")[:2]
    return any(
        not f.denied and f.dst.ip == flow.dst.ip and f.src.ip != flow.src.ip and f.src.ip.split(".")[:2] == network
        for f in flows
    )  # fmt: skip


def is_node(end: FlowEnd) -> bool:
    return end.identity in NODE


def is_apiserver_agent(name: str) -> bool:
    """Whether a pod (``namespace/name`` or a name) carries the API server's own calls."""
    return name.rpartition("/")[2].startswith(_APISERVER_AGENTS)


def number(identity: str) -> int:
    """The numeric identity; 0 for a name."""
    return int(identity) if identity.isdecimal() and len(identity) < 12 else 0


def prefixes(identities: Iterable[CiliumIdentity]) -> dict[str, list[CiliumIdentity]]:
    """What the evidence shows of each prefix, in its order."""
    found: dict[str, list[CiliumIdentity]] = {}
    for identity in identities:
        if identity.prefix:
            found.setdefault(identity.prefix, []).append(identity)
    return found


def denied_to(flows: Iterable[Flow], address: str) -> list[Flow]:
    """Denied flows to an address."""
    return [f for f in flows if f.denied and f.dst.ip == address]


def by_policy(flow: Flow) -> bool:
    """Whether a denied flow was denied by policy, as far as it says why (133 is a denial, 181 one by a deny rule)."""
    reason = flow.drop_reason or ("" if flow.event.isdigit() else flow.event)
    return not flow.drop_reason or "olicy" in reason or "POLICY" in reason or reason in ("133", "181")


def denied_peers(flows: Iterable[Flow]) -> list[tuple[str, FlowEnd, list[Flow]]]:
    """Denied flows by direction and far end: ``(direction, peer, flows)``. The peer of ingress is the source.

    Where neither the event nor the direction says which side denied, a node as source means ingress.
    """
    found: dict[tuple[str, str, str, int | None], tuple[str, FlowEnd, list[Flow]]] = {}
    for flow in flows:
        if not flow.denied or flow.dns is not None or not by_policy(flow):
            continue
        words = f"{flow.event} {flow.direction}"
        ingress = "INGRESS" in words or ("EGRESS" not in words and is_node(flow.src))
        direction, peer = ("ingress", flow.src) if ingress else ("egress", flow.dst)
        key = (direction, peer.name or peer.ip, flow.dst.name, flow.dst.port)
        found.setdefault(key, (direction, peer, []))[2].append(flow)
    return list(found.values())


def denied_events(events: Iterable[CiliumEvent]) -> list[tuple[str, FlowEnd, list[CiliumEvent]]]:
    """The same of the monitor's drops: a node as source means ingress."""
    found: dict[tuple[str, str, str, int | None], tuple[str, FlowEnd, list[CiliumEvent]]] = {}
    for event in events:
        if event.verdict != "DROPPED" or "olicy denied" not in event.reason or not event.src:
            continue
        source = FlowEnd(ip=event.src, port=event.sport, identity=event.src_identity)
        target = FlowEnd(ip=event.dst, port=event.dport, identity=event.dst_identity)
        direction, peer = ("ingress", source) if is_node(source) else ("egress", target)
        found.setdefault((direction, peer.ip, event.dst, event.dport), (direction, peer, []))[2].append(event)
    return list(found.values())
