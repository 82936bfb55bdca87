"""AuthorizationPolicies as the server's sidecar evaluates them: CUSTOM, then DENY, then ALLOW.

On a TCP chain an HTTP condition cannot be met: an ALLOW rule that has one never matches, a DENY rule loses the
condition and denies by what is left. Reference: istio ``pilot/pkg/security/authz/builder`` and ``model``
(``generator.go``, ``model.go``), envoy ``source/extensions/filters/http/rbac``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from deadhop.hops.mesh.decode import (
    Meta,
    dig,
    labels,
    meta_of,
    networks,
    rows,
    selector_matches,
    strings,
    text,
    within,
)

SOURCE_FIELDS = (
    "principals",
    "requestPrincipals",
    "namespaces",
    "serviceAccounts",
    "ipBlocks",
    "remoteIpBlocks",
)
OPERATION_FIELDS = ("hosts", "ports", "methods", "paths")
HTTP_FIELDS = frozenset(("requestPrincipals", "hosts", "methods", "paths"))


class Caller(msgspec.Struct, frozen=True):
    """What the server's sidecar knows of a request. ``principal`` is empty without mutual TLS."""

    principal: str
    ip: str
    port: int
    http: bool
    host: str = ""
    method: str = ""
    path: str = ""
    headers: Mapping[str, str] = {}
    sni: str = ""


class Condition(msgspec.Struct, frozen=True):
    """One attribute with the values that it may, or with ``negate`` may not, have."""

    field: str
    values: tuple[str, ...]
    negate: bool


class Rule(msgspec.Struct, frozen=True):
    """One rule: any source, any operation, and every ``when``. An empty list of sources or operations is any."""

    sources: tuple[tuple[Condition, ...], ...]
    operations: tuple[tuple[Condition, ...], ...]
    when: tuple[Condition, ...]


class AuthorizationPolicy(msgspec.Struct, frozen=True):
    """One policy that a sidecar may enforce."""

    meta: Meta
    action: str
    selector: Mapping[str, str]
    rules: tuple[Rule, ...]
    targets_waypoint: bool


class Decision(msgspec.Struct, frozen=True):
    """Allowed, denied, or None: not to be said. ``details`` is the access log's reason of a denial."""

    allowed: bool | None
    details: str
    decided_by: Meta | None
    text: str


def _conditions(item: object, fields: Iterable[str]) -> tuple[Condition, ...]:
    out = []
    for field in fields:
        negative = "not" + field[0].upper() + field[1:]
        if values := strings(dig(item, field)):
            out.append(Condition(field, values, False))
        if values := strings(dig(item, negative)):
            out.append(Condition(field, values, True))
    return tuple(out)


def compile_authorization_policy(doc: Mapping[str, Any]) -> AuthorizationPolicy:
    """An AuthorizationPolicy document."""
    spec = dig(doc, "spec")
    parsed = []
    for rule in rows(dig(spec, "rules")):
        when = []
        for item in rows(rule.get("when")):
            key = text(item.get("key"))
            if values := strings(item.get("values")):
                when.append(Condition(key, values, False))
            if values := strings(item.get("notValues")):
                when.append(Condition(key, values, True))
        parsed.append(
            Rule(
                tuple(_conditions(f.get("source"), SOURCE_FIELDS) for f in rows(rule.get("from"))),
                tuple(_conditions(t.get("operation"), OPERATION_FIELDS) for t in rows(rule.get("to"))),
                tuple(when),
            )
        )
    targets = bool(list(rows(dig(spec, "targetRefs")))) or bool(dig(spec, "targetRef"))
    return AuthorizationPolicy(
        meta_of(doc),
        text(dig(spec, "action")) or "ALLOW",
        labels(dig(spec, "selector", "matchLabels")),
        tuple(parsed),
        targets,
    )


def like(pattern: str, value: str, fold: bool = False) -> bool:
    """Istio's value match: exact, ``prefix*``, ``*suffix`` or ``*`` for any value that is there."""
    if fold:
        pattern, value = pattern.lower(), value.lower()
    if pattern == "*":
        return value != ""
    if pattern.startswith("*"):
        return value.endswith(pattern[1:])
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return value == pattern


def _path_like(pattern: str, value: str) -> bool | None:
    return None if "{" in pattern else like(pattern, value)


