"""The ends of a connection as policy sees them, and label selectors (labels.Selector, metav1.LabelSelector)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

import msgspec

from deadhop.model.observed.kube import listing, mapping, mappings


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """One end. ``labels`` and ``namespace_labels`` are None where the evidence does not say; a peer without a
    namespace is outside the cluster. ``entity`` is a Cilium reserved identity (``host``, ``remote-node``, ``world``)."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None
    namespace_labels: dict[str, str] | None = None
    ip: str = ""
    entity: str = ""
    ports: dict[str, int] = msgspec.field(default_factory=dict)

    @property
    def is_pod(self) -> bool:
        return bool(self.namespace) and not self.entity


def matches(selector: Any, labels: Mapping[str, str] | None) -> bool | None:
    """Whether a label selector selects ``labels``. An empty selector selects everything, None where unknown."""
    if not isinstance(selector, dict):
        return None
    wanted = mapping(selector, "matchLabels")
    expressions = mappings(selector, "matchExpressions")
    if not wanted and not expressions:
        return True
    if labels is None:
        return None
    if any(labels.get(_bare(k)) != str(v) for k, v in wanted.items()):
        return False
    return all(_expression(e, labels) for e in expressions)


def _bare(key: str) -> str:
    """A Cilium label key without its source (``k8s:app`` is ``app``)."""
    for source in ("k8s:", "any:"):
        key = key.removeprefix(source)
    return key


def _expression(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key = _bare(str(expression.get("key", "")))
    values = [str(v) for v in listing(expression, "values")]
    operator = expression.get("operator")
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return labels.get(key) not in values
    if operator == "Exists":
        return key in labels
    return operator == "DoesNotExist" and key not in labels


def inside(ip: str, block: Any) -> bool | None:
    """Whether an address lies in ``{cidr, except}``; None where either is not readable."""
    try:
        address = ipaddress.ip_address(ip)
        if address not in ipaddress.ip_network(str(mapping(block).get("cidr")), strict=False):
            return False
        return not any(
            address in ipaddress.ip_network(str(e), strict=False) for e in listing(block, "except")
        )
    except ValueError:
        return None


def any3(answers: list[bool | None]) -> bool | None:
    """Three-valued or."""
    if any(a is True for a in answers):
        return True
    return None if any(a is None for a in answers) else False


def all3(answers: list[bool | None]) -> bool | None:
    """Three-valued and."""
    if any(a is False for a in answers):
        return False
    return None if any(a is None for a in answers) else True
