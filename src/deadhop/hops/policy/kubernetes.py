"""NetworkPolicy (networking.k8s.io/v1): additive allow rules, default deny once a policy selects the pod."""

from __future__ import annotations

from typing import Any

from deadhop.evidence.fields import integer
from deadhop.hops.policy.peers import Peer, all3, any3, inside, matches
from deadhop.model.observed.kube import KubeObject, mappings


def directions(policy: KubeObject) -> tuple[str, ...]:
    """The directions a policy governs: ``policyTypes``, else ingress and, with egress rules, egress."""
    types = policy.spec.get("policyTypes")
    if isinstance(types, list) and types:
        return tuple(str(t).lower() for t in types)
    return ("ingress", "egress") if policy.spec.get("egress") is not None else ("ingress",)


def selects(policy: KubeObject, peer: Peer) -> bool | None:
    """Whether a policy governs a pod."""
    if not peer.is_pod or (policy.namespace or "default") != peer.namespace:
        return False
    selector = policy.spec.get("podSelector")
    return matches(selector if isinstance(selector, dict) else {}, peer.labels)


def allows(policy: KubeObject, direction: str, other: Peer, port: int, protocol: str) -> bool | None:
    """Whether some rule of a policy lets ``other`` (and ``port`` at the receiving end) pass."""
    rules = mappings(policy.spec, direction)
    return any3([_rule(policy, rule, direction, other, port, protocol) for rule in rules])


def _rule(
    policy: KubeObject, rule: dict[str, Any], direction: str, other: Peer, port: int, protocol: str
) -> bool | None:
    peers = mappings(rule, "from" if direction == "ingress" else "to")
    who = any3([_peer(policy, p, other) for p in peers]) if peers else True
    receiver = other if direction == "egress" else None
    ports = mappings(rule, "ports")
    which = any3([_port(p, receiver, port, protocol) for p in ports]) if ports else True
    return all3([who, which])


def _peer(policy: KubeObject, peer: dict[str, Any], other: Peer) -> bool | None:
    block = peer.get("ipBlock")
    if isinstance(block, dict):
        return inside(other.ip, block) if other.ip else None
    if not other.is_pod:
        return False
    namespaces, pods = peer.get("namespaceSelector"), peer.get("podSelector")
    if namespaces is None:
        where: bool | None = other.namespace == (policy.namespace or "default")
    else:
        labels = other.namespace_labels
        if labels is None and other.namespace:
            labels = {"kubernetes.io/metadata.name": other.namespace}
            where = matches(namespaces, labels)
            where = None if where is False and not _only_name(namespaces) else where
        else:
            where = matches(namespaces, labels)
    return all3([where, matches(pods, other.labels) if pods is not None else True])


def _only_name(selector: Any) -> bool:
    """Whether a selector asks for nothing but the automatic name label."""
    wanted = selector.get("matchLabels") if isinstance(selector, dict) else None
    return (
        isinstance(wanted, dict)
        and set(wanted) == {"kubernetes.io/metadata.name"}
        and not selector.get("matchExpressions")
    )


def _port(entry: dict[str, Any], receiver: Peer | None, port: int, protocol: str) -> bool | None:
    if str(entry.get("protocol") or "TCP").upper() != protocol.upper():
        return False
    wanted = entry.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, str) and not wanted.isdigit():
        if receiver is None or wanted not in receiver.ports:
            return None
        return receiver.ports[wanted] == port
    first = integer(str(wanted))
    last = integer(str(entry.get("endPort", wanted)))
    return None if first is None or last is None else first <= port <= last
