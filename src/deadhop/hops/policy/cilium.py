"""CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy at L3/L4 (pkg/policy/api, pkg/policy/rule.go).

Ports are those after service translation. ``toFQDNs`` is the FQDN hop's matter: a rule with it neither allows nor
denies here. Deny rules win over allow rules; any rule section of a direction puts the endpoint into default deny.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deadhop.evidence.fields import integer
from deadhop.hops.policy.peers import Peer, all3, any3, inside, matches
from deadhop.model.observed.kube import KubeObject, listing, mapping, mappings

_NAMESPACE = ("io.kubernetes.pod.namespace", "k8s:io.kubernetes.pod.namespace")
#: Entities and the reserved identities that they stand for (pkg/policy/api/entity.go).
ENTITIES: dict[str, frozenset[str]] = {
    "world": frozenset({"world"}),
    "host": frozenset({"host"}),
    "remote-node": frozenset({"remote-node", "kube-apiserver"}),
    "kube-apiserver": frozenset({"kube-apiserver"}),
    "health": frozenset({"health"}),
    "init": frozenset({"init"}),
    "ingress": frozenset({"ingress"}),
    "unmanaged": frozenset({"unmanaged"}),
}


def specs(policy: KubeObject) -> Iterator[dict[str, Any]]:
    if policy.spec:
        yield policy.spec
    yield from mappings(policy.raw, "specs")


def directions(policy: KubeObject) -> tuple[str, ...]:
    """The directions in which a policy puts its endpoints into default deny."""
    found = []
    for direction in ("ingress", "egress"):
        for spec in specs(policy):
            relaxed = spec.get("enableDefaultDeny")
            off = isinstance(relaxed, dict) and relaxed.get(direction) is False
            if (spec.get(direction) is not None or spec.get(direction + "Deny") is not None) and not off:
                found.append(direction)
                break
    return tuple(found)


def selects(policy: KubeObject, peer: Peer) -> bool | None:
    if not peer.is_pod:
        return False
    clusterwide = policy.kind.startswith("CiliumClusterwide")
    if not clusterwide and (policy.namespace or "default") != peer.namespace:
        return False
    return any3([matches(mapping(s, "endpointSelector"), _with_namespace(peer)) for s in specs(policy)])


def _with_namespace(peer: Peer) -> dict[str, str] | None:
    if peer.labels is None:
        return None
    namespaced = {f"io.cilium.k8s.namespace.labels.{k}": v for k, v in (peer.namespace_labels or {}).items()}
    return {**peer.labels, **namespaced, "io.kubernetes.pod.namespace": peer.namespace}


def denies(policy: KubeObject, direction: str, other: Peer, port: int, protocol: str) -> bool | None:
    return any3(
        [_rule(policy, r, direction, other, port, protocol) for r in _rules(policy, direction + "Deny")]
    )


def allows(policy: KubeObject, direction: str, other: Peer, port: int, protocol: str) -> bool | None:
    return any3([_rule(policy, r, direction, other, port, protocol) for r in _rules(policy, direction)])


def _rules(policy: KubeObject, key: str) -> Iterator[dict[str, Any]]:
    for spec in specs(policy):
        yield from mappings(spec, key)


def covering(
    policy: KubeObject, direction: str, other: Peer, port: int, protocol: str
) -> Iterator[dict[str, Any]]:
    """The ``toPorts`` items (empty for a rule without ports) by which rules allow a connection for certain."""
    for rule in _rules(policy, direction):
        items: list[dict[str, Any]] = mappings(rule, "toPorts") or [{}]
        for item in items:
            alone = {**rule, "toPorts": [item]} if item else rule
            if _rule(policy, alone, direction, other, port, protocol):
                yield item


def names_for(policy: KubeObject, port: int, protocol: str) -> Iterator[dict[str, Any]]:
    """The entries of ``toFQDNs`` in egress rules that cover a port."""
    for rule in _rules(policy, "egress"):
        items = mappings(rule, "toPorts")
        if not items or any(_ports(item, None, port, protocol) for item in items):
            yield from mappings(rule, "toFQDNs")


def _rule(
    policy: KubeObject, rule: dict[str, Any], direction: str, other: Peer, port: int, protocol: str
) -> bool | None:
    side = "from" if direction == "ingress" else "to"
    if "toFQDNs" in rule:
        return False
    answers: list[bool | None] = []
    named = False
    for key, judge in (
        ("Endpoints", _endpoint),
        ("Entities", _entity),
        ("CIDR", _cidr),
        ("CIDRSet", _cidr_set),
    ):
        if rule.get(side + key) is not None:
            values = listing(rule, side + key)
            named = True
            answers += [judge(policy, v, other) for v in values]
    if (
        rule.get(side + "Services") is not None
        or rule.get(side + "Groups") is not None
        or rule.get(side + "Requires") is not None
    ):
        named = True
        answers.append(None)
    who = any3(answers) if named else True
    items = mappings(rule, "toPorts")
    if not items:
        return who
    receiver = other if direction == "egress" else None
    which = any3([_ports(item, receiver, port, protocol) for item in items])
    return all3([who, which])


def _endpoint(policy: KubeObject, selector: Any, other: Peer) -> bool | None:
    if not other.is_pod:
        wanted = mapping(selector, "matchLabels")
        return any(str(k) == f"reserved:{other.entity}" for k in wanted)
    wanted = mapping(selector, "matchLabels")
    if (
        not policy.kind.startswith("CiliumClusterwide")
        and not any(k in _NAMESPACE or "namespace.labels" in k for k in wanted)
        and other.namespace != (policy.namespace or "default")
    ):
        return False
    return matches(selector, _with_namespace(other))


def _entity(_policy: KubeObject, entity: Any, other: Peer) -> bool | None:
    if entity == "all":
        return True
    if entity == "cluster":
        return other.is_pod or other.entity in (
            "host",
            "remote-node",
            "kube-apiserver",
            "health",
            "init",
            "ingress",
            "unmanaged",
        )
    identity = other.entity or ("" if other.is_pod else "world")
    return identity in ENTITIES.get(str(entity), frozenset())


def _cidr(_policy: KubeObject, cidr: Any, other: Peer) -> bool | None:
    """CIDR rules select neither pods nor, by default, nodes: those have identities of their own."""
    if other.is_pod or other.entity in ("host", "remote-node", "kube-apiserver"):
        return False
    return inside(other.ip, {"cidr": cidr}) if other.ip else None


def _cidr_set(_policy: KubeObject, block: Any, other: Peer) -> bool | None:
    if not isinstance(block, dict) or "cidr" not in block:
        return None
    if other.is_pod or other.entity in ("host", "remote-node", "kube-apiserver"):
        return False
    return inside(other.ip, block) if other.ip else None


def _ports(item: dict[str, Any], receiver: Peer | None, port: int, protocol: str) -> bool | None:
    ports = mappings(item, "ports")
    if not ports:
        return True
    answers: list[bool | None] = []
    for entry in ports:
        wanted = str(entry.get("port", "0"))
        first = integer(wanted)
        if str(entry.get("protocol") or "ANY").upper() not in ("ANY", protocol.upper()):
            answers.append(False)
        elif first is not None:
            last = integer(str(entry.get("endPort") or first))
            answers.append(first == 0 or (last is not None and first <= port <= last))
        else:
            answers.append(receiver.ports[wanted] == port if receiver and wanted in receiver.ports else None)
    return any3(answers)
