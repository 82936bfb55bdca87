"""Envoy's matchers of strings, headers, query parameters and paths. Three-valued: None where it cannot be judged.

Reference: envoy ``type/matcher/v3/string.proto``, ``config/route/v3/route_components.proto`` (``RouteMatch``,
``HeaderMatcher``, ``QueryParameterMatcher``), ``source/common/http/header_utility.cc``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from deadhop.hops.mesh.matching import all_of
from deadhop.hops.mesh.virtualservice import full_match
from deadhop.model.proto_json import flag, get, message, messages, number, string

_KINDS = ("exact", "prefix", "suffix", "contains")


def _test(kind: str, wanted: str, have: str) -> bool:
    match kind:
        case "exact":
            return have == wanted
        case "prefix":
            return have.startswith(wanted)
        case "suffix":
            return have.endswith(wanted)
    return wanted in have


def text(matcher: Mapping[str, Any], have: str) -> bool | None:
    """A StringMatcher."""
    fold = flag(matcher, "ignore_case")
    for kind in _KINDS:
        wanted = get(matcher, kind)
        if isinstance(wanted, str):
            return _test(kind, wanted.lower(), have.lower()) if fold else _test(kind, wanted, have)
    if pattern := message(matcher, "safe_regex"):
        return full_match(string(pattern, "regex"), have)
    return None


def header(matcher: Mapping[str, Any], headers: Mapping[str, str]) -> bool | None:
    """A HeaderMatcher; ``headers`` has lower-case names, pseudo headers included.

    A missing header fails every test and is not inverted, but for ``present_match``; unless it is to be treated as
    empty (``HeaderUtility::matchHeaders``).
    """
    have = headers.get(string(matcher, "name").lower())
    inverted = flag(matcher, "invert_match")
    present = get(matcher, "present_match")
    if isinstance(present, bool):
        return ((have is not None) == present) != inverted
    if have is None:
        if not flag(matcher, "treat_missing_header_as_empty"):
            return False
        have = ""
    answer = _header_value(matcher, have)
    return None if answer is None else answer != inverted


def _header_value(matcher: Mapping[str, Any], have: str) -> bool | None:
    if nested := message(matcher, "string_match"):
        return text(nested, have)
    for kind in _KINDS:  # the fields before string_match (v3 until 1.2x)
        wanted = get(matcher, f"{kind}_match")
        if isinstance(wanted, str):
            return _test(kind, wanted, have)
    if pattern := message(matcher, "safe_regex_match"):
        return full_match(string(pattern, "regex"), have)
    if span := message(matcher, "range_match"):
        value = number({"v": have}, "v")
        return value is not None and (number(span, "start") or 0) <= value < (number(span, "end") or 0)
    # A matcher with a name alone tests for presence.
    return True if not (matcher.keys() - {"name", "invert_match", "invertMatch"}) else None


def path(match: Mapping[str, Any], target: str) -> bool | None:
    """The path part of a RouteMatch, without query and fragment."""
    bare = target.partition("?")[0].partition("#")[0]
    fold = not flag(match, "case_sensitive", default=True)
    have = bare.lower() if fold else bare
    for kind, field in (("prefix", "prefix"), ("exact", "path")):
        wanted = get(match, field)
        if isinstance(wanted, str):
            return _test(kind, wanted.lower() if fold else wanted, have)
    separated = get(match, "path_separated_prefix")
    if isinstance(separated, str):
        wanted = separated.lower() if fold else separated
        return have == wanted or have.startswith(wanted + "/")
    if pattern := message(match, "safe_regex"):
        return full_match(string(pattern, "regex"), bare)
    return False if get(match, "connect_matcher") is not None else None


def query(matcher: Mapping[str, Any], given: Mapping[str, str]) -> bool | None:
    """A QueryParameterMatcher."""
    have = given.get(string(matcher, "name"))
    if have is None:
        return get(matcher, "present_match") is False
    nested = message(matcher, "string_match")
    return text(nested, have) if nested else True


def route(match: Mapping[str, Any], headers: Mapping[str, str], target: str) -> bool | None:
    """A whole RouteMatch."""
    answers = [path(match, target)]
    answers += [header(h, headers) for h in messages(match, "headers")]
    if parameters := list(messages(match, "query_parameters")):
        given = dict(parse_qsl(target.partition("?")[2], keep_blank_values=True))
        answers += [query(q, given) for q in parameters]
    if get(match, "grpc") is not None:
        answers.append(headers.get("content-type", "").startswith("application/grpc"))
    if share := message(match, "runtime_fraction", "default_value"):
        answers.append(_share(share))
    if get(match, "dynamic_metadata") or get(match, "tls_context") or get(match, "filter_state"):
        answers.append(None)
    return all_of(*answers)


def _share(value: Mapping[str, Any]) -> bool | None:
    """A FractionalPercent: never, always, or by lot."""
    whole = {"TEN_THOUSAND": 10_000, "MILLION": 1_000_000}.get(string(value, "denominator"), 100)
    part = number(value, "numerator") or 0
    return True if part >= whole else False if part == 0 else None
