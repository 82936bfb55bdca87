"""Symptom, check, hypothesis, fix, finding, diagnosis: the outcome of a diagnosis and its JSON form.

The JSON of ``deadhop diagnose -o json`` is :class:`Diagnosis`; its schema is generated from here.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from deadhop.model.record import Record, Source
from deadhop.model.trace import Trace

Severity = Literal["fault", "benign"]
Verdict = Literal["cause-found", "likely", "insufficient", "healthy"]


class Symptom(msgspec.Struct, frozen=True, kw_only=True):
    """An observed failure. ``kind`` is a word of ``diagnose/symptoms.py``; ``subject`` the object it happened to."""

    kind: str
    subject: str
    text: str
    source: Source
    records: tuple[Record, ...] = ()


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One question put to the evidence for a hypothesis.

    ``holds``: True supports, False refutes, None is open (the evidence does not say). A ``required`` check must
    hold for the hypothesis to fire and refutes it where it is False. ``weight`` is in log-odds (base e): what a
    True adds and a False takes away. ``records`` are what the answer rests on: without them it would not be True.
    ``decide`` is the command whose output would settle an open check. ``inferred`` marks an answer that follows
    from a rule rather than from a record, and says so in the report.
    """

    text: str
    holds: bool | None
    weight: float = 1.0
    required: bool = False
    records: tuple[Record, ...] = ()
    decide: str = ""
    inferred: bool = False


class EvidenceLine(msgspec.Struct, frozen=True):
    """One line of evidence behind a finding, in the contract's form."""

    source: str
    text: str


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """A fix's proof: the flow walked in the world as it is and as the fix leaves it.

    ``holds`` is True where the second walk arrives; ``changed`` lists what else the fix changes (blast radius);
    ``assumes`` what the walk had to take for granted.
    """

    before: Trace
    after: Trace
    holds: bool
    changed: tuple[str, ...] = ()
    assumes: tuple[str, ...] = ()


class FixReport(msgspec.Struct, frozen=True, kw_only=True):
    """A fix as reported: what to apply and its proof (None where the snapshot does not suffice to walk)."""

    title: str
    artifact: str
    proof: Proof | None = None
    status: Literal["proven", "conditional", "not-proven"] = "not-proven"
    note: str = ""


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """A check as shown by ``--explain-score``."""

    text: str
    holds: bool | None
    weight: float
    required: bool
    inferred: bool
    sources: tuple[str, ...] = ()


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A hypothesis that survived."""

    cause: str
    confidence: float
    severity: Severity
    title: str
    subject: str
    explains: tuple[str, ...] = ()
    evidence: tuple[EvidenceLine, ...] = ()
    fixes: tuple[FixReport, ...] = ()
    trace: Trace | None = None
    checks: tuple[CheckReport, ...] = ()
    contradictions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class RuledOut(msgspec.Struct, frozen=True, kw_only=True):
    """A rival theory and the evidence that kills it."""

    cause: str
    because: str
    evidence: tuple[EvidenceLine, ...] = ()


class Next(msgspec.Struct, frozen=True, kw_only=True):
    """A command to run next and what its output would decide."""

    command: str
    decides: str


class Reachability(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """Who may reach what in which epoch, and why."""

    from_: str
    to: str
    epoch: str
    disposition: str
    because: str


class SymptomReport(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    subject: str
    text: str
    source: str


class ProblemReport(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    source: str
    text: str


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one diagnosis."""

    schema: int = 1
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    reachability: tuple[Reachability, ...] = ()
    ruled_out: tuple[RuledOut, ...] = ()
    symptoms: tuple[SymptomReport, ...] = ()
    next: tuple[Next, ...] = ()
    not_checked: tuple[str, ...] = ()
    problems: tuple[ProblemReport, ...] = ()
    assumptions: tuple[str, ...] = ()
    read: dict[str, Any] = msgspec.field(default_factory=dict)
