"""Envoy's RBAC filters, as istiod writes them for AuthorizationPolicies. Three-valued: None where it cannot be judged.

Reference: envoy ``config/rbac/v3/rbac.proto``, ``source/extensions/filters/common/rbac/matchers.cc`` and
``engine_impl.cc``; ``filters/http/rbac`` (details ``rbac_access_denied_matched_policy[NAME]``).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from deadhop.hops.mesh.authz import Caller, Decision
from deadhop.hops.mesh.decode import Meta, within
from deadhop.hops.mesh.proxy import matchers
from deadhop.model.proto_json import get, message, messages, number, string

DEPTH = 12
_DENIED = "rbac_access_denied_matched_policy[{}]"


def judge(filters: Iterable[Mapping[str, Any]], caller: Caller) -> Decision:
    """What a chain of RBAC filters does with a caller: the first that denies decides."""
    unsure: Meta | None = None
    last: Meta | None = None
    said = "no RBAC filter stands in the chain"
    for config in filters:
        rules = message(config, "rules")
        denies = string(rules, "action") == "DENY"
        answers = {str(name): _policy(policy, caller) for name, policy in message(rules, "policies").items()}
        hit = next((n for n, a in sorted(answers.items()) if a), None)
        by = Meta("RBAC", "", hit or next(iter(answers), "(no policy)"), "")
        if hit is None and None in answers.values():
            unsure = by
        elif denies and hit is not None:
            return Decision(False, _DENIED.format(hit), by, "denies this request")
        elif not denies and hit is None and string(rules, "action") in ("", "ALLOW"):
            who = f"principal {caller.principal}" if caller.principal else "a caller without mesh identity"
            return Decision(False, _DENIED.format("none"), by, f"no policy allows {who}")
        elif hit is not None:
            last, said = by, "allows this request"
    if unsure is not None:
        return Decision(None, "", unsure, "a condition depends on what the request does not tell")
    return Decision(True, "", last, said)


def _policy(policy: object, caller: Caller) -> bool | None:
    if get(policy, "condition") is not None or get(policy, "checked_condition") is not None:
        return None
    asked = [_any(messages(policy, "permissions"), caller, _permission, 0)]
    asked.append(_any(messages(policy, "principals"), caller, _principal, 0))
    return False if False in asked else None if None in asked else True


def _any(items: Iterable[Mapping[str, Any]], caller: Caller, test: Any, depth: int) -> bool | None:
    answers = [test(item, caller, depth) for item in items]
    return True if True in answers else None if None in answers else False


def _all(items: Iterable[Mapping[str, Any]], caller: Caller, test: Any, depth: int) -> bool | None:
    answers = [test(item, caller, depth) for item in items]
    return False if False in answers else None if None in answers else True


def _not(answer: bool | None) -> bool | None:
    return None if answer is None else not answer


def _headers(caller: Caller) -> dict[str, str]:
    own = {":authority": caller.host, ":method": caller.method, ":path": caller.path}
    return {**caller.headers, **own} if caller.http else {}


def _permission(rule: Mapping[str, Any], caller: Caller, depth: int) -> bool | None:
    if depth > DEPTH:
        return None
    if get(rule, "any") is True:
        return True
    if both := message(rule, "and_rules"):
        return _all(messages(both, "rules"), caller, _permission, depth + 1)
    if either := message(rule, "or_rules"):
        return _any(messages(either, "rules"), caller, _permission, depth + 1)
    if inner := message(rule, "not_rule"):
        return _not(_permission(inner, caller, depth + 1))
    if wanted := message(rule, "header"):
        return matchers.header(wanted, _headers(caller))
    if wanted := message(rule, "url_path", "path"):
        return matchers.text(wanted, caller.path.partition("?")[0]) if caller.http else False
    if (port := number(rule, "destination_port")) is not None:
        return caller.port == port
    if span := message(rule, "destination_port_range"):
        return (number(span, "start") or 0) <= caller.port < (number(span, "end") or 0)
    if wanted := message(rule, "requested_server_name"):
        return matchers.text(wanted, caller.sni)
    return None


def _principal(rule: Mapping[str, Any], caller: Caller, depth: int) -> bool | None:
    if depth > DEPTH:
        return None
    if get(rule, "any") is True:
        return True
    if both := message(rule, "and_ids"):
        return _all(messages(both, "ids"), caller, _principal, depth + 1)
    if either := message(rule, "or_ids"):
        return _any(messages(either, "ids"), caller, _principal, depth + 1)
    if inner := message(rule, "not_id"):
        return _not(_principal(inner, caller, depth + 1))
    if get(rule, "authenticated") is not None:
        wanted = message(rule, "authenticated", "principal_name")
        if not caller.principal:
            return False
        return matchers.text(wanted, f"spiffe://{caller.principal}") if wanted else True
    for field in ("direct_remote_ip", "source_ip", "remote_ip"):
        if block := message(rule, field):
            return _inside(caller.ip, block)
    if wanted := message(rule, "header"):
        return matchers.header(wanted, _headers(caller))
    if wanted := message(rule, "filter_state"):
        # io.istio.peer_principal carries the peer's name where the certificate is not at hand (istio 1.17 on).
        if string(wanted, "key") == "io.istio.peer_principal":
            return bool(caller.principal) and matchers.text(
                message(wanted, "string_match"), f"spiffe://{caller.principal}"
            )
        return None
    if get(rule, "metadata") is not None:
        return False if "authorization" not in caller.headers else None
    return None


def _inside(ip: str, block: Mapping[str, Any]) -> bool | None:
    try:
        range_ = ipaddress.ip_network(
            f"{string(block, 'address_prefix')}/{number(block, 'prefix_len') or 0}", strict=False
        )
    except ValueError:
        return None
    return within(ip, (range_,))
