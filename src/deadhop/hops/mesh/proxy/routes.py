"""A route configuration as the proxy has it: the virtual host, the route that takes a request, and where it leads.

Reference: envoy ``config/route/v3/route_components.proto``, ``source/common/router/config_impl.cc``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from deadhop.hops.mesh.proxy import matchers
from deadhop.hops.mesh.virtualservice import NO_RETRIES, Retries
from deadhop.model.mesh import MeshRequest
from deadhop.model.proto_json import flag, get, message, messages, number, seconds, string

FAULT = "envoy.filters.http.fault"
_REDIRECTS = {"": 301, "MOVED_PERMANENTLY": 301, "FOUND": 302, "SEE_OTHER": 303, "TEMPORARY_REDIRECT": 307, "PERMANENT_REDIRECT": 308}  # fmt: skip
#: Envoy's own default where a route sets none (istiod always writes one, ``0s`` for none).
DEFAULT_TIMEOUT = 15.0


class Target(msgspec.Struct, frozen=True):
    """What a route does. ``answer`` is a reply that Envoy makes; ``clusters`` are weighted; empty is by header."""

    name: str
    clusters: tuple[tuple[str, int], ...] = ()
    answer: tuple[int, str, str] | None = None
    retries: Retries = NO_RETRIES
    timeout: float | None = None
    host: str | None = None
    path: str | None = None


class Taken(msgspec.Struct, frozen=True):
    """The route that takes a request; ``unsure`` are the routes before it that could not be judged."""

    route: Mapping[str, Any] | None
    unsure: tuple[str, ...] = ()


def request_headers(request: MeshRequest, authority: str, path: str) -> dict[str, str]:
    """The headers that matchers see, pseudo headers included; repeated ones are joined by a comma."""
    have = {":authority": authority, ":method": request.method, ":path": path, ":scheme": request.scheme}
    for name, value in request.headers:
        key = name.lower()
        have[key] = f"{have[key]},{value}" if key in have else value
    return have


def take(vhost: Mapping[str, Any], headers: Mapping[str, str], path: str) -> Taken:
    """The first route of a virtual host that matches."""
    unsure: list[str] = []
    for index, route in enumerate(messages(vhost, "routes")):
        answer = matchers.route(message(route, "match"), headers, path)
        if answer is None:
            unsure.append(string(route, "name") or f"route {index}")
        if answer:
            return Taken(route, tuple(unsure))
    return Taken(None, tuple(unsure))


def target_of(route: Mapping[str, Any], vhost: Mapping[str, Any], path: str) -> Target:
    """What the route does with the request."""
    name = string(route, "name")
    aborted = _abort(route)
    if aborted is not None:
        return Target(name, answer=(aborted, "", "fault_filter_abort"))
    if direct := message(route, "direct_response"):
        body = string(direct, "body", "inline_string")
        return Target(name, answer=(number(direct, "status") or 200, body, "direct_response"))
    if "redirect" in route:
        status = _REDIRECTS.get(string(route, "redirect", "response_code"), 301)
        return Target(name, answer=(status, "", "direct_response"))
    action = message(route, "route")
    limit = seconds(action, "timeout")
    return Target(
        name,
        clusters=_clusters(action),
        retries=_retries(message(action, "retry_policy") or message(vhost, "retry_policy")),
        timeout=DEFAULT_TIMEOUT if limit is None else limit or None,
        host=string(action, "host_rewrite_literal") or None,
        path=_rewritten(action, message(route, "match"), path),
    )


def _clusters(action: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    if single := string(action, "cluster"):
        return ((single, 100),)
    weighted = message(action, "weighted_clusters")
    return tuple(
        (string(c, "name"), number(c, "weight") or 0)
        for c in messages(weighted, "clusters")
        if string(c, "name")
    )


def _rewritten(action: Mapping[str, Any], match: Mapping[str, Any], path: str) -> str | None:
    """``prefix_rewrite``: what was matched makes room for it."""
    put = get(action, "prefix_rewrite")
    if not isinstance(put, str) or not put:
        return None
    matched = string(match, "prefix") or string(match, "path") or string(match, "path_separated_prefix")
    return put + path[len(matched) :]


def _retries(policy: Mapping[str, Any]) -> Retries:
    """A RetryPolicy as words and status codes."""
    if not policy:
        return NO_RETRIES
    words = {w.strip() for w in string(policy, "retry_on").split(",") if w.strip()}
    codes = get(policy, "retriable_status_codes")
    if "retriable-status-codes" in words and isinstance(codes, list):
        words |= {str(code) for code in codes if isinstance(code, int)}
    count = number(policy, "num_retries")
    return Retries(1 if count is None else count, frozenset(words))


def _abort(route: Mapping[str, Any]) -> int | None:
    """An injected fault that always aborts, and its status."""
    fault = message(message(route, "typed_per_filter_config").get(FAULT), "abort")
    share = message(fault, "percentage")
    whole = {"TEN_THOUSAND": 10_000, "MILLION": 1_000_000}.get(string(share, "denominator"), 100)
    if not fault or (number(share, "numerator") or 0) < whole:
        return None
    return number(fault, "http_status")


def allowed_upgrades(manager: Mapping[str, Any]) -> frozenset[str]:
    """The upgrade types that a connection manager lets pass."""
    return frozenset(
        string(u, "upgrade_type").lower()
        for u in messages(manager, "upgrade_configs")
        if flag(u, "enabled", default=True)
    )
