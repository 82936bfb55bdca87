"""The house rules for cause files."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from deadhop import causes
from deadhop.causes.pages import SECTIONS, page, slugs
from deadhop.model.cause import Cause, UndeclaredInput, View
from deadhop.model.observed.dns import DnsQuery, ResolvConf

KNOWN = causes.load()


@pytest.mark.parametrize("slug", sorted(KNOWN))
def test_docstring_has_the_sections(slug: str) -> None:
    found = page(slug, slugs()[slug])
    assert list(found.sections) == ["", *SECTIONS]
    assert all(text for text in found.sections.values())
    cause = KNOWN[slug]
    assert (found.family, found.severity, found.title, found.rivals) == (
        cause.family,
        cause.severity,
        cause.title,
        cause.rivals,
    )
    assert found.inputs == tuple(kind.__name__ for kind in cause.inputs)


@pytest.mark.parametrize("slug", sorted(KNOWN))
def test_stays_small_and_in_its_family(slug: str) -> None:
    cause = KNOWN[slug]
    path = Path(inspect.getfile(cause.check))
    assert path.parent.name == cause.family
    assert len(path.read_text().splitlines()) <= 320


@pytest.mark.parametrize("slug", sorted(KNOWN))
def test_needs_are_inputs(slug: str) -> None:
    cause: Cause = KNOWN[slug]
    assert cause.inputs
    assert set(cause.needs) <= set(cause.inputs)
    assert slug not in cause.rivals


def test_a_cause_cannot_read_what_it_does_not_declare() -> None:
    view = View({}, frozenset({DnsQuery}), "x")
    assert view.of(DnsQuery) == []
    with pytest.raises(UndeclaredInput):
        view.of(ResolvConf)
