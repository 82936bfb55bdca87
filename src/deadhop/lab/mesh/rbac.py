"""AuthorizationPolicies as Envoy RBAC filters, for what the oracle's random policies use."""

from __future__ import annotations

import re
from collections.abc import Iterable

from deadhop.hops.mesh.authz import AuthorizationPolicy, Condition, Rule
from deadhop.lab.mesh import config_common as c
from deadhop.lab.mesh.config_common import Json

HTTP_ONLY = frozenset(("hosts", "methods", "paths"))


def rbac_filters(policies: Iterable[AuthorizationPolicy]) -> list[Json]:
    """The HTTP filters for DENY and ALLOW policies, in this order."""
    return [
        {
            "name": "envoy.filters.http.rbac",
            "typed_config": {"@type": c.TYPE + "filters.http.rbac.v3.RBAC", "rules": rules},
        }
        for rules in _actions(policies, True)
    ]


def network_filters(policies: Iterable[AuthorizationPolicy]) -> list[Json]:
    """The same for a TCP chain."""
    return [
        {
            "name": "envoy.filters.network.rbac",
            "typed_config": {
                "@type": c.TYPE + "filters.network.rbac.v3.RBAC",
                "rules": rules,
                "stat_prefix": "tcp.",
            },
        }
        for rules in _actions(policies, False)
    ]


def _actions(policies: Iterable[AuthorizationPolicy], http: bool) -> list[Json]:
    out = []
    listed = list(policies)
    for action in ("DENY", "ALLOW"):
        chosen = [p for p in listed if p.action == action]
        if not chosen:
            continue
        named: Json = {}
        for p in chosen:
            for index, rule in enumerate(p.rules):
                built = _rule(rule, http, action == "DENY")
                if built:
                    named[f"ns[{p.meta.namespace}]-policy[{p.meta.name}]-rule[{index}]"] = built
        out.append({"action": action, "policies": named})
    return out


def _rule(rule: Rule, http: bool, deny: bool) -> Json | None:
    sources, operations = list(rule.sources), list(rule.operations)
    if not http:
        if not deny and any(k.field in HTTP_ONLY for g in operations for k in g):
            operations = [g for g in operations if not any(k.field in HTTP_ONLY for k in g)]
            if not operations:
                return None
        operations = [tuple(k for k in g if k.field not in HTTP_ONLY) for g in operations]
    return {
        "principals": [{"and_ids": {"ids": [_principal(k) for k in g] or [{"any": True}]}} for g in sources]
        or [{"any": True}],
        "permissions": [
            {"and_rules": {"rules": [_permission(k) for k in g] or [{"any": True}]}} for g in operations
        ]
        or [{"any": True}],
    }


def _string(value: str, prefix: str = "") -> Json:
    if value == "*":
        return {"safe_regex": {"regex": ".+"}}
    if value.startswith("*"):
        return (
            {"suffix": value[1:]}
            if not prefix
            else {"safe_regex": {"regex": f"{prefix}.*{re.escape(value[1:])}"}}
        )
    return {"prefix": prefix + value[:-1]} if value.endswith("*") else {"exact": prefix + value}


def _principal(k: Condition) -> Json:
    ids: list[Json] = []
    for value in k.values:
        match k.field:
            case "principals":
                ids.append({"authenticated": {"principal_name": _string(value, "spiffe://")}})
            case "namespaces":
                regex = f".*/ns/{re.escape(value)}/.*"
                ids.append({"authenticated": {"principal_name": {"safe_regex": {"regex": regex}}}})
            case _:
                raise ValueError(f"the oracle has no {k.field}")
    one: Json = {"or_ids": {"ids": ids}}
    return {"not_id": one} if k.negate else one


def _permission(k: Condition) -> Json:
    rules: list[Json] = []
    for value in k.values:
        match k.field:
            case "methods":
                rules.append({"header": {"name": ":method", "string_match": _string(value)}})
            case "paths":
                rules.append({"url_path": {"path": _string(value)}})
            case "hosts":
                rules.append(
                    {
                        "header": {
                            "name": ":authority",
                            "string_match": {**_string(value), "ignore_case": True},
                        }
                    }
                )
            case "ports":
                rules.append({"destination_port": int(value)})
            case _:
                raise ValueError(f"the oracle has no {k.field}")
    one: Json = {"or_rules": {"rules": rules}}
    return {"not_rule": one} if k.negate else one
