"""The text report: verdict, path with the broken hop marked, evidence, what was ruled out, fixes with proof, what next.

Readable without colour at 80 columns; colour only where click finds a terminal and NO_COLOR is not set.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from typing import Any

import click

from deadhop.model.finding import Diagnosis, Finding, FixReport
from deadhop.model.trace import Trace

WIDTH = 80
_VERDICT = {
    "cause-found": ("CAUSE FOUND", "red"),
    "likely": ("LIKELY", "yellow"),
    "insufficient": ("INSUFFICIENT EVIDENCE", "yellow"),
    "healthy": ("HEALTHY", "green"),
}


def _paint(text: str, **style: Any) -> str:
    return text if os.environ.get("NO_COLOR") else click.style(text, **style)


def render(diagnosis: Diagnosis, *, explain_score: bool = False, all_problems: bool = False) -> str:
    lines = list(_lines(diagnosis, explain_score, all_problems))
    return "\n".join(line.rstrip() for line in lines)


def _lines(d: Diagnosis, explain_score: bool, all_problems: bool) -> Iterator[str]:
    word, colour = _VERDICT[d.verdict]
    head = d.findings[0] if d.findings else None
    yield _paint(word, fg=colour, bold=True) + (f"  {head.cause}  ({head.confidence:.0%})" if head else "")
    if head:
        yield from _wrap(head.title, 2)
        yield from _wrap(f"at {head.subject}", 2)
        yield ""
        if head.trace:
            yield from _path(head.trace)
        yield from _finding(head, explain_score)
    elif d.symptoms:
        yield from _wrap("Something failed, but the evidence does not say why.", 2)
    else:
        yield from _wrap("Nothing in the evidence shows a failure, and missing evidence is not health.", 2)
    yield ""
    if len(d.findings) > 1:
        yield _title("Also possible")
        for finding in d.findings[1:6]:
            yield from _wrap(f"{finding.confidence:.0%}  {finding.cause}: {finding.title}", 2, "       ")
        yield ""
    if d.reachability:
        yield _title("Who reaches what")
        for row in d.reachability[:24]:
            yield from _wrap(
                f"{row.disposition:<10} {row.from_} -> {row.to} [{row.epoch}]: {row.because}",
                2,
                "             ",
            )
        yield ""
    if d.symptoms and d.verdict != "cause-found":
        yield _title("Symptoms")
        for symptom in d.symptoms[:6]:
            yield from _wrap(f"{symptom.source}  {symptom.text}", 2, "    ")
        yield ""
    if d.ruled_out:
        yield _title("Ruled out")
        for ruled in d.ruled_out[:8]:
            yield from _wrap(
                f"{ruled.cause}: {ruled.because}"
                + (f" ({ruled.evidence[0].source})" if ruled.evidence else ""),
                2,
                "    ",
            )
        yield ""
    if d.next:
        yield _title("Run next")
        for command in d.next:
            yield f"  $ {command.command}"
            yield from _wrap(command.decides, 6)
        yield ""
    if d.not_checked:
        yield _title("Not checked")
        for line in d.not_checked[:6]:
            yield from _wrap(line, 2, "    ")
        yield ""
    yield from _problems(d, all_problems)


def _title(text: str) -> str:
    return _paint(text, bold=True)


def _wrap(text: str, indent: int, more: str | None = None) -> list[str]:
    pad = " " * indent
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=pad,
        subsequent_indent=more if more is not None else pad,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


def _path(trace: Trace) -> Iterator[str]:
    yield _title("Path") + f"  {trace.flow}"
    for hop in trace.hops:
        mark = (
            _paint("✗", fg="red", bold=True)
            if hop.broken
            else "✓"
            if hop.steps and all(s.ok for s in hop.steps)
            else "?"
        )
        yield f"  {mark} {hop.kind}: {hop.name}"
        for step in hop.steps:
            sign = "✗" if step.ok is False else "·" if step.ok else "?"
            yield from _wrap(f"{sign} {step.text}", 6, "        ")
    reason = f" ({trace.reason})" if trace.reason else ""
    yield from _wrap(f"= {trace.disposition}{reason} {trace.says}".rstrip(), 2, "    ")
    yield ""


def _finding(finding: Finding, explain_score: bool) -> Iterator[str]:
    if finding.explains:
        yield _title("Explains")
        for line in finding.explains:
            yield from _wrap(line, 2, "    ")
    yield _title("Evidence")
    for shown in finding.evidence[:12]:
        yield f"  {shown.source}"
        yield from _wrap(shown.text, 6)[:4]
    if len(finding.evidence) > 12:
        yield f"  … and {len(finding.evidence) - 12} more (-o json has them)"
    for line in finding.contradictions:
        yield from _wrap(f"Contradiction: {line}", 2, "    ")
    for line in finding.notes:
        yield from _wrap(f"Note: {line}", 2, "    ")
    if explain_score:
        yield _title("Score")
        for check in finding.checks:
            sign = {True: "+", False: "-", None: " "}[check.holds]
            kind = ("required " if check.required else "") + ("inferred " if check.inferred else "")
            answer = {True: "yes", False: "no", None: "open"}[check.holds]
            yield from _wrap(f"{sign}{check.weight:<4} {answer:<4} {kind}{check.text}", 2, "             ")
    for number, fix in enumerate(finding.fixes, 1):
        yield from _fix(number, fix)


def _fix(number: int, fix: FixReport) -> Iterator[str]:
    state = {
        "proven": "proven by walking the changed world",
        "conditional": "proven under a condition",
        "not-proven": "not proven: the evidence does not hold enough to walk",
    }[fix.status]
    yield ""
    yield _title(f"Fix {number}") + f"  {fix.title}"
    yield from _wrap(state, 2)
    if fix.proof:
        before, after = fix.proof.before, fix.proof.after
        yield from _wrap(f"before: {before.disposition} {before.reason} {before.says}".rstrip(), 4, "      ")
        yield from _wrap(f"after:  {after.disposition} {after.reason} {after.says}".rstrip(), 4, "      ")
        for line in fix.proof.changed:
            yield from _wrap(f"also changes: {line}", 4, "      ")
        for line in fix.proof.assumes:
            yield from _wrap(f"assumes: {line}", 4, "      ")
    if fix.note:
        yield from _wrap(fix.note, 4)
    yield from (f"    | {line}" for line in fix.artifact.rstrip("\n").split("\n"))


def _problems(d: Diagnosis, everything: bool) -> Iterator[str]:
    unread = [p for p in d.problems if p.kind == "unread"]
    other = [p for p in d.problems if p.kind != "unread"]
    shown = d.problems if everything else (*other[:8], *(unread if not d.read.get("records") else ())[:8])
    if shown:
        yield _title("Could not read")
        for problem in shown:
            yield from _wrap(f"{problem.source}  {problem.kind}: {problem.text}", 2, "    ")
    if unread and not everything:
        yield from _wrap(
            f"{len(unread)} places hold text that no reader knows (--all-problems lists them).", 0
        )
