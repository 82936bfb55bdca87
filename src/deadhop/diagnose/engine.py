"""Puts every cause to the records, ranks what survives, proves the fixes, names what is still open.

The engine knows no cause. It asks each whose inputs are there for hypotheses, scores them (``score``), lets the
best stand as findings, reports refuted rivals with the evidence that kills them, and gathers the commands that
would settle what is open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from deadhop.diagnose import symptoms as symptom_rules
from deadhop.diagnose.next_commands import next_commands
from deadhop.diagnose.proof import prove
from deadhop.diagnose.reachability import reachability
from deadhop.diagnose.score import FOUND, LIKELY, State, confidence, state
from deadhop.evidence.read import Evidence
from deadhop.model.cause import Cause, Hypothesis, UndeclaredInput, View
from deadhop.model.finding import (
    Check,
    CheckReport,
    Diagnosis,
    EvidenceLine,
    Finding,
    ProblemReport,
    RuledOut,
    Symptom,
    SymptomReport,
    Verdict,
)
from deadhop.model.observed.kube import Node, Pod
from deadhop.model.observed.policy import Flow
from deadhop.model.record import Problem, Record, Source
from deadhop.snapshot.attribution import attributed

#: How many evidence lines of one check a report shows; the rest is counted.
SHOWN = 6


def by_type(records: Iterable[Record]) -> dict[type[Record], list[Record]]:
    """Records by their class and by every base class below Record, in order; flows with the names that pods tell."""
    found: dict[type[Record], list[Record]] = defaultdict(list)
    for record in records:
        for kind in type(record).__mro__:
            if kind is Record:
                break
            found[kind].append(record)
    if Flow in found:
        found[Flow] = [*attributed(found[Flow], found.get(Pod, []), found.get(Node, []))]  # type: ignore[arg-type]
    return dict(found)


def hypotheses(
    records: Mapping[type[Record], list[Record]], causes: Mapping[str, Cause], failed: list[Problem]
) -> tuple[list[tuple[Cause, Hypothesis]], list[str]]:
    """What every cause says about the records, and the slugs of causes whose inputs are absent.

    A cause that raises is put into ``failed``; a cause that reads what it does not declare raises
    :class:`UndeclaredInput`.
    """
    said: list[tuple[Cause, Hypothesis]] = []
    skipped: list[str] = []
    for cause in causes.values():
        if not any(records.get(kind) for kind in (cause.needs or cause.inputs)):
            skipped.append(cause.slug)
            continue
        view = View(dict(records), frozenset(cause.inputs), cause.slug)
        try:
            said += [(cause, hypothesis) for hypothesis in cause.check(view)]
        except UndeclaredInput:
            raise
        except (
            Exception
        ) as error:  # evidence of strangers has any shape: one cause's trouble must not hide the others
            failed.append(
                Problem(
                    source=Source(f"cause {cause.slug}"),
                    kind="internal",
                    text=f"could not judge: {type(error).__name__}: {error}",
                )
            )
    return said, skipped


def diagnose(evidence: Evidence, causes: Mapping[str, Cause]) -> Diagnosis:
    """The diagnosis of all evidence read."""
    records = by_type(evidence.records)
    failed: list[Problem] = []
    said, skipped = hypotheses(records, causes, failed)
    symptoms = symptom_rules.observe(evidence.records)
    failures = [s for s in symptoms if s.kind in symptom_rules.FAILED]
    said = [(cause, _healthy(h, failures) if cause.severity == "benign" else h) for cause, h in said]
    best: dict[str, tuple[float, Cause, Hypothesis]] = {}
    others: dict[str, list[Hypothesis]] = defaultdict(list)
    for cause, hypothesis in said:
        if state(hypothesis) is not State.FIRES:
            continue
        score = confidence(hypothesis.prior, hypothesis.checks)
        if cause.slug not in best or score > best[cause.slug][0]:
            if cause.slug in best:
                others[cause.slug].append(best[cause.slug][2])
            best[cause.slug] = (score, cause, hypothesis)
        else:
            others[cause.slug].append(hypothesis)
    ranked = sorted(best.values(), key=lambda b: (-round(b[0], 4), b[1].severity == "benign", b[1].slug))
    findings = tuple(_finding(score, cause, h, others[cause.slug], evidence) for score, cause, h in ranked)
    reach = reachability(evidence.records)
    return Diagnosis(
        verdict=_verdict(findings, bool(symptoms), bool(reach)),
        findings=findings,
        reachability=reach,
        ruled_out=_ruled_out(said, ranked, evidence),
        symptoms=tuple(
            SymptomReport(kind=s.kind, subject=s.subject, text=s.text, source=str(s.source)) for s in symptoms
        ),
        next=next_commands(said, [f.cause for f in findings], symptoms),
        not_checked=_not_checked(said, ranked, skipped, causes),
        problems=tuple(
            ProblemReport(kind=p.kind, source=str(p.source), text=p.text)
            for p in (*evidence.problems, *failed)
        ),
        read={
            "documents": len(evidence.documents),
            "bytes": evidence.bytes,
            "records": {
                kind.__name__: len(rows)
                for kind, rows in sorted(by_exact(evidence.records).items(), key=lambda i: i[0].__name__)
            },
        },
    )


def _healthy(hypothesis: Hypothesis, failures: Iterable[Symptom]) -> Hypothesis:
    """A benign hypothesis has to account for every failure: one that it does not cite refutes it."""
    cited = {record.source for check in hypothesis.checks for record in check.records}
    left = tuple(r for failure in failures if failure.source not in cited for r in failure.records)
    if not left:
        return hypothesis
    check = Check(text="it accounts for every failure", holds=False, required=True, records=left)
    return msgspec.structs.replace(hypothesis, checks=(*hypothesis.checks, check))


def by_exact(records: Iterable[Record]) -> dict[type[Record], list[Record]]:
    found: dict[type[Record], list[Record]] = defaultdict(list)
    for record in records:
        found[type(record)].append(record)
    return dict(found)


def _verdict(findings: tuple[Finding, ...], symptoms: bool, reach: bool) -> Verdict:
    faults = [f for f in findings if f.severity == "fault"]
    if findings and findings[0].severity == "benign":
        return "healthy"
    if faults:
        return "cause-found" if faults[0].confidence >= FOUND else "likely"
    if not symptoms and reach:
        return "healthy"
    return "insufficient"


def _finding(
    score: float, cause: Cause, hypothesis: Hypothesis, others: list[Hypothesis], evidence: Evidence
) -> Finding:
    fixes, trace = prove(hypothesis)
    notes = list(hypothesis.notes)
    subjects = dict.fromkeys(h.subject for h in others if h.subject != hypothesis.subject)
    if subjects:
        notes.append("also seen for: " + ", ".join(list(subjects)[:8]))
    return Finding(
        cause=cause.slug,
        confidence=round(score, 3),
        severity=cause.severity,
        title=hypothesis.title,
        subject=hypothesis.subject,
        explains=hypothesis.explains,
        evidence=_lines(hypothesis.checks, evidence),
        fixes=fixes,
        trace=trace,
        checks=tuple(
            CheckReport(
                text=c.text,
                holds=c.holds,
                weight=c.weight,
                required=c.required,
                inferred=c.inferred,
                sources=tuple(str(r.source) for r in c.records[:SHOWN]),
            )
            for c in hypothesis.checks
        ),
        contradictions=hypothesis.contradictions,
        notes=tuple(notes),
    )


def _lines(checks: Iterable[Check], evidence: Evidence) -> tuple[EvidenceLine, ...]:
    """The lines behind the checks that hold, the required ones first, each line once."""
    lines: dict[str, EvidenceLine] = {}
    for check in sorted((c for c in checks if c.holds and c.records), key=lambda c: not c.required):
        for record in check.records[:SHOWN]:
            source = str(record.source)
            quoted = evidence.quote(record.source)
            lines.setdefault(
                source, EvidenceLine(source, f"{check.text}: {quoted}" if quoted else check.text)
            )
        if len(check.records) > SHOWN:
            more = len(check.records) - SHOWN
            last = str(check.records[-1].source)
            lines.setdefault(last, EvidenceLine(last, f"{check.text} (and {more} more like it)"))
    return tuple(lines.values())


def _ruled_out(
    said: list[tuple[Cause, Hypothesis]], ranked: list[tuple[float, Cause, Hypothesis]], evidence: Evidence
) -> tuple[RuledOut, ...]:
    """Refuted hypotheses, those that the leading finding calls its rivals first."""
    leading = ranked[0][1].rivals if ranked else ()
    reported = {cause.slug for _score, cause, _h in ranked}
    out: dict[str, RuledOut] = {}
    for cause, hypothesis in said:
        if cause.slug in reported or cause.slug in out or state(hypothesis) is not State.REFUTED:
            continue
        killers = [c for c in hypothesis.checks if c.holds is False and c.required]
        lines = tuple(
            EvidenceLine(str(r.source), evidence.quote(r.source) or c.text)
            for c in killers
            for r in c.records[:2]
        )
        out[cause.slug] = RuledOut(
            cause=cause.slug, because="; ".join("not so: " + c.text for c in killers), evidence=lines
        )
    return tuple(sorted(out.values(), key=lambda r: (r.cause not in leading, r.cause)))


def _not_checked(
    said: list[tuple[Cause, Hypothesis]],
    ranked: list[tuple[float, Cause, Hypothesis]],
    skipped: list[str],
    causes: Mapping[str, Cause],
) -> tuple[str, ...]:
    """Rivals that stay open, and rivals whose inputs are absent, each with what is missing."""
    reported = {cause.slug for _score, cause, _h in ranked}
    lines: dict[str, str] = {}
    for cause, hypothesis in said:
        if cause.slug not in reported and state(hypothesis) is State.OPEN:
            open_checks = [c.text for c in hypothesis.checks if c.required and c.holds is None]
            lines.setdefault(
                cause.slug, f"{cause.slug}: the evidence does not say whether {'; '.join(open_checks)}"
            )
    for _score, cause, _h in ranked[:2]:
        for rival in cause.rivals:
            if rival in skipped and rival in causes:
                wanted = ", ".join(k.__name__ for k in (causes[rival].needs or causes[rival].inputs)[:4])
                lines.setdefault(rival, f"{rival}: no evidence of its kind ({wanted})")
    return tuple(lines.values())


__all__ = ["LIKELY", "by_type", "diagnose", "hypotheses"]
