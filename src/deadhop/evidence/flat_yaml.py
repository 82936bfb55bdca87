"""Manifests whose indentation was lost on the way into a ticket.

The schema of the few kinds that matter says which key may stand below which, so the tree can be rebuilt: a key
belongs to the innermost open mapping whose schema knows it. Maps with free keys (labels, data) take what their
parents do not know.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

# Each schema maps a key to the schema below it: None for a scalar or list of scalars, a dict for a mapping, a
# one-element list for a list of mappings. "*" stands for free keys.
_FREE: dict[str, Any] = {"*": None}
_EXPRESSION = {"key": None, "operator": None, "values": None}
_SELECTOR = {"matchLabels": _FREE, "matchExpressions": [_EXPRESSION]}
_META = {
    "name": None, "namespace": None, "labels": _FREE, "annotations": _FREE, "creationTimestamp": None,
    "resourceVersion": None, "uid": None, "generateName": None,
}  # fmt: skip
_PEER = {"podSelector": _SELECTOR, "namespaceSelector": _SELECTOR, "ipBlock": {"cidr": None, "except": None}}
_NP_PORT = {"port": None, "protocol": None, "endPort": None}
_NP_SPEC = {
    "podSelector": _SELECTOR, "policyTypes": None,
    "ingress": [{"from": [_PEER], "ports": [_NP_PORT]}], "egress": [{"to": [_PEER], "ports": [_NP_PORT]}],
}  # fmt: skip
_FQDN = {"matchName": None, "matchPattern": None}
_CNP_PORT = {
    "ports": [{"port": None, "protocol": None}],
    "rules": {"dns": [_FQDN], "http": [{"method": None, "path": None}]},
}
_CNP_RULE = {
    "toFQDNs": [_FQDN], "toEndpoints": [_SELECTOR], "fromEndpoints": [_SELECTOR], "toEntities": None,
    "fromEntities": None, "toCIDR": None, "toCIDRSet": [{"cidr": None, "except": None}], "toPorts": [_CNP_PORT],
}  # fmt: skip
_CNP_SPEC = {"endpointSelector": _SELECTOR, "ingress": [_CNP_RULE], "egress": [_CNP_RULE]}
_SVC_SPEC = {
    "ports": [{"name": None, "port": None, "protocol": None, "targetPort": None, "nodePort": None, "appProtocol": None}],
    "selector": _FREE, "clusterIP": None, "type": None, "externalTrafficPolicy": None, "sessionAffinity": None,
}  # fmt: skip
_SPECS: dict[str, Any] = {
    "NetworkPolicy": _NP_SPEC,
    "CiliumNetworkPolicy": _CNP_SPEC,
    "CiliumClusterwideNetworkPolicy": _CNP_SPEC,
    "Service": _SVC_SPEC,
    "PeerAuthentication": {"selector": _SELECTOR, "mtls": {"mode": None}, "portLevelMtls": _FREE},
}
_KEY = re.compile(r"^((?:- +)*)([\"']?[^\s:\"'#][^:\"']*?[\"']?)\s*:(?:\s+(.*))?$")


def rebuild(lines: list[str]) -> dict[str, Any] | None:
    """The manifest in ``lines`` (no blanks, no indentation), or None where its kind has no schema here."""
    kind = next((m[3] for line in lines if (m := _KEY.match(line)) and m[2] == "kind" and m[3]), "").strip(
        "\"' "
    )
    spec = _SPECS.get(kind)
    if spec is None and kind != "ConfigMap":
        return None
    top: dict[str, Any] = {
        "apiVersion": None,
        "kind": None,
        "metadata": _META,
        "spec": spec or {},
        "data": _FREE,
        "status": {},
    }
    root: dict[str, Any] = {}
    stack: list[tuple[Any, Any]] = [(root, top)]
    scalar: tuple[dict[str, Any], str] | None = None
    holder: dict[str, Any] | None
    for line in lines:
        match = _KEY.match(line)
        if match is None or (
            match[2].strip("\"'") not in top
            and not _knows(stack, match[2].strip("\"'"), bool(match[1]))
            and scalar
        ):
            if scalar:
                open_map, key = scalar
                open_map[key] = f"{open_map[key]}\n{line}".lstrip("\n")
            else:
                _plain_item(stack, line)
            continue
        scalar = None
        dash, key, text = bool(match[1]), match[2].strip("\"'"), (match[3] or "").strip()
        holder = _place(stack, key, dash)
        if holder is None:
            continue
        below = stack[-1][1].get(key, stack[-1][1].get("*"))
        if text in ("|", "|-", ">", ">-"):
            holder[key] = ""
            scalar = (holder, key)
        elif text:
            holder[key] = _value(text)
        elif isinstance(below, list):
            holder[key] = []
            stack.append((holder[key], below))
        elif isinstance(below, dict):
            holder[key] = {}
            stack.append((holder[key], below))
        else:
            holder[key] = []
            stack.append((holder[key], None))
    return root if root.get("kind") else None


def _knows(stack: list[tuple[Any, Any]], key: str, dash: bool) -> bool:
    return any(_accepts(schema, key, dash) for _holder, schema in stack)


def _accepts(schema: Any, key: str, dash: bool) -> bool:
    if isinstance(schema, list):
        return key in schema[0]
    return isinstance(schema, dict) and not dash and (key in schema or "*" in schema)


def _place(stack: list[tuple[Any, Any]], key: str, dash: bool) -> dict[str, Any] | None:
    """Closes what cannot hold ``key`` and gives the mapping that can; a free map yields to a parent that knows it."""
    for depth in range(len(stack) - 1, -1, -1):
        holder, schema = stack[depth]
        free = isinstance(schema, dict) and "*" in schema
        if (
            free
            and any(isinstance(s, dict) and key in s and "*" not in s for _h, s in stack[:depth])
            and holder
        ):
            continue
        if not _accepts(schema, key, dash):
            continue
        del stack[depth + 1 :]
        if isinstance(holder, list):
            item: dict[str, Any] = {}
            if holder and not dash and isinstance(holder[-1], dict) and key not in holder[-1]:
                item = holder[-1]
            else:
                holder.append(item)
            stack.append((item, schema[0]))
            return item
        return holder if isinstance(holder, dict) else None
    return None


def _plain_item(stack: list[tuple[Any, Any]], line: str) -> None:
    text = line.lstrip("- ").strip()
    for holder, schema in reversed(stack):
        if schema is None and isinstance(holder, list) and line.startswith("-"):
            holder.append(_value(text))
            return


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
