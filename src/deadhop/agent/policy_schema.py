"""The fields of a CiliumNetworkPolicy that the agent enforces, as data, and where a value departs from them.

Names and forms are those of the CRD (pkg/k8s/apis/cilium.io/v2, pkg/policy/api).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

At = tuple[str | int, ...]
"""Where a value stands in its document."""

_EXPRESSION = {"key": str, "operator": str, "values": [str]}
_SELECTOR = {"matchLabels": {"*": str}, "matchExpressions": [_EXPRESSION]}
_FQDN = {"matchName": str, "matchPattern": str}
_PORTS = {
    "ports": [{"port": str, "endPort": int, "protocol": str}],
    "rules": {"dns": [_FQDN]},
}
_PEERS = {
    "toEndpoints": [_SELECTOR],
    "toCIDR": [str],
    "toCIDRSet": [{"cidr": str, "except": [str]}],
    "toEntities": [str],
    "toPorts": [_PORTS],
}
#: The fields that are enforced, as the API names them. A list holds the schema of its items, ``*`` is any key.
SPEC: dict[str, Any] = {
    "description": str,
    "endpointSelector": _SELECTOR,
    "egress": [{**_PEERS, "toFQDNs": [_FQDN]}],
    "egressDeny": [{**_PEERS, "toFQDNs": [_FQDN]}],
    "enableDefaultDeny": {"egress": bool, "ingress": bool},
    "labels": None,
    "log": None,
}
#: Fields of the API that the agent does not enforce, and what to do about it.
REFUSED: dict[str, str] = {
    "ingress": "the agent enforces egress; put ingress rules into a policy of their own",
    "ingressDeny": "the agent enforces egress; put ingress rules into a policy of their own",
    "nodeSelector": "host policies are not enforced",
    "toServices": "select the endpoints behind the service with toEndpoints",
    "toGroups": "list the addresses with toCIDR",
    "toNodes": "select nodes with toEntities",
    "toRequires": "it is deprecated; put the requirement into the selector",
    "icmps": "ICMP is allowed by rules without toPorts only",
    "authentication": "mutual authentication is not enforced",
    "cidrGroupRef": "write the CIDRs of the group into toCIDRSet",
    "cidrGroupSelector": "write the CIDRs of the group into toCIDRSet",
    "http": "only DNS rules are enforced at layer 7",
    "kafka": "only DNS rules are enforced at layer 7",
    "l7": "only DNS rules are enforced at layer 7",
    "l7proto": "only DNS rules are enforced at layer 7",
    "terminatingTLS": "TLS is not intercepted",
    "originatingTLS": "TLS is not intercepted",
    "serverNames": "TLS is not inspected",
    "listener": "there is no Envoy to redirect to",
}


def shape(value: Any, schema: Any, path: At) -> Iterator[tuple[At, str]]:
    """Where a value has another form than the schema says. A missing value is no matter of form."""
    if schema is None or value is None:
        return
    where = dotted(path)
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            yield path, f"{where} is not a mapping"
            return
        for key, below in value.items():
            known = schema.get(str(key), schema.get("*"))
            if str(key) not in schema and "*" not in schema:
                if str(key) in REFUSED:
                    yield (*path, key), f"{where}.{key} is not supported: {REFUSED[key]}"
                else:
                    yield (*path, key), f"{where}.{key} is an unknown field"
            else:
                yield from shape(below, known, (*path, key))
    elif isinstance(schema, list):
        if not isinstance(value, list):
            yield path, f"{where} is not a list"
            return
        for index, below in enumerate(value):
            if below is None:
                yield (*path, index), f"{where}[{index}] is empty"
            yield from shape(below, schema[0], (*path, index))
    elif schema is str:
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            yield path, f"{where} is not a string"
    elif not isinstance(value, schema) or (schema is int and isinstance(value, bool)):
        yield path, f"{where} is not {'a boolean' if schema is bool else 'a number'}"


def dotted(path: At) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
