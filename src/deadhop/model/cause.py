"""What a cause file offers to the engine: hypotheses bound to objects, and fixes that change a world.

A cause is a module under ``causes/<family>/`` with a docstring in fixed sections and one ``CAUSE``. The engine
knows no single cause; a cause knows no other and never reads a record type that it does not declare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from deadhop.model.finding import Check, Severity
from deadhop.model.record import Record
from deadhop.model.trace import Trace

R = TypeVar("R", bound=Record)


class UndeclaredInput(LookupError):
    """A cause asked for a record type that it does not declare."""


class View:
    """The records of one diagnosis as one cause may see them: only the types that the cause declares."""

    def __init__(
        self, records: dict[type[Record], list[Record]], declared: frozenset[type[Record]], cause: str
    ) -> None:
        self._records = records
        self._declared = declared
        self._cause = cause

    def of(self, kind: type[R]) -> list[R]:
        """All records of ``kind``, in the order of the evidence. Raises :class:`UndeclaredInput`."""
        if kind not in self._declared:
            raise UndeclaredInput(f"{self._cause} reads {kind.__name__} without declaring it")
        return self._records.get(kind, [])  # type: ignore[return-value]

    def first(self, kind: type[R], where: Callable[[R], bool] = lambda _r: True) -> R | None:
        return next((r for r in self.of(kind) if where(r)), None)

    def where(self, kind: type[R], test: Callable[[R], bool]) -> tuple[R, ...]:
        return tuple(r for r in self.of(kind) if test(r))


class Fix(msgspec.Struct, frozen=True, kw_only=True):
    """A change to the world and the artefact that makes it.

    ``apply`` maps the hypothesis' world to the world after the fix; None where the evidence does not hold enough
    of a world to walk. ``if_also`` states a condition under which alone the fix works.
    """

    title: str
    artifact: str
    apply: Callable[[Any], Any] | None = None
    changed: tuple[str, ...] = ()
    assumes: tuple[str, ...] = ()
    conditional: bool = False
    note: str = ""


class Hypothesis(msgspec.Struct, frozen=True, kw_only=True):
    """A cause bound to objects.

    ``world`` is what ``walk`` walks; ``explains`` are sentences about the symptoms that this would produce.
    ``prior`` is the log-odds before any check: how often this is the truth when its inputs are there.
    """

    subject: str
    title: str
    checks: tuple[Check, ...]
    explains: tuple[str, ...] = ()
    world: Any = None
    walk: Callable[[Any], Trace] | None = None
    fixes: tuple[Fix, ...] = ()
    prior: float = -1.0
    contradictions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """One known way for connections to die (or one thing that only looks like it).

    ``inputs`` are the record types that ``check`` may read; the engine skips the cause, and says so, where none
    of ``needs`` (by default: of ``inputs``) is there. ``rivals`` are the slugs of the neighbours that a report
    names as ruled out or still open.
    """

    slug: str
    family: str
    title: str
    severity: Severity = "fault"
    inputs: tuple[type[Record], ...]
    needs: tuple[type[Record], ...] = ()
    rivals: tuple[str, ...] = ()
    check: Callable[[View], Iterable[Hypothesis] | Iterator[Hypothesis]]


def shown(
    text: str,
    records: Iterable[Record],
    *,
    weight: float = 1.0,
    required: bool = False,
    decide: str = "",
    inferred: bool = False,
) -> Check:
    """A check that holds where there are records that show it, and is open where there are none."""
    found = tuple(records)
    return Check(
        text=text,
        holds=True if found else None,
        weight=weight,
        required=required,
        records=found,
        decide=decide,
        inferred=inferred,
    )


def judged(
    text: str,
    holds: bool | None,
    records: Iterable[Record] = (),
    *,
    weight: float = 1.0,
    required: bool = False,
    decide: str = "",
    inferred: bool = False,
) -> Check:
    """A check with a computed answer and the records it rests on."""
    return Check(
        text=text,
        holds=holds,
        weight=weight,
        required=required,
        records=tuple(records),
        decide=decide,
        inferred=inferred,
    )
