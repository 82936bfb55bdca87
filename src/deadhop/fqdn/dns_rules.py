"""``rules.dns``: one entry's validation, the proxy's expression, and how rules of several policies merge.

``PortRuleDNS`` has the two fields of an FQDN selector; the expression is ``dnsproxy.GeneratePattern``. Since 1.14 a rule list is one expression
``^(?:a|b)$``; before, each rule was an anchored group of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from deadhop.fqdn.names import fqdn
from deadhop.fqdn.options import V1_14, Version
from deadhop.fqdn.patterns import (
    MATCH_ALL_UNANCHORED,
    Pattern,
    PatternError,
    compile_unchecked,
    sanitize,
    to_anchored_regex,
    to_unanchored_regex,
)
from deadhop.fqdn.selectors import FQDNSelector, name_complaint, pattern_complaint

PortRuleDNS = FQDNSelector
WILDCARD_RULE = PortRuleDNS(match_pattern="*")
MATCH_EVERYTHING = "(?:)"


def dns_rule_complaint(rule: PortRuleDNS, version: Version) -> str:
    """Why the agent refuses one entry of ``rules.dns``, or an empty string.

    Unlike a ``toFQDNs`` entry it may set both fields (they are OR-ed) or neither (it contributes nothing).
    """
    return name_complaint(rule.match_name, version, dns_rule=True) or pattern_complaint(
        rule.match_pattern, version
    )


class Expression(msgspec.Struct, frozen=True):
    """The compiled rules of one selector on one port. ``everything`` is the proxy's string test for ``(?:)``."""

    regex: str
    alternatives: tuple[Pattern, ...] = ()
    everything: bool = False

    def matches(self, name: str) -> bool:
        return self.everything or any(pattern.matches(name) for pattern in self.alternatives)


EVERYTHING = Expression(MATCH_EVERYTHING, everything=True)


def _canonical(rule: PortRuleDNS, version: Version) -> list[str]:
    texts = []
    if rule.match_name:
        texts.append(fqdn(rule.match_name))
    if rule.match_pattern:
        texts.append(sanitize(rule.match_pattern, version))
    return texts


def generate_pattern(rules: Sequence[PortRuleDNS] | None, version: Version) -> Expression:
    """The expression of a rule list; None and the empty list allow every name.

    Up to 1.13 None was the rule ``matchPattern: "*"``, and only the empty list was an expression without limits.

    Raises :class:`PatternError` where one rule does not compile: the proxy then refuses the whole update.
    """
    if rules is None and version < V1_14:
        rules = (WILDCARD_RULE,)
    texts = [text for rule in rules or () for text in _canonical(rule, version)]
    if version < V1_14:
        anchored = "|".join(f"({to_anchored_regex(text, version)})" for text in texts)
        compiled = tuple(compile_unchecked(text, version) for text in texts)
        return Expression(anchored, compiled, everything=not texts)
    if not rules:
        return EVERYTHING
    parts: list[str] = []
    patterns: list[Pattern] = []
    for text in texts:
        part = to_unanchored_regex(text, version)
        if part == MATCH_ALL_UNANCHORED:
            return EVERYTHING
        parts.append(part)
        patterns.append(compile_unchecked(text, version))
    if not parts:  # rules without name or pattern: the expression of the empty name, which nobody asks for
        patterns.append(compile_unchecked("", version))
    return Expression(f"^(?:{'|'.join(parts)})$", tuple(patterns))


def expression_from_regex(regex: str) -> Expression:
    """Read back an expression that an agent saved. Raises :class:`PatternError` where Cilium did not write it.

    Saved state is foreign input, so the text is taken apart into patterns instead of being run.
    """
    if regex in ("", MATCH_EVERYTHING):
        return Expression(regex, everything=True)
    alternatives = _alternatives(regex)
    return Expression(regex, tuple(_pattern_of(text, regex) for text in alternatives))


def _alternatives(regex: str) -> list[str]:
    if regex.startswith("^(?:") and regex.endswith(")$"):
        return regex[4:-2].split("|")
    if regex.startswith("(") and regex.endswith(")"):
        match_all = "((^([-a-zA-Z0-9_]+[.])+$)|(^[.]$))"
        parts = regex.replace(match_all, "(^*$)").split("|")
        if all(part.startswith("(^") and part.endswith("$)") for part in parts):
            return [part[2:-2] for part in parts]
    raise PatternError(f"not an expression of the DNS proxy: {regex!r}")


def _pattern_of(text: str, regex: str) -> Pattern:
    labels = "([-a-zA-Z0-9_]+([.][-a-zA-Z0-9_]+){0,})[.]"
    prefix = "**." if text.startswith(labels) else ""
    body = text.removeprefix(labels) if prefix else text
    pattern = prefix + body.replace("[-a-zA-Z0-9_]*", "*").replace("[.]", ".")
    if not re.match(r"[-a-z0-9_.*]*\Z", pattern):
        raise PatternError(f"not an expression of the DNS proxy: {regex!r}")
    return compile_unchecked(pattern, Version(1, 19 if prefix else 18))


def merge(lists: Iterable[Sequence[PortRuleDNS] | None]) -> tuple[PortRuleDNS, ...] | None:
    """The rules of one selector and port from several policies, or None where none of them names a DNS rule.

    Lists are unioned in order. A policy that allows the same selector and port without L7 rules adds
    ``matchPattern: "*"`` as long as another keeps the port redirected (L7 wildcarding).
    """
    merged: list[PortRuleDNS] = []
    plain = redirected = False
    for rules in lists:
        if not rules:
            plain = True
            continue
        redirected = True
        merged.extend(rule for rule in rules if rule not in merged)
    if not redirected:
        return None
    if plain and WILDCARD_RULE not in merged:
        merged.append(WILDCARD_RULE)
    return tuple(merged)


def without_l7_on_shutdown(rules: Sequence[PortRuleDNS]) -> bool:
    """Whether ``dns-policy-unload-on-shutdown`` turns these rules into a plain allow: a literal ``"*"`` is in them."""
    return any(rule.match_pattern == "*" for rule in rules)
