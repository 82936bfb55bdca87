"""Calico's network policies in the words of networking.k8s.io, as far as those can say the same.

A policy of only ``Allow`` rules behaves like a NetworkPolicy: what selects an endpoint and allows nothing that matches
denies it (docs.tigera.io, "Get started with Calico network policy"). Selectors of one clause or several joined by ``&&`` become label
selectors. Deny and Pass rules, negations of peers and orders between policies cannot be said: such a policy is not
translated.
"""

from __future__ import annotations

import re
from typing import Any

from deadhop.model.observed.kube import listing, mapping, mappings

_KEY = r"(?P<key>[\w./-]+)"
_CLAUSES = (
    (re.compile(_KEY + r"\s*==\s*(?P<q>['\"])(?P<value>[^'\"]*)(?P=q)"), "In"),
    (re.compile(_KEY + r"\s*!=\s*(?P<q>['\"])(?P<value>[^'\"]*)(?P=q)"), "NotIn"),
    (re.compile(_KEY + r"\s+in\s+\{(?P<values>[^{}]*)\}"), "In"),
    (re.compile(_KEY + r"\s+not\s+in\s+\{(?P<values>[^{}]*)\}"), "NotIn"),
    (re.compile(r"has\(" + _KEY + r"\)"), "Exists"),
    (re.compile(r"!\s*has\(" + _KEY + r"\)"), "DoesNotExist"),
)
#: Names that the namespace's own profile gives every endpoint (libcalico-go, resources: profile ``kns.NAME``).
_NAME_KEYS = {"projectcalico.org/name": "kubernetes.io/metadata.name"}
_NUMBERS = {"6": "TCP", "17": "UDP", "132": "SCTP"}
_RULE = frozenset({"action", "protocol", "source", "destination", "metadata", "ipVersion"})
_PEER = frozenset({"selector", "namespaceSelector", "nets", "ports"})


class NotSaid(ValueError):
    """What networking.k8s.io has no words for."""


def selector(text: Any) -> dict[str, Any]:
    """A Calico selector as a label selector. Raises :class:`NotSaid`."""
    expressions = []
    for clause in str(text or "").split("&&"):
        clause = clause.strip()
        if clause in ("", "all()"):
            continue
        expressions.append(_clause(clause))
    labels = {
        e["key"]: e["values"][0] for e in expressions if e["operator"] == "In" and len(e["values"]) == 1
    }
    rest = [e for e in expressions if e["operator"] != "In" or len(e["values"]) != 1]
    return {
        **({"matchLabels": labels} if labels else {}),
        **({"matchExpressions": rest} if rest else {}),
    }


def _clause(clause: str) -> dict[str, Any]:
    for pattern, operator in _CLAUSES:
        if match := pattern.fullmatch(clause):
            named = match.groupdict()
            key = _NAME_KEYS.get(named["key"], named["key"])
            if operator in ("Exists", "DoesNotExist"):
                return {"key": key, "operator": operator}
            listed = named.get("values")
            values = (
                [named["value"]] if listed is None else [v.strip().strip("'\"") for v in listed.split(",")]
            )
            return {"key": key, "operator": operator, "values": values}
    raise NotSaid(clause)


def is_policy(value: dict[str, Any]) -> bool:
    """Whether an object, or the ``spec`` of one without its kind, is a Calico policy."""
    if value.get("kind") in ("NetworkPolicy", "GlobalNetworkPolicy"):
        return "projectcalico.org" in str(value.get("apiVersion", "")) or isinstance(
            mapping(value, "spec").get("selector"), str
        )
    spec = mapping(value, "spec") or value
    rules = [*mappings(spec, "ingress"), *mappings(spec, "egress")]
    return (
        "kind" not in value
        and isinstance(spec.get("selector"), str)
        and bool(rules)
        and all(isinstance(r.get("action"), str) for r in rules)
    )


def translated(value: dict[str, Any]) -> dict[str, Any] | None:
    """The ``spec`` of a NetworkPolicy that says the same; None where there is none."""
    spec = mapping(value, "spec") or value
    if value.get("kind") == "GlobalNetworkPolicy" or spec.get("namespaceSelector") or spec.get("serviceAccountSelector"):  # fmt: skip
        return None
    try:
        made: dict[str, Any] = {"podSelector": selector(spec.get("selector"))}
        for direction, key in (("ingress", "source"), ("egress", "destination")):
            if direction in spec:
                made[direction] = [_rule(r, direction, key) for r in mappings(spec, direction) if r.get("action") != "Log"]  # fmt: skip
    except NotSaid:
        return None
    types = [str(t) for t in listing(spec, "types")]
    made["policyTypes"] = types or [d.capitalize() for d in ("ingress", "egress") if d in spec] or ["Ingress"]
    return made


def _rule(rule: dict[str, Any], direction: str, key: str) -> dict[str, Any]:
    side, target = mapping(rule, key), mapping(rule, "destination")
    other = mapping(rule, "source" if key == "destination" else "destination")
    plain = (
        rule.get("action") == "Allow"
        and rule.keys() <= _RULE
        and side.keys() <= _PEER
        and other.keys() <= {"ports"}
        and not (mapping(rule, "source").get("ports"))
    )
    if not plain:
        raise NotSaid(direction)
    found: dict[str, Any] = {}
    if peer := _peer(side):
        found["from" if direction == "ingress" else "to"] = peer
    protocol = str(rule.get("protocol", "TCP")).upper()
    if ports := [_port(p, _NUMBERS.get(protocol, protocol)) for p in listing(target, "ports")]:
        found["ports"] = ports
    elif "protocol" in rule:
        found["ports"] = [{"protocol": _NUMBERS.get(protocol, protocol)}]
    return found


def _peer(side: dict[str, Any]) -> list[dict[str, Any]]:
    blocks = [{"ipBlock": {"cidr": str(n)}} for n in listing(side, "nets")]
    selectors: dict[str, Any] = {}
    if side.get("selector"):
        selectors["podSelector"] = selector(side["selector"])
    if side.get("namespaceSelector"):
        if "global()" in str(side["namespaceSelector"]):
            raise NotSaid("global()")
        selectors["namespaceSelector"] = selector(side["namespaceSelector"])
    if blocks and selectors:
        raise NotSaid("nets and selector")
    return blocks or ([selectors] if selectors else [])


def _port(port: Any, protocol: str) -> dict[str, Any]:
    if isinstance(port, str) and (match := re.fullmatch(r"(\d{1,5}):(\d{1,5})", port)):
        return {"port": int(match[1]), "endPort": int(match[2]), "protocol": protocol}
    return {
        "port": int(port) if str(port).isdecimal() and len(str(port)) < 6 else str(port),
        "protocol": protocol,
    }


def profile(value: dict[str, Any]) -> tuple[str, dict[str, str]] | None:
    """The namespace and its labels that a profile ``kns.NAME``, or its ``labelsToApply`` alone, shows."""
    spec = mapping(value, "spec")
    told = mapping(spec, "labelsToApply") or mapping(value, "labelsToApply") or value
    if not told or not all(isinstance(k, str) and k.startswith("pcns.") for k in told):
        return None
    labels = {str(k).removeprefix("pcns."): str(v) for k, v in told.items()}
    named = str(mapping(value, "metadata").get("name", "")).removeprefix("kns.")
    name = named or labels.get("projectcalico.org/name") or labels.get("kubernetes.io/metadata.name", "")
    return (name, labels) if name else None


__all__ = ["NotSaid", "is_policy", "profile", "selector", "translated"]
