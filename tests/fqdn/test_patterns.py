"""Names, patterns and selectors, version by version."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deadhop.fqdn import patterns
from deadhop.fqdn.names import fqdn, is_fqdn
from deadhop.fqdn.options import LATEST, V1_16, V1_17, V1_18, V1_19, VERSIONS, Version
from deadhop.fqdn.selectors import (
    CRD_PATTERNS,
    FQDNSelector,
    SelectorIndex,
    crd_complaint,
    crd_field_complaint,
    name_complaint,
    selector_complaint,
    selector_for_domain_name,
)

NAMES = st.text(alphabet="ab-._é\nA", max_size=8).map(lambda s: s + ".") | st.text("ab.", max_size=6)
PATTERNS = st.text(alphabet="ab*.-_A", max_size=8)


def go_regex(text: str) -> re.Pattern[str]:
    """The RE2 text for Python: ``$`` is the end of the text and nothing else."""
    return re.compile(text.replace("$", r"\Z"))


@pytest.mark.parametrize("version", [V1_18, V1_19, LATEST])
@given(pattern=PATTERNS, name=NAMES)
@settings(max_examples=400, deadline=None)
def test_matching_is_the_language_of_the_printed_regex(version: Version, pattern: str, name: str) -> None:
    canonical = patterns.sanitize(pattern, version)
    compiled = patterns.compile_pattern(canonical, version)
    wanted = go_regex(patterns.to_anchored_regex(canonical, version)).match(name) is not None
    assert compiled.matches(name) is wanted
    index = SelectorIndex(version, [FQDNSelector(match_pattern=pattern)] if pattern else [])
    assert bool(index.match(name)) is (wanted and bool(pattern))


@given(listed=st.lists(PATTERNS.filter(bool), max_size=12), name=NAMES)
@settings(max_examples=200, deadline=None)
def test_the_index_agrees_with_its_selectors_one_by_one(listed: list[str], name: str) -> None:
    selectors = [FQDNSelector(match_pattern=pattern) for pattern in listed]
    index = SelectorIndex(LATEST, selectors)
    wanted = {s for s in selectors if s.compile(LATEST).matches(name)}
    assert set(index.match(name)) == wanted
    for selector in selectors[::2]:
        index.remove(selector)
    assert set(index.match(name)) == wanted - set(selectors[::2])


@pytest.mark.parametrize(
    "pattern, until_1_18, since_1_19",
    [
        ("*", "all", "all"),
        ("**", "^[-a-zA-Z0-9_]*[-a-zA-Z0-9_]*[.]$", "all"),
        ("*.", "^[-a-zA-Z0-9_]*[.]$", "all"),
        ("**.", "^[-a-zA-Z0-9_]*[-a-zA-Z0-9_]*[.]$", "all"),
        (
            "**.cilium.io",
            "^[-a-zA-Z0-9_]*[-a-zA-Z0-9_]*[.]cilium[.]io[.]$",
            "^([-a-zA-Z0-9_]+([.][-a-zA-Z0-9_]+){0,})[.]cilium[.]io[.]$",
        ),
        (
            "sub**.cilium.io",
            "^sub[-a-zA-Z0-9_]*[-a-zA-Z0-9_]*[.]cilium[.]io[.]$",
            "^sub[-a-zA-Z0-9_]*[.]cilium[.]io[.]$",
        ),
        ("a.**.b", "^a[.][-a-zA-Z0-9_]*[-a-zA-Z0-9_]*[.]b[.]$", "^a[.][-a-zA-Z0-9_]*[.]b[.]$"),
        ("", "^[.]$", "^[.]$"),
        ("CILIUM.io", "^cilium[.]io[.]$", "^cilium[.]io[.]$"),
    ],
)
def test_regex_text(pattern: str, until_1_18: str, since_1_19: str) -> None:
    for version in VERSIONS:
        wanted = until_1_18 if version < V1_19 else since_1_19
        wanted = patterns.MATCH_ALL_ANCHORED if wanted == "all" else wanted
        assert patterns.to_anchored_regex(patterns.sanitize(pattern, version), version) == wanted


@pytest.mark.parametrize(
    "pattern, name, until_1_18, since_1_19",
    [
        ("*.cilium.io", "cilium.io.", False, False),
        ("*.cilium.io", ".cilium.io.", True, True),
        ("*.cilium.io", "a.b.cilium.io.", False, False),
        ("*cilium.io", "cilium.io.", True, True),
        ("*cilium.io", "www.cilium.io.", False, False),
        ("**.cilium.io", "a.cilium.io.", True, True),
        ("**.cilium.io", "a.b.cilium.io.", False, True),
        ("**.cilium.io", "cilium.io.", False, False),
        ("**.cilium.io", ".cilium.io.", True, False),
        ("a.**.b", "a.x.b.", True, True),
        ("a.**.b", "a.x.y.b.", False, False),
        ("**b.c", "ab.c.", True, True),
        ("**", "com.", True, True),
        ("**", "a.com.", False, True),
        ("*", ".", True, True),
        ("*", "a.com", False, False),
        ("*.*.svc.cluster.local", "web.default.svc.cluster.local.", True, True),
        ("*.svc.cluster.local", "web.default.svc.cluster.local.", False, False),
        ("cilium.io", "cilium.io.\n", False, False),
    ],
)
def test_what_patterns_match(pattern: str, name: str, until_1_18: bool, since_1_19: bool) -> None:
    for version in VERSIONS:
        compiled = FQDNSelector(match_pattern=pattern).compile(version)
        assert compiled.matches(name) is (until_1_18 if version < V1_19 else since_1_19), version


def test_many_stars_cost_no_time() -> None:
    selector = FQDNSelector(match_pattern="*a" * 100 + ".x")
    started = time.process_time()
    assert not selector.compile(V1_18).matches("a" * 99 + "b.x.")
    assert selector.compile(V1_18).matches("ba" * 100 + ".x.")
    assert time.process_time() - started < 0.5


def test_ten_thousand_selectors_are_walked_by_label() -> None:
    index = SelectorIndex(LATEST)
    for number in range(5000):
        index.add(FQDNSelector(match_name=f"host{number}.example.com"))
        index.add(FQDNSelector(match_pattern=f"*.zone{number}.example.net"))
    started = time.process_time()
    for number in range(2000):
        assert len(index.match(f"host{number}.example.com.")) == 1
        assert len(index.match(f"www.zone{number}.example.net.")) == 1
        assert not index.match(f"www.zone{number}.example.org.")
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    "name, canonical", [("A.b", "a.b."), ("a.", "a."), ("", "."), ("a\\.", "a\\.."), ("a\\\\.", "a\\\\.")]
)
def test_canonical_names(name: str, canonical: str) -> None:
    assert fqdn(name) == canonical
    assert is_fqdn(canonical)


def test_text_forms_are_not_normalised() -> None:
    plain, dotted = FQDNSelector(match_name="cilium.io"), FQDNSelector(match_name="cilium.io.")
    assert plain.label == "fqdn:cilium.io"
    assert dotted.label == "fqdn:cilium.io."
    assert plain.regex(LATEST) == dotted.regex(LATEST)
    assert FQDNSelector().label == "fqdn:"
    assert FQDNSelector().regex(LATEST) == "^[.]$"
    assert [s.label for s in SelectorIndex(LATEST, [FQDNSelector()]).match(".")] == ["fqdn:"]


def test_validation_messages() -> None:
    both = FQDNSelector("a.io", "*.a.io")
    for version in VERSIONS:
        assert selector_complaint(both, version).startswith("only one of MatchName or MatchPattern")
        assert selector_complaint(FQDNSelector(match_name=" a.io"), version).startswith(
            "Invalid characters in M"
        )
        allowed = "., -, _ and *" if version >= V1_19 else "., - and *"
        assert selector_complaint(FQDNSelector(match_pattern="a/*"), version) == (
            f'Invalid characters in MatchPattern: "a/*". Only 0-9, a-z, A-Z and {allowed} characters are allowed'
        )
        assert name_complaint("a*", version, dns_rule=False) == (
            'Invalid characters in MatchName: "a*". Only 0-9, a-z, A-Z '
            f"and {'., -, _' if version >= V1_19 else '. and -'} characters are allowed"
        )
        assert name_complaint("a*", version, dns_rule=True) == (
            'Invalid characters in MatchName: "a*". Only 0-9, a-z, A-Z and . and - characters are allowed'
        )
        long = FQDNSelector(match_pattern="a" * 256)
        assert bool(selector_complaint(long, version)) is (version >= V1_19)
        assert not selector_complaint(FQDNSelector(match_pattern="a" * 255), version)
        assert not selector_complaint(FQDNSelector(match_name="a" * 256), version)


def test_a_name_of_255_characters_never_matches_since_1_19() -> None:
    selector = FQDNSelector(match_name="a" * 255)
    for version in VERSIONS:
        index = SelectorIndex(version, [selector])
        assert bool(index.match("a" * 255 + ".")) is (version < V1_19)
        assert bool(index.invalid) is (version >= V1_19)


def test_the_lax_check_of_the_cli_until_1_18() -> None:
    for text in ("a{1}", "[a]", "a+", "a,b"):
        with pytest.raises(patterns.PatternError):
            patterns.check(text, V1_18)
    patterns.check("a/b", V1_18)
    with pytest.raises(patterns.PatternError):
        patterns.check("a/b", V1_19)
    with pytest.raises(patterns.PatternError):
        patterns.compile_pattern("a?b", V1_18)


def test_crd_schema() -> None:
    for version in VERSIONS:
        both_or_none = (FQDNSelector("a", "b"), FQDNSelector())
        assert all(bool(crd_complaint(s, version)) is (version >= V1_16) for s in both_or_none)
        assert bool(crd_field_complaint("matchName", "a" * 256, version)) is (version >= V1_17)
        for refused in (".a", "a..b", "", "*", "a b", "a\n"):
            assert crd_field_complaint("matchName", refused, version)
        assert not crd_field_complaint("matchPattern", "**.a.", version)


@given(st.text(alphabet="a*.-_/", max_size=8))
def test_crd_decision_is_the_language_of_its_pattern(value: str) -> None:
    for field, regex in CRD_PATTERNS.items():
        assert (crd_field_complaint(field, value, LATEST) == "") is bool(go_regex(regex).match(value))


def test_domain_names_of_cluster_network_policy_mean_any_depth() -> None:
    assert selector_for_domain_name("*.x.io") == FQDNSelector(match_pattern="**.x.io")
    assert selector_for_domain_name("x.io") == FQDNSelector(match_name="x.io")
