"""The words that a pattern needs: a line without them is never one that the pattern matches."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadhop.evidence.needles import possible
from deadhop.evidence.registry import registry


@pytest.mark.parametrize(
    ("pattern", "lines", "not_lines"),
    [
        (r"^foo (\d+)", ["foo 1"], ["bar 1"]),
        (r"(?:foo|bar)+ \d", ["xbar 1"], ["baz 1"]),
        (r"(?:abc)?defg", ["defg"], ["abc"]),
        (r"(?P<x>foo|[a-z]+bar) qu{2}x", ["zbar quux"], ["zbuz quux"]),
    ],
)
def test_words(pattern: str, lines: list[str], not_lines: list[str]) -> None:
    test = possible(re.compile(pattern))
    assert test is not None
    assert all(map(test, lines))
    assert not any(map(test, not_lines))


@pytest.mark.parametrize("pattern", [r"\d+", r"(?:foo)?", r"foo|\d", r"(?i)foo", r"(?i:foo)", r"fo"])
def test_patterns_that_need_no_word(pattern: str) -> None:
    assert possible(re.compile(pattern)) is None


PIECES = st.sampled_from(
    [f.start.pattern[at : at + 12] for f in registry().lines for at in range(0, len(f.start.pattern), 9)]
) | st.text(max_size=8)


@given(st.lists(PIECES, max_size=8).map(" ".join))
def test_no_format_is_missed(line: str) -> None:
    for form in registry().lines:
        test = possible(form.start)
        if test is not None and form.start.search(line):
            assert test(line), form.name
