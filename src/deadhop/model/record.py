"""The atoms of evidence: where a fact stands, the fact, and what could not be read.

Every typed fact that a reader yields is a subclass of :class:`Record`. Records are frozen: a snapshot, a
trace or a finding may hold on to them, and a finding cites them by their source.
"""

from __future__ import annotations

import msgspec


class Source(msgspec.Struct, frozen=True, order=True):
    """The place of a fact in the evidence.

    ``file`` is the name as the user gave it, with archive members behind ``!``. ``line`` counts from 1; 0 means
    the fact has no line (binary or JSON evidence), then ``path`` says where (``#items/3/spec``, ``#packet 17``).
    ``end`` is the last line of a fact that spans several, 0 where it spans one.
    """

    file: str
    line: int = 0
    end: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"{self.file}#{self.path.lstrip('#')}"
        return f"{self.file}:{self.line}" if self.line else self.file


NOWHERE = Source("(model)")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One typed fact read from evidence.

    ``time`` is in seconds since the Unix epoch where the evidence says it. ``where`` names the place that the
    fact was collected in (a host, a ``pid 4711`` or ``netns NAME`` entered before, a ``namespace/pod``), empty
    where the evidence does not say.
    """

    source: Source = NOWHERE
    time: float | None = None
    where: str = ""


class Problem(Record, frozen=True, kw_only=True):
    """A place that could not be read, or was read with loss. Never an exception, never silence.

    ``kind``: ``unread`` (no reader knows these lines), ``damaged`` (a reader gave up), ``truncated``, ``limit``
    (a size or count limit was reached), ``hostile`` (refused for safety), ``lost`` (the tool that wrote the
    evidence says that it lost events), ``internal`` (our own code failed on it).
    """

    kind: str
    text: str
