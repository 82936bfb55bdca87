"""The three shapes of a format: lines of text, a decoded value (JSON or YAML), bytes.

A format is a module in ``formats/`` with one constant ``FORMAT``. Detection looks at content: a file's name is
never needed, a command line that was typed before the output only helps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from deadhop.model.observed.shell import CommandRun
from deadhop.model.record import Record, Source


@dataclass(slots=True)
class Context:
    """What the lines before tell about the lines to come. ``host`` and ``where`` follow prompts and ``nsenter``."""

    file: str
    command: CommandRun | None = None
    where: str = ""
    year: int | None = None
    label: str = ""

    def ran(self, *programs: str) -> bool:
        """Whether the last command line ran one of ``programs``."""
        return self.command is not None and self.command.program in programs


@dataclass(slots=True)
class Lines:
    """A text document as lines; ``first`` is the number of ``text[0]`` in the file."""

    file: str
    text: list[str]
    first: int = 1

    def source(self, i: int, end: int | None = None) -> Source:
        """The source of line index ``i`` (up to index ``end``, inclusive)."""
        last = 0 if end is None or end <= i else self.first + end
        return Source(self.file, self.first + i, last)

    def __len__(self) -> int:
        return len(self.text)


#: ``read(lines, i, context)`` gives the index after the last line it consumed and the records; the same index
#: means "not mine".
LineReader = Callable[[Lines, int, Context], tuple[int, list[Record]]]


@dataclass(frozen=True, slots=True)
class LineFormat:
    """Output that is recognised line by line. ``start`` is a cheap test of the first line."""

    name: str
    start: re.Pattern[str]
    read: LineReader
    priority: int = 50


@dataclass(frozen=True, slots=True)
class ValueFormat:
    """A decoded JSON or YAML document. ``read`` yields records; ``locate`` gives the source of a path in it."""

    name: str
    match: Callable[[Any], bool]
    read: Callable[[Any, Locate, Context], Iterable[Record]]
    priority: int = 50


@dataclass(frozen=True, slots=True)
class BinaryFormat:
    """A binary file, recognised by its first bytes."""

    name: str
    magic: tuple[bytes, ...]
    read: Callable[[bytes, str], Iterator[Record]]


@dataclass(slots=True)
class Locate:
    """Sources for places inside a decoded value: the line where the value begins in its file, and a path in it.

    Not ``whole``: the value was cut off, and what it lacks proves nothing.
    """

    file: str
    line: int = 0
    end: int = 0
    prefix: str = ""
    key_lines: dict[str, int] = field(default_factory=dict)
    whole: bool = True

    def __call__(self, path: str = "") -> Source:
        joined = "/".join(p for p in (self.prefix, path) if p)
        if self.line:
            return Source(self.file, self.line, self.end)
        return Source(self.file, 0, 0, joined)

    def inside(self, path: str) -> Locate:
        return Locate(self.file, self.line, self.end, "/".join(p for p in (self.prefix, path) if p))


Format = LineFormat | ValueFormat | BinaryFormat
