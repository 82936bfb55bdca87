"""Does a request match a VirtualService's conditions? Three-valued: None where it cannot be judged.

Conditions on the caller (``sourceLabels``, ``sourceNamespace``, ``gateways``, ``port``) are settled by istiod
when it builds the route; the others by Envoy. Reference: istio ``route.go`` (``sourceMatchHTTP``,
``TranslateRouteMatch``).
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from deadhop.hops.mesh.decode import selector_matches
from deadhop.hops.mesh.virtualservice import HttpRoute, Match
from deadhop.model.mesh import MeshRequest


def all_of(*answers: bool | None) -> bool | None:
    """False if one is, else None if one is, else True."""
    return False if False in answers else None if None in answers else True


def applies_to_caller(match: Match, namespace: str, labels: Mapping[str, str], port: int) -> bool:
    """Does istiod give this match entry to that proxy and listener port?"""
    return (
        (not match.gateways or "mesh" in match.gateways)
        and selector_matches(match.source_labels, labels)
        and match.source_namespace in ("", namespace)
        and match.port in (None, port)
    )


def matches_request(match: Match, request: MeshRequest, authority: str, path: str) -> bool | None:
    """Does Envoy match the request against this entry?"""
    bare, _, query = path.partition("?")
    answers: list[bool | None] = []
    if match.uri:
        answers.append(match.uri.test(bare, match.ignore_case))
    if match.scheme:
        answers.append(match.scheme.test(request.scheme))
    if match.method:
        answers.append(match.method.test(request.method))
    if match.authority:
        answers.append(match.authority.test(authority))
    if match.headers or match.without:
        have: dict[str, str] = {}
        for name, value in request.headers:
            key = name.lower()
            have[key] = f"{have[key]},{value}" if key in have else value
        answers += [test.test(have.get(name)) for name, test in match.headers]
        for name, test in match.without:
            found = test.test(have.get(name))
            answers.append(None if found is None else not found)
    if match.query:
        given = dict(parse_qsl(query, keep_blank_values=True))
        answers += [test.test(given.get(name)) for name, test in match.query]
    return all_of(*answers)


def route_matches(
    route: HttpRoute,
    request: MeshRequest,
    authority: str,
    path: str,
    namespace: str,
    labels: Mapping[str, str],
    port: int,
) -> tuple[bool | None, str]:
    """Does this route take the request, and under which name does the access log show it?"""
    if not route.groups:
        return True, route.name
    undecided = False
    for group in route.groups:
        if not all(applies_to_caller(m, namespace, labels, port) for m in group):
            continue
        answer = all_of(*(matches_request(m, request, authority, path) for m in group))
        if answer:
            named = next((m.name for m in group if m.name), "")
            return True, f"{route.name}.{named}" if named else route.name
        undecided = undecided or answer is None
    return (None if undecided else False), route.name