def _holds(condition: Condition, caller: Caller) -> bool | None:
    """Does the attribute have one of the values? None where the request does not tell."""
    field, values = condition.field, condition.values
    name = caller.principal.split("/")
    match field:
        case "principals" | "source.principal":
            return any(like(v, caller.principal) for v in values)
        case "namespaces" | "source.namespace":
            return len(name) > 2 and any(like(v, name[2]) for v in values)
        case "serviceAccounts":
            own = f"{name[2]}/{name[4]}" if len(name) > 4 else ""
            return any(v in (own, own.partition("/")[2]) for v in values if own)
        case "ipBlocks" | "source.ip" | "remoteIpBlocks" | "remote.ip":
            return any(within(caller.ip, networks(v)) for v in values)
        case "ports" | "destination.port":
            return str(caller.port) in values
        case "hosts":
            return any(like(v, caller.host, fold=True) for v in values)
        case "methods":
            return any(like(v, caller.method) for v in values)
        case "paths":
            bare = caller.path.partition("?")[0]
            answers = [_path_like(v, bare) for v in values]
            return True if True in answers else None if None in answers else False
        case "requestPrincipals" | "request.auth.principal" | "request.auth.audiences":
            return False if "authorization" not in caller.headers else None
        case "connection.sni":
            return any(like(v, caller.sni) for v in values)
    if field.startswith("request.headers[") and field.endswith("]"):
        value = caller.headers.get(field[16:-1].lower())
        return value is not None and any(like(v, value) for v in values)
    if field.startswith("request.auth."):
        return False if "authorization" not in caller.headers else None
    return None


def _is_http(condition: Condition) -> bool:
    return condition.field in HTTP_FIELDS or condition.field.startswith("request.")


def _all(conditions: Iterable[Condition], caller: Caller, deny: bool) -> bool | None:
    answer: bool | None = True
    for condition in conditions:
        if _is_http(condition) and not caller.http:
            if deny:
                continue
            return False
        held = _holds(condition, caller)
        if condition.negate:
            held = None if held is None else not held
        if held is False:
            return False
        if held is None:
            answer = None
    return answer


def _any(groups: tuple[tuple[Condition, ...], ...], caller: Caller, deny: bool) -> bool | None:
    if not groups:
        return True
    answers = [_all(g, caller, deny) for g in groups]
    return True if True in answers else None if None in answers else False


def rule_matches(rule: Rule, caller: Caller, deny: bool) -> bool | None:
    """Does one rule match? None where it cannot be said."""
    answers = (
        _any(rule.sources, caller, deny),
        _any(rule.operations, caller, deny),
        _all(rule.when, caller, deny),
    )
    return False if False in answers else None if None in answers else True


class AuthorizationPolicies:
    """All AuthorizationPolicy objects, ready to ask."""

    def __init__(self, policies: Iterable[AuthorizationPolicy], root_namespace: str) -> None:
        self.root = root_namespace
        self.by_namespace: dict[str, list[AuthorizationPolicy]] = {}
        for policy in sorted(policies, key=lambda p: p.meta.order):
            self.by_namespace.setdefault(policy.meta.namespace, []).append(policy)

    def of(self, namespace: str, pod_labels: Mapping[str, str]) -> list[AuthorizationPolicy]:
        """The policies that select a workload: the root namespace's first, then its own."""
        spaces = dict.fromkeys((self.root, namespace))
        return [
            p
            for ns in spaces
            for p in self.by_namespace.get(ns, ())
            if not p.targets_waypoint and selector_matches(p.selector, pod_labels)
        ]

    def decide(self, namespace: str, pod_labels: Mapping[str, str], caller: Caller) -> Decision:
        """What the workload's sidecar does with this caller."""
        found = self.of(namespace, pod_labels)
        for policy in found:
            if policy.action == "CUSTOM" and any(
                rule_matches(r, caller, True) is not False for r in policy.rules
            ):
                return Decision(None, "", policy.meta, "an external authorizer decides")
        unsure: Meta | None = None
        for policy in found:
            if policy.action != "DENY":
                continue
            for index, rule in enumerate(policy.rules):
                answer = rule_matches(rule, caller, True)
                if answer:
                    m = policy.meta
                    name = f"ns[{m.namespace}]-policy[{m.name}]-rule[{index}]"
                    return Decision(
                        False,
                        f"rbac_access_denied_matched_policy[{name}]",
                        m,
                        f"rule {index} denies this request",
                    )
                if answer is None:
                    unsure = policy.meta
        if unsure:
            return Decision(None, "", unsure, "a rule depends on what the request does not tell")
        allowing = [p for p in found if p.action == "ALLOW"]
        if not allowing:
            return Decision(True, "", None, "no ALLOW policy selects the workload")
        for policy in allowing:
            for index, rule in enumerate(policy.rules):
                answer = rule_matches(rule, caller, False)
                if answer:
                    return Decision(True, "", policy.meta, f"rule {index} allows this request")
                if answer is None:
                    unsure = policy.meta
        if unsure:
            return Decision(None, "", unsure, "a rule depends on what the request does not tell")
        return Decision(
            False,
            "rbac_access_denied_matched_policy[none]",
            allowing[0].meta,
            "ALLOW policies select the workload and no rule matches "
            + (f"principal {caller.principal}" if caller.principal else "a caller without mesh identity"),
        )
