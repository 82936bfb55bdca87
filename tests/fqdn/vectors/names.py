"""Names and match patterns."""

from __future__ import annotations

import re
from typing import Any

from deadhop.fqdn import patterns
from deadhop.fqdn.names import fqdn, is_fqdn
from deadhop.fqdn.options import Version

from .common import Area, Vector, same


def fqdn_canonical(v: Vector, _version: Version, _: Any) -> None:
    for case in v.get("cases", [v]):
        same(fqdn(case["input"]), case["expected"], case["input"])


def is_fqdn_area(v: Vector, _version: Version, _: Any) -> None:
    for case in v.get("cases", [v]):
        same(is_fqdn(case["input"]), case["expected"], case["input"])


def matchpattern_sanitize(v: Vector, version: Version, _: Any) -> None:
    for case in v.get("cases", [v]):
        same(patterns.sanitize(case["input"], version), case["expected"], case["input"])


def matchpattern_regex(v: Vector, version: Version, _: Any) -> None:
    pattern = v["pattern"] if "pattern" in v else patterns.sanitize(v["raw_policy_pattern"], version)
    if "expected_anchored_regex" in v:
        same(patterns.to_anchored_regex(pattern, version), v["expected_anchored_regex"])
    if "expected_unanchored_regex" in v:
        same(patterns.to_unanchored_regex(pattern, version), v["expected_unanchored_regex"])


def matchpattern_match(v: Vector, version: Version, _: Any) -> None:
    pattern = v["pattern"] if "pattern" in v else patterns.sanitize(v["raw_policy_pattern"], version)
    compiled = patterns.compile_pattern(pattern, version)
    text = re.compile(patterns.to_anchored_regex(pattern, version).replace("$", r"\Z"))
    for wanted, key in ((True, "expected_match"), (False, "expected_no_match")):
        for name in v.get(key, []):
            same(compiled.matches(name), wanted, name)
            same(text.match(name) is not None, wanted, f"{name} by regex")


AREAS: dict[str, Area] = {
    "fqdn_canonical": fqdn_canonical,
    "is_fqdn": is_fqdn_area,
    "matchpattern_match": matchpattern_match,
    "matchpattern_regex": matchpattern_regex,
    "matchpattern_sanitize": matchpattern_sanitize,
}
