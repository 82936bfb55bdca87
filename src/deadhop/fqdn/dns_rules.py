"""``rules.dns``: validation in a policy, the proxy's expression, and how rules of several policies merge.

``PortRuleDNS`` has the two fields of an FQDN selector. The checks are those of ``pkg/policy/api/rule_validation.go``
in its order; the expression is ``dnsproxy.GeneratePattern``. Since 1.14 a rule list is one expression
``^(?:a|b)$``; before, each rule was an anchored group of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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
from deadhop.fqdn.selectors import (
    FQDNSelector,
    name_complaint,
    pattern_complaint,
    selector_complaint,
)

PortRuleDNS = FQDNSelector
WILDCARD_RULE = PortRuleDNS(match_pattern="*")
MATCH_EVERYTHING = "(?:)"
MAX_PORTS = 40

L3_MEMBERS = (
    "toCIDR",
    "toCIDRSet",
    "toEndpoints",
    "toEntities",
    "toServices",
    "toFQDNs",
    "toGroups",
    "toNodes",
)
_SERVICE_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-zA-Z])[a-zA-Z0-9](?:[a-zA-Z0-9]|-(?!-))*(?<!-)\Z")
_GO_INT = re.compile(r"0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]+|[1-9][0-9_]*|0\Z")


def dns_rule_complaint(rule: PortRuleDNS, version: Version) -> str:
    """Why the agent refuses one entry of ``rules.dns``, or an empty string.

    Unlike a ``toFQDNs`` entry it may set both fields (they are OR-ed) or neither (it contributes nothing).
    """
    return name_complaint(rule.match_name, dns_rule=True) or pattern_complaint(rule.match_pattern, version)


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

    Raises :class:`PatternError` where one rule does not compile: the proxy then refuses the whole update.
    """
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


def _rules_of(items: Any) -> list[FQDNSelector]:
    found = []
    for item in items if isinstance(items, list) else []:
        if isinstance(item, Mapping):
            found.append(FQDNSelector.read(item))
    return found


def _port_complaint(port: Mapping[str, Any], has_dns: bool) -> tuple[bool, str]:
    """(the port is 0, complaint) as ``PortProtocol.Validate`` decides."""
    text = str(port.get("port") if port.get("port") is not None else "")
    if not text:
        return False, "port must be specified"
    zero = False
    if not _SERVICE_NAME.match(text):
        literal = text.replace("_", "")
        if not _GO_INT.fullmatch(text):
            return False, f'unable to parse port: strconv.ParseUint: parsing "{text}": invalid syntax'
        octal = len(literal) > 1 and literal[0] == "0" and literal[1].isdigit()
        number = int(literal, 8) if octal else int(literal, 0)
        if number > 65535:
            return False, f'unable to parse port: strconv.ParseUint: parsing "{text}": value out of range'
        zero = number == 0
        end = port.get("endPort") or 0
        if has_dns and isinstance(end, int) and end > number:
            return zero, "DNS rules do not support port ranges"
    protocol = str(port.get("protocol") or "ANY").upper()
    if protocol not in ("TCP", "UDP", "SCTP", "ICMP", "ICMPV6", "ANY", "VRRP", "IGMP"):
        return (
            zero,
            f'invalid protocol "{protocol}", must be {{ tcp | udp | sctp | icmp | icmpv6 | vrrp | igmp | any }}',
        )
    return zero, ""


def port_rule_complaint(port_rule: Mapping[str, Any], *, ingress: bool, version: Version) -> str:
    """Why the agent refuses one ``toPorts`` item, or an empty string (``PortRule.Validate``)."""
    given = port_rule.get("rules")
    rules: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    dns = _rules_of(rules.get("dns"))
    others = [kind for kind in ("http", "kafka", "l7") if rules.get(kind)]
    if ingress and dns:
        return "DNS rules are not allowed on ingress"
    ports = [p for p in port_rule.get("ports") or [] if isinstance(p, Mapping)]
    if len(ports) > MAX_PORTS:
        return f"too many ports, the max is {MAX_PORTS}"
    zero = False
    for port in ports:
        is_zero, complaint = _port_complaint(port, bool(dns))
        if complaint:
            return complaint
        zero = zero or is_zero
        protocol = str(port.get("protocol") or "ANY").upper()
        if others and not dns and protocol != "TCP":
            return f"L7 rules can only apply to TCP (not {protocol}) except for DNS rules"
    if not dns and not others:
        return ""
    if zero:
        return "L7 rules can not be used when a port is 0"
    if rules.get("dns") is not None and not ports:
        return "port 53 must be specified for DNS rules"
    for rule in dns:
        if complaint := dns_rule_complaint(rule, version):
            return complaint
    if dns and others:
        return "multiple L7 protocol rule types specified in single rule"
    return ""


def egress_complaint(item: Mapping[str, Any], version: Version) -> str:
    """Why the agent refuses one ``egress`` item, or an empty string (``EgressRule.Validate``).

    ``toFQDNs`` stands alone among the L3 peers of an item and may be combined with ``toPorts``.
    """
    present = [member for member in L3_MEMBERS if item.get(member)]
    if len(present) > 1:
        first, second = (f"T{member[1:]}" for member in sorted(present, key=lambda m: m == "toFQDNs")[:2])
        if "toFQDNs" in present:
            first, second = "ToFQDNs", first
        return f"combining {first} and {second} is not supported yet"
    for selector in _rules_of(item.get("toFQDNs")):
        if complaint := selector_complaint(selector, version):
            return complaint
    for port_rule in item.get("toPorts") or []:
        if isinstance(port_rule, Mapping):
            complaint = port_rule_complaint(port_rule, ingress=False, version=version)
            if complaint:
                return complaint
    return ""


def egress_deny_complaint(item: Mapping[str, Any]) -> str:
    """Why an ``egressDeny`` item is not possible: it has no ``toFQDNs`` (cilium/cilium issue 35494)."""
    return 'unknown field "spec.egressDeny[].toFQDNs"' if item.get("toFQDNs") else ""
