"""Measures the diagnosis on labelled incidents.

``equivalent`` slugs of the knowledge base do not count here: an answer is right if it is the incident's ``cause`` or
one of its ``also_ok``. A finding that is wrong costs more than none, so both are printed apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deadhop import causes
from deadhop.diagnose.engine import diagnose
from deadhop.evidence.read import Evidence, read_bytes

FORMS = ("named", "numbered", "ticket")


@dataclass(frozen=True)
class Incident:
    """One labelled incident: its evidence files and the accepted slugs."""

    id: str
    files: tuple[Path, ...]
    cause: str
    accepted: frozenset[str]
    strict: bool


@dataclass
class Score:
    """What came of one form. ``misses`` holds ``(incident, expected, what was said)``."""

    form: str
    total: int = 0
    top1: int = 0
    top3: int = 0
    wrong: int = 0
    abstained: int = 0
    misses: list[tuple[str, str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    def as_text(self) -> str:
        share = f"{self.top1 / self.total:.0%}" if self.total else "-"
        lines = [
            f"{self.form}: {self.total} incidents, top-1 {self.top1} ({share}), top-3 {self.top3}, wrong {self.wrong}, abstained {self.abstained}"
        ]
        lines += [
            f"  {name:<8} expected {expected}\n           said     {said}"
            for name, expected, said in self.misses
        ]
        return "\n".join(lines)


def incidents(folder: Path) -> list[Incident]:
    """The incidents below ``folder``: every folder that holds an answer.json."""
    found = []
    for answer in sorted(folder.rglob("answer.json")):
        try:
            label = json.loads(answer.read_bytes())
            cause = str(label["cause"])
        except (json.JSONDecodeError, KeyError, OSError, TypeError):
            continue
        files = tuple(p for p in sorted(answer.parent.iterdir()) if p.is_file() and p.name != "answer.json")
        accepted = frozenset({cause, *map(str, label.get("also_ok") or ())})
        found.append(Incident(answer.parent.name, files, cause, accepted, bool(label.get("strict"))))
    return found


def show(incident: Incident, form: str) -> Evidence:
    """The evidence of an incident in one of the ``FORMS``; the label is never among it."""
    parts = [
        (f"{n:02}.txt" if form == "numbered" else path.name, path.read_bytes())
        for n, path in enumerate(incident.files, 1)
    ]
    if form == "ticket":
        pasted = b"\n\n".join(b"```\n" + data.rstrip(b"\n") + b"\n```" for _name, data in parts)
        return read_bytes("ticket.md", pasted)
    together = Evidence()
    for name, data in parts:
        one = read_bytes(name, data)
        together.records += one.records
        together.problems += one.problems
        together.documents += one.documents
        together.text.update(one.text)
        together.bytes += one.bytes
    return together


def evaluate(found: list[Incident], form: str, tick: Callable[[str], None] = lambda _name: None) -> Score:
    score = Score(form)
    for incident in found:
        tick(incident.id)
        diagnosis = diagnose(show(incident, form), causes.load())
        said = [f.cause for f in diagnosis.findings]
        score.total += 1
        if said and said[0] in incident.accepted:
            score.top1 += 1
        elif said:
            score.wrong += 1
        else:
            score.abstained += 1
        score.top3 += any(s in incident.accepted for s in said[:3])
        if not said or said[0] not in incident.accepted:
            shown = (
                ", ".join(f"{f.cause} {f.confidence:.2f}" for f in diagnosis.findings[:3])
                or f"nothing ({diagnosis.verdict})"
            )
            score.misses.append((incident.id, incident.cause, shown))
    return score
