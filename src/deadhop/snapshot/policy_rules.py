"""What the rules of a policy name, in either API: networks, ports, entities, selectors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.kube import KubeObject, listing, mapping, mappings
from deadhop.snapshot.firewall import within
from deadhop.snapshot.fqdn_policy import rules

_PEERS = {"egress": "to", "ingress": "from"}


def policy_rules(policy: KubeObject, direction: str) -> Iterator[dict[str, Any]]:
    """The rules of one direction of a NetworkPolicy or a Cilium policy."""
    if policy.kind == "NetworkPolicy":
        yield from mappings(policy.spec, direction)
    else:
        yield from rules(policy, direction)


def peer_keys(rule: dict[str, Any], direction: str, *suffixes: str) -> Iterator[Any]:
    """The items below ``toX``/``fromX`` of a Cilium rule, for each suffix ``X``."""
    for suffix in suffixes:
        yield from listing(rule, f"{_PEERS[direction]}{suffix}")


def blocks(rule: dict[str, Any], direction: str) -> list[str]:
    """The networks and bare addresses that a rule lists."""
    sets = [
        *(mapping(p, "ipBlock") for p in mappings(rule, _PEERS[direction])),
        *(c for c in peer_keys(rule, direction, "CIDRSet") if isinstance(c, dict)),
    ]
    found = [c for c in peer_keys(rule, direction, "CIDR") if isinstance(c, str)]
    return found + [str(s["cidr"]) for s in sets if s.get("cidr")]


def cidrs(rule: dict[str, Any], direction: str) -> list[str]:
    """The networks that a rule lists."""
    return [c for c in blocks(rule, direction) if "/" in c]


def listing_address(
    policies: Iterable[KubeObject], direction: str, address: str
) -> list[tuple[KubeObject, str]]:
    """The policies whose blocks hold an address, each with its first such block."""
    found: dict[int, tuple[KubeObject, str]] = {}
    for policy, rule in all_rules(policies, direction):
        for block in blocks(rule, direction):
            if within(address, block):
                found.setdefault(id(policy), (policy, block))
    return list(found.values())


def selecting(rule: dict[str, Any], direction: str) -> list[dict[str, Any]]:
    """The pod, namespace and endpoint selectors of a rule."""
    found = [p for p in mappings(rule, _PEERS[direction]) if "podSelector" in p or "namespaceSelector" in p]
    return found + [e for e in peer_keys(rule, direction, "Endpoints") if isinstance(e, dict)]


def entities(rule: dict[str, Any], direction: str) -> list[str]:
    return [str(e) for e in peer_keys(rule, direction, "Entities")]


def rule_ports(rule: dict[str, Any]) -> list[str]:
    """The ports of a rule, numbers or names, as text."""
    items = mappings(rule, "toPorts")
    inner = [p for item in items for p in mappings(item, "ports")] if items else mappings(rule, "ports")
    return [str(p["port"]) for p in inner if "port" in p]


def all_rules(policies: Iterable[KubeObject], direction: str) -> list[tuple[KubeObject, dict[str, Any]]]:
    return [(policy, rule) for policy in policies for rule in policy_rules(policy, direction)]


#: Values and keys of labels that say nothing but that their bearer may pass.
_GRANTED = frozenset({"true", "yes", "allow", "allowed", "granted", "enabled", "permitted"})
_GRANTING = re.compile(r"(?:^|[-./_])(?:access|allow(?:ed)?|client)(?:$|[-./_])|-(?:client|access)$")


def admits_by_grant(policy: KubeObject) -> bool:
    """Whether the clients of a policy are those that were given a label for it (``db-client: "true"``), in every rule."""
    wanted = [
        mapping(s.get("podSelector", s if "matchLabels" in s else {}), "matchLabels")
        for _p, rule in all_rules([policy], "ingress")
        for s in selecting(rule, "ingress")
    ]
    return bool(wanted) and all(
        any(str(v).lower() in _GRANTED or _GRANTING.search(str(k)) for k, v in labels.items())
        for labels in wanted
    )


def failing(dials: Iterable[DialFailure], exchanges: Iterable[HttpExchange]) -> bool:
    """Whether some client reports that it cannot get through."""
    return any(d.error in ("timeout", "refused", "unreachable") for d in dials) or any(x.error in ("timeout", "refused", "unreachable") for x in exchanges)  # fmt: skip
