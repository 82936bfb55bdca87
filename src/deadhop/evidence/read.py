"""Reads everything below the given paths into records."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import msgspec

from deadhop.evidence import limits, namespace
from deadhop.evidence.decoration import undecorated
from deadhop.evidence.documents import Document, NoEvidence, documents
from deadhop.evidence.format import Context, Lines, Locate
from deadhop.evidence.reflow import better
from deadhop.evidence.registry import registry
from deadhop.evidence.scan import read_value, scan
from deadhop.model.record import Problem, Record, Source

__all__ = ["Evidence", "NoEvidence", "read", "read_bytes"]


@dataclass(slots=True)
class Evidence:
    """The records of one reading, in the order of documents and lines, the problems, and what was opened."""

    records: list[Record] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    bytes: int = 0
    text: dict[str, list[str]] = field(default_factory=dict)

    def quote(self, source: Source) -> str:
        """The line that a source names, as it stands in the evidence; empty where it was not kept."""
        rows = self.text.get(source.file)
        return rows[source.line - 1].strip() if rows and 0 < source.line <= len(rows) else ""

    def add(self, record: Record) -> None:
        if isinstance(record, Problem):
            self.problems.append(record)
        else:
            self.records.append(record)


def read(paths: list[str], progress: Callable[[str], None] | None = None) -> Evidence:
    """All evidence below ``paths`` (files, folders, archives, ``-``).

    Raises :class:`NoEvidence` where a path does not exist or nothing at all was found.
    """
    evidence = Evidence()
    for document in documents(paths):
        if isinstance(document, Problem):
            evidence.problems.append(document)
            continue
        if progress:
            progress(document.name)
        evidence.documents.append(document.name)
        _read_document(document, evidence)
    if not evidence.documents and not evidence.problems:
        raise NoEvidence(f"{', '.join(paths)}: nothing to read in there")
    return evidence


def read_bytes(name: str, data: bytes) -> Evidence:
    """The records of one document in memory."""
    evidence = Evidence(documents=[name])
    _read_document(Document(name, io.BytesIO(data), len(data)), evidence)
    return evidence


def _read_document(document: Document, evidence: Evidence) -> None:
    first = document.stream.read(limits.CHUNK)
    evidence.bytes += len(first)
    seen: Counter[type] = Counter()
    left = _of_namespace(document, first, evidence)
    if left is None:
        return
    first = left
    if not first:
        evidence.add(Problem(source=Source(document.name), kind="unread", text="empty file"))
        return

    def keep(records: Iterator[Record]) -> None:
        for record in records:
            kind = type(record)
            seen[kind] += 1
            if seen[kind] <= limits.RECORDS:
                evidence.add(record)

    for form in registry().binaries:
        if first.startswith(form.magic):
            keep(form.read(_whole(document, first, evidence), document.name))
            break
    else:
        head = first[:4096]
        if _is_text(head):
            keep(_text(document, first, evidence))
        else:
            shown = head[:8].hex(" ")
            text = f"binary data that no reader knows (it begins with {shown})"
            evidence.add(Problem(source=Source(document.name), kind="unread", text=text))
    for kind, count in seen.items():
        if count > limits.RECORDS:
            text = f"{count - limits.RECORDS} more {kind.__name__} records were left out (limit {limits.RECORDS})"
            evidence.add(Problem(source=Source(document.name), kind="limit", text=text))


def _of_namespace(document: Document, first: bytes, evidence: Evidence) -> bytes | None:
    """Reads a file of a namespace's folder (``NAME/ip-route6.json``) as what its name says, its records in ``host
    NAME``, as a prompt of that host would put them. None once it is read, else the bytes to read otherwise."""
    folder, _, base = document.name.replace("!", "/").rpartition("/")
    name = folder.rpartition("/")[2]
    if base not in namespace.READERS or not name:
        return first
    whole = _whole(document, first, evidence)
    records = list(namespace.READERS[base](whole, document.name))
    if not any(isinstance(record, Problem) for record in records):
        if base.endswith(".txt") and len(whole) <= limits.QUOTABLE:
            evidence.text[document.name] = whole.decode("utf-8", "replace").split("\n")
        for record in records:
            evidence.add(msgspec.structs.replace(record, where=f"host {name}"))
        return None
    return whole


def _is_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    control = sum(1 for b in head if b < 9 or 13 < b < 27)
    return b"\0" not in head and control * 50 <= len(head)


def _whole(document: Document, first: bytes, evidence: Evidence) -> bytes:
    if len(first) < limits.CHUNK:
        return first
    rest = document.stream.read(limits.WHOLE - len(first))
    evidence.bytes += len(rest)
    if document.stream.read(1):
        text = f"only the first {limits.WHOLE} bytes are read"
        evidence.add(Problem(source=Source(document.name), kind="limit", text=text))
    return first + rest


def _text(document: Document, first: bytes, evidence: Evidence) -> Iterator[Record]:
    """The records of a text, decoded in pieces that end at a line's end."""
    encoding = "utf-16" if first.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    if encoding == "utf-8-sig" and first.lstrip()[:1] in (b"{", b"[") and _one_value(first):
        data = _whole(document, first, evidence)
        try:
            value = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            first = data
        else:
            records = read_value(value, Locate(document.name), Context(document.name))
            if records:
                yield from records
                return
            first = data
    context = Context(document.name)
    line_number = 1
    rest = first
    skipping = False
    while rest:
        more = document.stream.read(limits.CHUNK)
        evidence.bytes += len(more)
        piece, rest, skipping, problem = _cut(document.name, rest, more, line_number, skipping)
        if problem:
            yield problem
        if piece:
            text = piece.decode(encoding, errors="replace").replace("\r\n", "\n").replace("\r", "\n")
            rows = text.removesuffix("\n").split("\n")
            for i, row in enumerate(rows):
                if len(row) > limits.LINE:
                    rows[i] = row[: limits.LINE]
                    note = f"a line of {len(row)} characters: only the first {limits.LINE} are read"
                    yield Problem(source=Source(document.name, line_number + i), kind="limit", text=note)
            if line_number == 1 and len(piece) <= limits.QUOTABLE:
                evidence.text[document.name] = rows
            bare = undecorated(rows)
            if line_number == 1 and not rest:
                yield from better(bare, partial(_scanned, document.name))
            else:
                yield from scan(Lines(document.name, bare, line_number), context)
            line_number += len(rows)


def _scanned(name: str, rows: list[str]) -> Iterator[Record]:
    return scan(Lines(name, rows), Context(name))


def _one_value(head: bytes) -> bool:
    """Whether the text is one JSON value and not one per line."""
    first_line, _, rest = head.partition(b"\n")
    if not rest.strip():
        return True
    try:
        msgspec.json.decode(first_line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True
    return False


def _cut(
    name: str, data: bytes, more: bytes, line: int, skipping: bool
) -> tuple[bytes, bytes, bool, Problem | None]:
    """Splits ``data`` behind its last line end; a line longer than a whole piece is skipped to its end."""
    if skipping:
        at = data.find(b"\n")
        if at < 0:
            return b"", more, bool(more), None
        data = data[at + 1 :]
    if not more:
        return data, b"", False, None
    at = data.rfind(b"\n")
    if at >= 0:
        return data[: at + 1], data[at + 1 :] + more, False, None
    text = (
        f"a line of more than {len(data)} characters: its first {limits.LINE} are read, the rest is skipped"
    )
    problem = Problem(source=Source(name, line), kind="limit", text=text)
    return data[: limits.LINE], more, True, problem
