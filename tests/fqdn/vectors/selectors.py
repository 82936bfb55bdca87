"""Selectors: their text, regex, labels and what a policy with them is refused for."""

from __future__ import annotations

import json
from typing import Any

from deadhop.fqdn import dns_rules, formats, identity, selectors
from deadhop.fqdn.options import VERSIONS, Version
from deadhop.fqdn.rule_validation import egress_complaint, egress_deny_complaint, port_rule_complaint

from .common import Area, UnknownOperation, Vector, same, same_set, selector_of


def selector_string(v: Vector, _version: Version, _: Any) -> None:
    same(str(selector_of(v["selector"])), v["expected_selector_string"])


def selector_regex(v: Vector, version: Version, _: Any) -> None:
    selector = selector_of(v["selector"])
    same(selector.regex(version), v["expected_regex"])
    listing = json.loads(formats.fqdn_names([selector], version))
    same(listing["FQDNPolicySelectors"][0]["regexString"], v["expected_regex"])


def selector_validation(v: Vector, version: Version, _: Any) -> None:
    selector = selector_of(v["selector"])
    if v["kind"] == "toFQDNs":
        complaint = selectors.selector_complaint(selector, version)
    elif v["kind"] == "rules.dns":
        complaint = dns_rules.dns_rule_complaint(selector, version)
    else:
        raise UnknownOperation(f"kind {v['kind']}")
    same("error" if complaint else "ok", v["expected"], complaint)
    for key in ("expected_message", "expected_message_main"):
        if v.get(key) and (key != "expected_message_main" or version == VERSIONS[-1]):
            same(complaint, v[key])


def selector_labels(v: Vector, version: Version, _: Any) -> None:
    if "expected_label" in v:
        same(selector_of(v["selector"]).label, v["expected_label"])
    if "expected_labels" in v:
        listed = v.get("selectors") or [v["selector"]]
        index = selectors.SelectorIndex(version, map(selector_of, listed))
        got = index.labels(v["dns_name"]) if "dns_name" in v else {s.label for s in index}
        same_set(got, v["expected_labels"])
    if "expected_label_sets" in v:
        sets = identity.preallocated_label_sets(
            selector_of(v["selector"]), ipv4=v.get("ipv4", False), ipv6=v.get("ipv6", False)
        )
        same_set([sorted(s) for s in sets], [sorted(s) for s in v["expected_label_sets"]])


def crd_schema_validation(v: Vector, version: Version, _: Any) -> None:
    field = v["field"]
    same(selectors.CRD_PATTERNS[field], v["regex"])
    if "max_length" in v:
        same(selectors.CRD_MAX_LENGTH, v["max_length"])
        since = Version.parse(v.get("max_length_since", "1.17"))
        same(selectors.CRD_MAX_LENGTH_SINCE, since)
        same(selectors.crd_field_complaint(field, "a" * (v["max_length"] + 1), since) != "", True)
    for case in v["cases"]:
        same(
            selectors.crd_field_complaint(field, case["input"], version) == "",
            case["expected"],
            case["input"],
        )


def rule_validation(v: Vector, version: Version, _: Any) -> None:
    if "toPorts" in v:
        complaint = port_rule_complaint(
            v["toPorts"], ingress=v.get("direction") == "ingress", version=version
        )
    elif "egress_rule" in v:
        complaint = egress_complaint(v["egress_rule"], version)
    elif "egress_deny_rule" in v:
        complaint = egress_deny_complaint(v["egress_deny_rule"])
    else:
        raise UnknownOperation(f"rule fields {sorted(v)}")
    same(complaint != "", v["expected"] != "ok", complaint)
    if v.get("expected_message"):
        same(complaint, v["expected_message"])
    if v.get("expected_message_contains"):
        assert v["expected_message_contains"] in complaint, complaint


AREAS: dict[str, Area] = {
    "crd_schema_validation": crd_schema_validation,
    "rule_validation": rule_validation,
    "selector_labels": selector_labels,
    "selector_regex": selector_regex,
    "selector_string": selector_string,
    "selector_validation": selector_validation,
}
