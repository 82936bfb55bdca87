"""Every scenario says what it must, and every cause has one where it fires and a near neighbour where it must not."""

from __future__ import annotations

from pathlib import Path

import pytest

from deadhop import causes
from deadhop.diagnose.engine import by_type, hypotheses
from deadhop.diagnose.score import LIKELY, State, confidence, state
from deadhop.model.observed.policy import Flow
from deadhop.model.record import Record
from scenario import Case, cases, mismatch

FOLDER = Path(__file__).parent.parent / "scenarios"
ALL = [case for path in sorted(FOLDER.rglob("*.md")) for case in cases(path)]
FIRING = [case for case in ALL if case.fires]


def name(case: Case) -> str:
    return f"{case.slug}: {case.title}"


@pytest.mark.parametrize("case", ALL, ids=name)
def test_says(case: Case) -> None:
    assert case.files, "a case has evidence"
    assert case.expect, "a case has expectations"
    assert mismatch(case.diagnosis(), case.expect) == []


@pytest.mark.parametrize("slug", sorted(causes.load()))
def test_has_cases(slug: str) -> None:
    own = [case for case in ALL if case.slug == slug]
    assert any(case.fires for case in own), "a case where it fires"
    assert any(("not", slug) in case.expect for case in own), "a near neighbour where it must not fire"
    assert all(case.falls for case in own if case.fires), "each firing case says what brings the finding down"


@pytest.mark.parametrize("case", FIRING, ids=name)
def test_falls_when_turned_round(case: Case) -> None:
    for change in case.falls:
        diagnosis = case.diagnosis(case.changed(change))
        still = [f for f in diagnosis.findings[:1] if f.cause == case.slug]
        assert not still, f"still fires ({still[0].confidence}) after {change!r}"


@pytest.mark.parametrize("case", FIRING, ids=name)
def test_falls_without_what_it_cites(case: Case) -> None:
    """Without the records of a required check the finding is gone; without those of another its confidence falls."""
    cause = causes.load()[case.slug]
    records = case.evidence().records
    best = _best(cause.slug, records)
    assert best is not None
    for check in best[1].checks:
        if not check.holds or not check.records:
            continue
        gone = {id(r) for r in check.records}
        lines = {
            r.source for r in check.records if isinstance(r, Flow)
        }  # a line may hold a flow and an event
        after = _best(cause.slug, [r for r in records if id(r) not in gone and r.source not in lines])
        if check.required:
            assert after is None or after[1].subject != best[1].subject, f"fires without: {check.text}"
        else:
            assert after is None or after[0] < best[0], f"no weaker without: {check.text}"


def _best(slug: str, records: list[Record]):  # type: ignore[no-untyped-def]
    said, _skipped = hypotheses(by_type(records), {slug: causes.load()[slug]}, [])
    scored = [(confidence(h.prior, h.checks), h) for _c, h in said if state(h) is State.FIRES]
    scored = [s for s in scored if s[0] >= LIKELY]
    return max(scored, key=lambda s: s[0], default=None)
