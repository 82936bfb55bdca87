"""Lines that a form spaced out, or a terminal cut at its width, say what they said before, at the places where they stand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deadhop.evidence.fields import tabbed
from deadhop.evidence.read import read_bytes
from deadhop.evidence.reflow import unspaced, unwrapped
from deadhop.model.record import Record
from scenario import Case
from unit.test_decoration import SAMPLE

DIAL = "2024-05-02T07:10:11Z ERROR could not sync the ledger with its peers in the other zone: dial tcp 10.43.7.9:8500: connect: connection refused"


def kinds(text: str) -> list[tuple[type[Record], int]]:
    return [(type(r), max(r.source.line, 1)) for r in read_bytes("evidence.txt", text.encode()).records]


@pytest.mark.parametrize("case", SAMPLE, ids=lambda c: c.slug)
def test_an_empty_line_behind_each(case: Case) -> None:
    for text in case.files.values():
        rows = text.rstrip("\n").split("\n")
        if sum(1 for row in rows if row.strip()) > 3:
            assert kinds("\n\n".join(rows)) == [(kind, 2 * line - 1) for kind, line in kinds("\n".join(rows))]


@pytest.mark.parametrize("width", [80, 100, 132])
def test_lines_cut_at_a_width(width: int) -> None:
    rows = [DIAL, "$ cat /proc/sys/net/ipv4/ip_forward", "1", DIAL.replace("8500", "8501")]
    text = "\n".join(row[at : at + width] for row in rows for at in range(0, len(row), width))
    whole, cut = kinds("\n".join(rows)), read_bytes("evidence.txt", text.encode())
    assert [type(r) for r in cut.records] == [kind for kind, _line in whole]
    first = cut.records[0].source
    assert (first.line, first.end) == (1, -(-len(DIAL) // width))
    assert cut.records[-1].source.line == 3 + first.end


def test_lines_of_one_length_that_stand_alone() -> None:
    rows = [DIAL, DIAL.replace("8500", "8501"), DIAL.replace("8500", "8502"), "the end"]
    assert [line for _kind, line in kinds("\n".join(rows))] == [1, 2, 3]


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\r\n\x00", exclude_categories=["Cs"]), max_size=90),
        max_size=12,
    )
)
@settings(max_examples=150, deadline=None)
def test_every_line_has_its_place(rows: list[str]) -> None:
    for flow in filter(None, (unspaced(rows), unwrapped(rows))):
        assert len(flow.rows) == len(flow.of)
        assert all(row == "".join(rows[a : b + 1]) for row, (a, b) in zip(flow.rows, flow.of, strict=True))
        assert "".join(flow.rows).split() == "".join(rows).split()
    assert all(0 <= line <= max(len(rows), 1) for _kind, line in kinds("\n".join(rows)))


@given(st.lists(st.text("abc.:-9", max_size=12), min_size=1, max_size=6))
def test_tabs_that_became_spaces(cells: list[str]) -> None:
    text = "\t".join(cells)
    assert tabbed(text) == tabbed(text.expandtabs(8)) == cells
