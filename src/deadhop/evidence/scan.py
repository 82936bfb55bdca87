"""Reads one text: terminal sessions, logs, manifests and prose in any order.

The scanner walks the lines once. At each it tries, in this order: a command line (which tells where and how to
read what follows), a JSON value, a YAML document, the line formats by priority. What nobody claims is prose or an
unknown format: it is counted and reported as unread with its place, never guessed at, and it ends a session in a
namespace that was entered before.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from deadhop.evidence import blocks, lenient_json, prompt, safe_yaml
from deadhop.evidence.command_line import Command
from deadhop.evidence.completed import completed
from deadhop.evidence.format import Context, LineFormat, Lines, Locate
from deadhop.evidence.needles import Test, possible
from deadhop.evidence.registry import registry
from deadhop.model.observed.shell import CommandRun, Remark
from deadhop.model.record import Problem, Record

#: Formats up to this priority read a command line together with what a person wrote behind it, so they come first.
NOTES = 10
LONG = 4000
"""Characters of a line in which a format's beginning is looked for: some expressions take the square of a line's length."""
MANY = 300
"""Lines that nobody read, from which on lines are tested for the words of a format before its expression is tried."""
#: Formats up to this priority read what a command line left of a whole output, so they come before the values it may hold.
ASKED = 3
_FENCE = re.compile(r"^\s*(```|~~~)")
_REMARK = re.compile(
    r"^\s*(?:#+|//|-{2,}|={2,}|>{2,})\s*([^-=>#\s].*?)\s*(?:-{2,}|={2,}|>{2,}|<{2,}|#+)?\s*$|^\s*([\w][\w ]{0,30}):\s*$"
)
#: Programs that ask an API server: it does not matter where they run.
_REMOTE = frozenset("kubectl helm calicoctl istioctl gcloud aws az eksctl hubble".split())
_ELLIPSIS = re.compile(r"^\s*(\.{3}|…|\[\.\.\.\])\s*$")


def scan(lines: Lines, context: Context) -> Iterator[Record]:
    """All records of ``lines``, and a problem for every range of lines that nobody read."""
    scanner = _Scanner(lines, context)
    yield from scanner.run()


class _Scanner:
    def __init__(self, lines: Lines, context: Context) -> None:
        self.lines = lines
        self.context = context
        self.formats: list[tuple[LineFormat, Test | None]] = [
            (f, None) for f in registry().lines if f.priority > NOTES
        ]
        self.notes = [f for f in registry().lines if ASKED < f.priority <= NOTES]
        self.asked = [f for f in registry().lines if f.priority <= ASKED]
        self.last: LineFormat | None = None
        self.unread: list[int] = []
        self.tried = 0
        self.heading = ""  # the machine that the last remark names
        self.seat: str = ""  # the namespace entered by an interactive command, until it is left

    def run(self) -> Iterator[Record]:
        text = self.lines.text
        i, n = 0, len(text)
        while i < n:
            line = text[i]
            if not line or line.isspace():
                i += 1
                continue
            if _FENCE.match(line):
                self._leave()
                i += 1
                continue
            after, records = self._step(i, line)
            if after > i:
                yield from self._flush()
                yield from records
                i = after
                continue
            if not _ELLIPSIS.match(line):
                self.unread.append(i)
                self.tried += 1
                if self.tried == MANY:
                    self.formats = [(form, possible(form.start)) for form, _ in self.formats]
                if not _REMARK.match(line):
                    self._leave()
            i += 1
        yield from self._flush()

    def _step(self, i: int, line: str) -> tuple[int, list[Record]]:
        last = self.last
        if last is not None and last.start.search(line):
            after, records = last.read(self.lines, i, self.context)
            if after > i:
                return after, records
        if last is None and self.context.command is not None:
            for form in self.asked:
                after, records = form.read(self.lines, i, self.context)
                if after > i:
                    return after, records
        if lenient_json.starts(line):
            after, records = self._json(i)
            if after > i:
                return after, records
        for form in self.notes:
            if form.start.search(line):
                after, records = form.read(self.lines, i, self.context)
                if after > i:
                    return after, records
        if command := prompt.parse(line):
            return i + 1, [self._command(command, i)]
        if blocks.yaml_starts(line):
            after, records = self._yaml(i)
            if after > i:
                return after, records
        head = line[:LONG]
        for form, test in self.formats:
            if form is not last and (test is None or test(line)) and form.start.search(head):
                after, records = form.read(self.lines, i, self.context)
                if after > i:
                    self.last = form
                    return after, records
        if blocks.yaml_maybe(self.lines.text, i):
            after, records = self._yaml(i)
            if records and any(not isinstance(r, Problem) for r in records):
                return after, records
        if (match := _REMARK.match(line)) and (label := match[1] or match[2]):
            self.context.label = label
            machine = prompt.machine(label)
            self.heading = f"host {machine}" if machine else ""
            if machine and not self.seat:
                self.context.where = self.heading
            return i + 1, [Remark(source=self.lines.source(i), where=self.context.where, text=label)]
        return i, []

    def _command(self, command: Command, i: int) -> CommandRun:
        if command.argv == ("exit",):
            self.seat = ""
        where = (
            command.where
            if command.where is not None
            else self.seat or (f"host {command.host}" if command.host else "")
        )
        if not where and self.heading and command.argv[0] not in _REMOTE:
            where = self.heading
        if command.enters and command.where is not None:
            self.seat = command.where
        run = CommandRun(
            source=self.lines.source(i),
            where=where,
            line=command.line,
            argv=command.argv,
            filters=command.filters,
        )
        self.context.command = run
        self.context.where = where
        self.last = None
        return run

    def _leave(self) -> None:
        self.seat = ""
        self.context.where = ""
        self.context.command = None
        self.last = None

    def _flush(self) -> Iterator[Record]:
        start = previous = -2
        for i in [*self.unread, -1]:
            if i == previous + 1:
                previous = i
                continue
            if start >= 0:
                count = previous - start + 1
                text = f"{count} line{'s' if count > 1 else ''} that no reader knows (prose, or an unknown format)"
                yield Problem(source=self.lines.source(start, previous), kind="unread", text=text)
            start = previous = i
        self.unread.clear()

    def _json(self, i: int) -> tuple[int, list[Record]]:
        try:
            value = msgspec.json.decode(self.lines.text[i])
        except (msgspec.DecodeError, RecursionError):
            return self._json_block(i)
        records = self._value(value, i, i)
        return (i + 1, records) if records else (i, [])

    def _json_block(self, i: int) -> tuple[int, list[Record]]:
        """A value of several lines, or one that is cut off."""
        if (last := self._outdented(i)) is not None:
            # An indented value ends with its bracket in the first column, however long it is.
            with contextlib.suppress(msgspec.DecodeError, RecursionError):
                value = msgspec.json.decode("\n".join(self.lines.text[i : last + 1]))
                records = self._value(value, i, last)
                return (last + 1, records) if records else (i, [])
        end = min(len(self.lines.text), i + 20_000)
        text = "\n".join(self.lines.text[i:end])
        decoded = lenient_json.decode_at(text, 0)
        if decoded is None:
            return i, []
        value, at, whole = decoded
        consumed = text.count("\n", 0, at)
        after = i + consumed + 1
        records = self._value(value, i, after - 1, whole)
        if not records:
            return i, []
        if not whole:
            records.append(
                Problem(
                    source=self.lines.source(after - 1),
                    kind="truncated",
                    text="the JSON value is cut off here",
                )
            )
        return after, records

    def _yaml(self, i: int) -> tuple[int, list[Record]]:
        end = blocks.yaml_end(self.lines.text, i)
        records: list[Record] = []
        text = "\n".join(self.lines.text[i:end])
        for offset, part in safe_yaml.split(text):
            first = i + offset
            last = min(end - 1, first + part.count("\n"))
            try:
                value = safe_yaml.load(part)
            except safe_yaml.YamlProblem as problem:
                if problem.hostile:
                    records.append(
                        Problem(
                            source=self.lines.source(first + problem.line), kind="hostile", text=str(problem)
                        )
                    )
                    continue
                value = blocks.salvage(part, problem.line)
            value = blocks.rebuild_flat(part, value)
            got = self._value(value, first, last)
            if not got and isinstance(value, (dict, list)) and blocks.yaml_starts(self.lines.text[first]):
                text_ = "a YAML document of no kind that a reader knows"
                got = [Problem(source=self.lines.source(first, last), kind="unread", text=text_)]
            records += got
        return (end, records) if records else (i, [])

    def _outdented(self, i: int) -> int | None:
        """The line with the bracket that closes a value whose opening bracket stands alone in the first column."""
        close = {"{": "}", "[": "]"}.get(self.lines.text[i].rstrip())
        if close is None:
            return None
        return next(
            (j for j in range(i + 1, len(self.lines.text)) if self.lines.text[j].rstrip() == close), None
        )

    def _value(self, value: Any, first: int, last: int, whole: bool = True) -> list[Record]:
        locate = Locate(
            self.lines.file,
            self.lines.first + first,
            self.lines.first + last if last > first else 0,
            whole=whole,
        )
        return read_value(completed(value, self.context.command), locate, self.context)


def read_value(value: Any, locate: Locate, context: Context) -> list[Record]:
    """The records of a decoded value, by the first value format that makes any of it; none where nobody does."""
    for form in registry().values:
        if form.match(value) and (records := list(form.read(value, locate, context))):
            return records
    return []
