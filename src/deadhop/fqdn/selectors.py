"""``toFQDNs`` selectors: validation, text forms, the names they match, and an index over many of them.

``FQDNSelector`` is ``pkg/policy/api/fqdn.go``; its text forms are what ``policy selectors``, ``fqdn names`` and
identity labels show. They are not normalised: ``cilium.io`` and ``cilium.io.`` are two selectors and two labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from deadhop.fqdn.names import fqdn
from deadhop.fqdn.options import V1_16, V1_17, V1_19, Version
from deadhop.fqdn.patterns import (
    Glob,
    Pattern,
    PatternError,
    check,
    compile_pattern,
    sanitize,
    to_anchored_regex,
    whole_labels,
)

_NAME_CHARS = re.compile(r"[-a-zA-Z0-9_.]+\Z")
_PATTERN_CHARS = re.compile(r"[-a-zA-Z0-9_.*]+\Z")

BOTH_SET = "only one of MatchName or MatchPattern is allowed in an FQDNSelector"
CRD_ONE_OF = "exactly one of matchName or matchPattern is required"

CRD_PATTERNS = {
    "matchName": r"^([-a-zA-Z0-9_]+[.]?)+$",
    "matchPattern": r"^([-a-zA-Z0-9_*]+[.]?)+$",
}
_CRD_LABEL = {
    "matchName": re.compile(r"[-a-zA-Z0-9_.]+\Z"),
    "matchPattern": re.compile(r"[-a-zA-Z0-9_.*]+\Z"),
}
CRD_MAX_LENGTH = 255
CRD_MAX_LENGTH_SINCE = V1_17
CRD_ONE_OF_SINCE = V1_16


class FQDNSelector(msgspec.Struct, frozen=True, order=True, rename="camel"):
    """One entry of ``toFQDNs``, with the values as the policy wrote them."""

    match_name: str = ""
    match_pattern: str = ""

    @classmethod
    def read(cls, item: Mapping[str, Any]) -> FQDNSelector:
        """An entry as a manifest has it; a field that is missing or null is empty."""
        return cls(str(item.get("matchName") or ""), str(item.get("matchPattern") or ""))

    def __str__(self) -> str:
        return f"MatchName: {self.match_name}, MatchPattern: {self.match_pattern}"

    @property
    def label(self) -> str:
        """The identity label that carries this selector, ``fqdn:<raw matchName or matchPattern>``."""
        return f"fqdn:{self.match_name or self.match_pattern}"

    def canonical(self, version: Version) -> str:
        """The text that is compiled: the pattern where there is one, else the name (``FQDNSelector.ToRegex``)."""
        return sanitize(self.match_pattern, version) if self.match_pattern else fqdn(self.match_name)

    def regex(self, version: Version) -> str:
        """The RE2 text as ``fqdn names`` prints it. Without name and pattern it matches the root only."""
        return to_anchored_regex(self.canonical(version), version)

    def compile(self, version: Version) -> Pattern:
        """Raises :class:`PatternError`: since 1.19 also for a name of 255 characters without its final dot."""
        return compile_pattern(self.canonical(version), version)


def name_complaint(name: str, version: Version, *, dns_rule: bool) -> str:
    """Why a ``matchName`` is refused, or an empty string. Since 1.19 the two kinds of rule word it differently."""
    if not name or _NAME_CHARS.match(name):
        return ""
    allowed = "and . and -" if dns_rule or version < V1_19 else "and ., -, _"
    return f'Invalid characters in MatchName: "{name}". Only 0-9, a-z, A-Z {allowed} characters are allowed'


def pattern_complaint(pattern: str, version: Version) -> str:
    """Why a ``matchPattern`` is refused, or an empty string. Up to 1.18 only rules looked at its characters."""
    if version < V1_19:
        if not pattern or _PATTERN_CHARS.match(pattern):
            return ""
        allowed = "0-9, a-z, A-Z and ., - and *"
        return f'Invalid characters in MatchPattern: "{pattern}". Only {allowed} characters are allowed'
    try:
        check(pattern, version)
    except PatternError as error:
        return str(error)
    return ""


def selector_complaint(selector: FQDNSelector, version: Version) -> str:
    """Why the agent refuses a ``toFQDNs`` entry (``FQDNSelector.sanitize``), or an empty string."""
    if selector.match_name and selector.match_pattern:
        return BOTH_SET
    return name_complaint(selector.match_name, version, dns_rule=False) or pattern_complaint(
        selector.match_pattern, version
    )


def crd_field_complaint(field: str, value: str, version: Version) -> str:
    """Why the API server refuses the value of ``matchName`` or ``matchPattern``, or an empty string.

    The schema's expression is ``CRD_PATTERNS[field]``. It is decided here without running it, because its nested
    repetition backtracks without bound outside RE2: the value has allowed characters only, does not begin with a
    dot, and has no two dots in a row.
    """
    if version >= CRD_MAX_LENGTH_SINCE and len(value) > CRD_MAX_LENGTH:
        return f"{field}: Too long: may not be more than {CRD_MAX_LENGTH} bytes"
    if not _CRD_LABEL[field].match(value) or value.startswith(".") or ".." in value:
        return f"{field}: Invalid value: \"{value}\": should match '{CRD_PATTERNS[field]}'"
    return ""


def crd_complaint(selector: FQDNSelector, version: Version) -> str:
    """Why the API server refuses an entry of ``toFQDNs`` or ``rules.dns``, or an empty string."""
    if version >= CRD_ONE_OF_SINCE and bool(selector.match_name) == bool(selector.match_pattern):
        return CRD_ONE_OF
    for field, value in (("matchName", selector.match_name), ("matchPattern", selector.match_pattern)):
        if value and (complaint := crd_field_complaint(field, value, version)):
            return complaint
    return ""


def selector_for_domain_name(domain_name: str) -> FQDNSelector:
    """The selector of a ClusterNetworkPolicy ``domainNames`` entry (1.20+), where ``*.x`` means any depth."""
    if domain_name.startswith("*."):
        return FQDNSelector(match_pattern=f"*{domain_name}")
    if "*" in domain_name:
        return FQDNSelector(match_pattern=domain_name)
    return FQDNSelector(match_name=domain_name)


class _Node:
    """One label position of the trie, counted from the right end of the name."""

    __slots__ = ("children", "ends", "globs", "subdomains")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.globs: dict[Glob, _Node] = {}
        self.ends: list[FQDNSelector] = []
        self.subdomains: list[FQDNSelector] = []


class SelectorIndex:
    """Which of many selectors match a name: a trie over labels from the right.

    Literal labels are dictionary keys; labels with stars are tried one by one at their node. A lookup costs the
    labels of the name, not the number of selectors.
    """

    def __init__(self, version: Version, selectors: Iterable[FQDNSelector] = ()) -> None:
        self.version = version
        self.invalid: dict[FQDNSelector, str] = {}
        self._everything: list[FQDNSelector] = []
        self._root = _Node()
        self._patterns: dict[FQDNSelector, Pattern] = {}
        for selector in selectors:
            self.add(selector)

    def __len__(self) -> int:
        return len(self._patterns)

    def __iter__(self) -> Iterator[FQDNSelector]:
        return iter(self._patterns)

    def __contains__(self, selector: FQDNSelector) -> bool:
        return selector in self._patterns

    def add(self, selector: FQDNSelector) -> bool:
        """Add a selector; False where it does not compile (kept in ``invalid``; the agent logs it and goes on)."""
        if selector in self._patterns:
            return True
        try:
            pattern = selector.compile(self.version)
        except PatternError as error:
            self.invalid[selector] = str(error)
            return False
        self._patterns[selector] = pattern
        self._slot(pattern).append(selector)
        return True

    def remove(self, selector: FQDNSelector) -> None:
        """Forget a selector; unknown ones are passed over."""
        self.invalid.pop(selector, None)
        pattern = self._patterns.pop(selector, None)
        if pattern is not None:
            self._slot(pattern).remove(selector)

    def _slot(self, pattern: Pattern) -> list[FQDNSelector]:
        if pattern.everything:
            return self._everything
        node = self._root
        for glob in reversed(pattern.globs):
            if glob.literal is not None:
                node = node.children.setdefault(glob.literal, _Node())
            else:
                node = node.globs.setdefault(glob, _Node())
        return node.subdomains if pattern.subdomains else node.ends

    def match(self, name: str) -> list[FQDNSelector]:
        """The selectors that match ``name`` (a canonical name), in no particular order."""
        labels = name.split(".")
        found: list[FQDNSelector] = []
        if self._everything and (name == "." or (labels[-1] == "" and whole_labels(labels[:-1]) and name)):
            found.extend(self._everything)
        nodes = [self._root]
        for at in range(len(labels), -1, -1):
            last = at == 0
            following: list[_Node] = []
            for node in nodes:
                if last:
                    found.extend(node.ends)
                    continue
                if node.subdomains and whole_labels(labels[:at]):
                    found.extend(node.subdomains)
                child = node.children.get(labels[at - 1])
                if child is not None:
                    following.append(child)
                for glob, branch in node.globs.items():
                    if glob.matches(labels[at - 1]):
                        following.append(branch)
            nodes = following
        return found

    def labels(self, name: str) -> frozenset[str]:
        """The identity labels of every selector that matches ``name``."""
        return frozenset(selector.label for selector in self.match(name))
