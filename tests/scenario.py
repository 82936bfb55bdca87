"""Literate scenarios: one Markdown file holds prose, evidence blocks and what deadhop must say.

A file is named for the cause it is about. A second-level heading begins a case. In a case, a fenced block whose info
string has ``file=NAME`` is one evidence file; a block ``expect`` holds one expectation a line; a block ``falls`` holds
changes, each of which must bring the finding down.

``expect`` lines::

    cause: SLUG            the first finding (also: cause: none)
    verdict: cause-found   the verdict
    not: SLUG              no finding of this slug
    ruled-out: SLUG        among the ruled out
    fix: proven            at least one fix of the first finding has this status
    next: WORDS            a next command contains these words
    contradiction: WORDS   a contradiction contains these words
    reaches: FROM -> TO DISPOSITION

``falls`` lines: ``A => B`` replaces text A by B in all evidence; ``drop: WORDS`` removes the lines with these words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deadhop import causes
from deadhop.diagnose.engine import diagnose
from deadhop.evidence import Evidence, read_bytes
from deadhop.model.finding import Diagnosis

_FENCE = re.compile(r"^(?P<fence>`{3,}|~{3,})(?P<info>.*?)\s*\n(?P<body>.*?)^(?P=fence)\s*$", re.M | re.S)


@dataclass
class Case:
    """One case: its evidence by file name, the expectations, the changes that bring the finding down."""

    file: Path
    title: str
    files: dict[str, str] = field(default_factory=dict)
    expect: list[tuple[str, str]] = field(default_factory=list)
    falls: list[str] = field(default_factory=list)

    @property
    def slug(self) -> str:
        return self.file.stem

    @property
    def fires(self) -> bool:
        return ("cause", self.slug) in self.expect

    def evidence(self, files: dict[str, str] | None = None) -> Evidence:
        together = Evidence()
        for name, text in (files or self.files).items():
            one = read_bytes(name, text.encode())
            together.records += one.records
            together.problems += one.problems
            together.documents += one.documents
            together.text.update(one.text)
        return together

    def diagnosis(self, files: dict[str, str] | None = None) -> Diagnosis:
        return diagnose(self.evidence(files), causes.load())

    def changed(self, change: str) -> dict[str, str]:
        """The evidence after one line of ``falls``. Raises ``ValueError`` where the change finds nothing to change."""
        if change.startswith("drop:"):
            words = change.removeprefix("drop:").strip()
            made = {
                n: "\n".join(row for row in t.split("\n") if words not in row) for n, t in self.files.items()
            }
        else:
            old, _, new = (part.strip() for part in change.partition("=>"))
            made = {n: t.replace(old, new) for n, t in self.files.items()}
        if made == self.files:
            raise ValueError(f"{self.file}: {change!r} changes nothing")
        return made


def cases(path: Path) -> Iterator[Case]:
    """The cases of one scenario file."""
    for part in re.split(r"^## ", path.read_text(), flags=re.M)[1:]:
        case = Case(path, part.split("\n", 1)[0].strip())
        for match in _FENCE.finditer(part):
            info, body = match["info"].strip(), match["body"]
            if name := re.search(r"\bfile=(\S+)", info):
                case.files[name[1]] = body
            elif info == "expect":
                case.expect += [
                    (k.strip(), v.strip())
                    for k, _, v in (row.partition(":") for row in body.split("\n"))
                    if k.strip()
                ]
            elif info == "falls":
                case.falls += [row.strip() for row in body.split("\n") if row.strip()]
        yield case


def mismatch(diagnosis: Diagnosis, expect: list[tuple[str, str]]) -> list[str]:
    """The expectations that do not hold, in words."""
    first = diagnosis.findings[0] if diagnosis.findings else None
    found = [f.cause for f in diagnosis.findings]
    wrong: list[str] = []
    for key, value in expect:
        holds = {
            "cause": lambda v: (first.cause if first else "none") == v,
            "verdict": lambda v: diagnosis.verdict == v,
            "not": lambda v: v not in found,
            "also": lambda v: v in found,
            "ruled-out": lambda v: v in [r.cause for r in diagnosis.ruled_out],
            "fix": lambda v: bool(first) and v in [f.status for f in first.fixes],  # type: ignore[union-attr]
            "next": lambda v: any(v in n.command for n in diagnosis.next),
            "contradiction": lambda v: bool(first) and any(v in c for c in first.contradictions),  # type: ignore[union-attr]
            "symptom": lambda v: v in [s.kind for s in diagnosis.symptoms],
            "reaches": lambda v: (
                v in [f"{r.from_} -> {r.to} {r.disposition}" for r in diagnosis.reachability]
            ),
        }
        if key not in holds:
            wrong.append(f"unknown expectation {key!r}")
        elif not holds[key](value):
            wrong.append(f"{key}: {value}; said {found or 'nothing'} ({diagnosis.verdict})")
    return wrong
