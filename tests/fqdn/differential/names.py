"""Names, patterns: canonical form, expressions, complaints, what matches."""

from __future__ import annotations

import re
from typing import Any

from deadhop.fqdn import patterns
from deadhop.fqdn.names import fqdn, is_fqdn
from deadhop.fqdn.options import V1_14, Version

from ..real_cilium import Oracle, call
from .cases import Area, Case, Outcomes, Random, plain_name, text

# Names and patterns.


def ascii_text(rng: Random) -> str:
    """As :func:`text`, in ASCII: a DNS message holds nothing else, and policies refuse it before."""
    return text(rng).encode("ascii", "ignore").decode()


def make_names(rng: Random) -> Case:
    return [ascii_text(rng) for _ in range(20)]


def real_names(oracle: Oracle, _: Version, case: Case) -> Outcomes:
    answers = oracle.ask([call(name, item) for item in case for name in ("dns.FQDN", "dns.isFQDN")])
    return list(zip(answers[::2], answers[1::2], strict=True))


def our_names(_: Version, case: Case) -> Outcomes:
    return [(fqdn(item), is_fqdn(item)) for item in case]


def compiles_here(pattern: str) -> bool:
    """Up to 1.18 Cilium lets through any character here, those with a meaning to RE2 too, and we do not."""
    return re.fullmatch(r"[-a-zA-Z0-9_.*]*", pattern.strip()) is not None


def make_patterns(rng: Random) -> Case:
    return [[ascii_text(rng), [plain_name(rng) for _ in range(6)]] for _ in range(8)]


def real_patterns(oracle: Oracle, version: Version, case: Case) -> Outcomes:
    outcomes = []
    for pattern, names in case:
        sanitized, anchored, checked = oracle.ask(
            [call(f"matchpattern.{name}", pattern) for name in ("Sanitize", "ToAnchoredRegexp", "Validate")]
        )
        unanchored = None
        if version >= V1_14:
            (unanchored,) = oracle.ask([call("matchpattern.ToUnAnchoredRegexp", pattern)])
        usable = compiles_here(pattern)
        matched: Any = "not compared"
        if usable and isinstance(checked, str):
            matched = oracle.ask([call("regexp.MatchString", anchored, name) for name in names])
        refused = isinstance(checked, dict) and "error parsing regexp" not in checked["error"]
        outcomes.append((sanitized, anchored, unanchored, checked if usable or refused else 0, matched))
    return outcomes


def our_patterns(version: Version, case: Case) -> Outcomes:
    outcomes: Outcomes = []
    for pattern, names in case:
        checked: Any = 0
        matched: Any = "not compared"
        try:
            patterns.check(pattern, version)
            if compiles_here(pattern):
                checked = patterns.to_anchored_regex(pattern, version)
                compiled = patterns.compile_pattern(pattern, version)
                matched = [compiled.matches(name) for name in names]
        except patterns.PatternError as error:
            checked = {"error": str(error)}
        outcomes.append(
            (
                patterns.sanitize(pattern, version),
                patterns.to_anchored_regex(pattern, version),
                patterns.to_unanchored_regex(pattern, version) if version >= V1_14 else None,
                checked,
                matched,
            )
        )
    return outcomes


AREAS = (
    Area("names", make_names, real_names, our_names),
    Area("patterns", make_patterns, real_patterns, our_patterns),
)
