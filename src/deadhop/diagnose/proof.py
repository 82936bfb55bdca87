"""Proves fixes: the flow is walked in the world as it is, and again in the world as the fix leaves it."""

from __future__ import annotations

from typing import Literal

from deadhop.model.cause import Fix, Hypothesis
from deadhop.model.finding import FixReport, Proof
from deadhop.model.trace import Disposition, Trace


def prove(hypothesis: Hypothesis) -> tuple[tuple[FixReport, ...], Trace | None]:
    """The fixes of a hypothesis with their proofs, and the trace of the world as it is.

    Without a world to walk a fix is reported as not proven; a walk that does not die before the fix proves
    nothing either, and says so.
    """
    walk = hypothesis.walk
    if walk is None or hypothesis.world is None:
        return tuple(
            FixReport(title=f.title, artifact=f.artifact, note=f.note) for f in hypothesis.fixes
        ), None
    before = walk(hypothesis.world)
    return tuple(_report(fix, hypothesis, before) for fix in hypothesis.fixes), before


def _report(fix: Fix, hypothesis: Hypothesis, before: Trace) -> FixReport:
    if fix.apply is None or hypothesis.walk is None:
        return FixReport(title=fix.title, artifact=fix.artifact, note=fix.note)
    after = hypothesis.walk(fix.apply(hypothesis.world))
    died = not before.disposition.arrives and before.disposition is not Disposition.UNKNOWN
    holds = died and after.disposition.arrives
    proof = Proof(before=before, after=after, holds=holds, changed=fix.changed, assumes=fix.assumes)
    status: Literal["proven", "conditional", "not-proven"] = "not-proven"
    if holds:
        status = "conditional" if fix.conditional else "proven"
    return FixReport(title=fix.title, artifact=fix.artifact, proof=proof, status=status, note=fix.note)
