"""Selectors, and what the API server's schema says of their fields."""

from __future__ import annotations

from typing import Any

from deadhop.fqdn import dns_rules, patterns, selectors
from deadhop.fqdn.options import V1_16, Version
from deadhop.fqdn.selectors import FQDNSelector

from ..real_cilium import Oracle, call
from .cases import Area, Case, Outcomes, Random, plain_name, text

# Selectors.


def any_selector(rng: Random) -> dict[str, str]:
    kind = rng.random()
    if kind < 0.45:
        return {"matchName": text(rng, stars=rng.random() < 0.1)}
    if kind < 0.9:
        return {"matchPattern": text(rng)}
    return {"matchName": text(rng, stars=False), "matchPattern": text(rng)} if kind < 0.95 else {}


def error_of(answer: Any) -> str:
    return answer["error"] if isinstance(answer, dict) and "error" in answer else ""


def make_selectors(rng: Random) -> Case:
    return [[any_selector(rng), [plain_name(rng) for _ in range(4)]] for _ in range(10)]


def real_selectors(oracle: Oracle, version: Version, case: Case) -> Outcomes:
    outcomes: Outcomes = []
    for item, names in case:
        made, checked, rule, regex = oracle.ask(
            [
                call("api.FQDNSelector.String", item),
                call("api.FQDNSelector.sanitize", item),
                call("api.PortRuleDNS.Sanitize", item),
                call("api.FQDNSelector.ToRegex", item),
            ]
        )
        label = oracle.ask([call("api.FQDNSelector.IdentityLabel", item)])[0] if version >= V1_16 else None
        matched = None
        if not error_of(checked) and not error_of(regex):
            matched = oracle.ask([call("regexp.MatchString", regex, name) for name in names])
        valid = not error_of(checked)
        outcomes.append((made, error_of(checked), error_of(rule), valid and regex, valid and label, matched))
    return outcomes


def our_selectors(version: Version, case: Case) -> Outcomes:
    outcomes: Outcomes = []
    for item, names in case:
        selector = FQDNSelector.read(item)
        complaint = selectors.selector_complaint(selector, version)
        regex: Any = False
        matched = None
        if not complaint:
            try:
                compiled = selector.compile(version)
                regex = selector.regex(version)
                matched = [compiled.matches(name) for name in names]
                index = selectors.SelectorIndex(version, [selector])
                assert matched == [bool(index.match(name)) for name in names], (item, names)
            except patterns.PatternError as error:
                regex = {"error": str(error)}
        outcomes.append(
            (
                str(selector),
                complaint,
                dns_rules.dns_rule_complaint(selector, version),
                regex,
                not complaint and (selector.label if version >= V1_16 else None),
                matched,
            )
        )
    return outcomes


# What the API server's schema says of the two fields; RE2 decides as it does.


def make_fields(rng: Random) -> Case:
    return [[rng.choice(("matchName", "matchPattern")), text(rng)] for _ in range(20)]


def real_fields(oracle: Oracle, _: Version, case: Case) -> Outcomes:
    asked = [call("regexp.MatchString", selectors.CRD_PATTERNS[field], value) for field, value in case]
    return oracle.ask(asked)


def our_fields(_: Version, case: Case) -> Outcomes:
    """As before the fields had a greatest length."""
    return [not selectors.crd_field_complaint(field, value, V1_16) for field, value in case]


AREAS = (
    Area("selectors", make_selectors, real_selectors, our_selectors),
    Area("schema fields", make_fields, real_fields, our_fields),
)
