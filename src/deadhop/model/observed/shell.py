"""Terminal sessions: which command was run where."""

from __future__ import annotations

from deadhop.model.record import Record


class CommandRun(Record, frozen=True, kw_only=True):
    """A command line seen in a transcript.

    ``argv`` is the effective command, with ``sudo``, ``kubectl exec … --`` and pipes taken off; ``line`` is what
    was typed. ``filters`` are the commands behind pipes. A command quoted in a sentence is ``quoted`` and proves
    nothing but intent.
    """

    line: str
    argv: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    quoted: bool = False

    @property
    def program(self) -> str:
        return self.argv[0].rsplit("/", 1)[-1] if self.argv else ""


class Remark(Record, frozen=True, kw_only=True):
    """A comment line that labels what follows (``# before``, ``--- working build ---``)."""

    text: str


class Attempt(Record, frozen=True, kw_only=True):
    """A person's note of what a command did, one line: ``alpine:3.16 wget example.org`` under ``# FAIL``, or
    ``curl podip -> timeout``. ``image`` is the container image it ran in, empty where not said; ``ok`` the outcome."""

    command: str
    ok: bool
    image: str = ""
    target: str = ""
    text: str = ""

    @property
    def program(self) -> str:
        return self.command.split(" ", 1)[0].rsplit("/", 1)[-1]


class Elapsed(Record, frozen=True, kw_only=True):
    """How long a command or a phase of it took: ``real 0m5.02s`` of time(1), ``time_namelookup`` of curl."""

    what: str
    seconds: float


class LineCount(Record, frozen=True, kw_only=True):
    """The number that ``… | grep -c PATTERN`` or ``… | wc -l`` printed. ``pattern`` is empty for ``wc``; ``unit`` is
    ``bytes`` for ``wc -c``, with the file's ``name`` where it counts files. ``command`` is the line that was typed."""

    program: str
    count: int
    pattern: str = ""
    unit: str = "lines"
    command: str = ""
    name: str = ""
