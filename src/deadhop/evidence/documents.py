"""Paths to documents: folders are walked, archives are read in place, nothing is extracted to disk."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from deadhop.evidence import limits
from deadhop.evidence.archives import kind_of_archive, members
from deadhop.model.record import Problem, Source


@dataclass(frozen=True, slots=True)
class Document:
    """A named stream of bytes. ``open`` gives a fresh stream; ``size`` is -1 where it is not known."""

    name: str
    stream: BinaryIO
    size: int = -1


class NoEvidence(Exception):
    """The paths given hold nothing to read."""


def documents(paths: list[str]) -> Iterator[Document | Problem]:
    """Every document below ``paths``, in a stable order. ``-`` is standard input.

    Raises :class:`NoEvidence` where a path does not exist. Streams are closed when the next document is asked for.
    """
    for path in paths:
        if path == "-":
            yield from _unpack(Document("stdin", sys.stdin.buffer), 0)
            continue
        if not os.path.lexists(path):
            raise NoEvidence(f"{path}: no such file or folder")
        yield from _below(Path(path))


def _below(path: Path) -> Iterator[Document | Problem]:
    if path.is_dir():
        count = 0
        for folder, folders, files in os.walk(path, followlinks=False):
            folders[:] = sorted(f for f in folders if f not in (".git",))
            for name in sorted(files):
                count += 1
                if count > limits.FILES:
                    yield Problem(
                        source=Source(str(path)),
                        kind="limit",
                        text=f"more than {limits.FILES} files; the rest is left out",
                    )
                    return
                yield from _file(Path(folder) / name)
        return
    yield from _file(path)


def _file(path: Path) -> Iterator[Document | Problem]:
    try:
        if not path.is_file():
            yield Problem(source=Source(str(path)), kind="unread", text="not a regular file")
            return
        with path.open("rb") as stream:
            yield from _unpack(Document(str(path), stream, path.stat().st_size), 0)
    except OSError as error:
        yield Problem(source=Source(str(path)), kind="unread", text=error.strerror or str(error))


def _unpack(document: Document, depth: int) -> Iterator[Document | Problem]:
    stream = document.stream if document.stream.seekable() else io.BufferedReader(document.stream)  # type: ignore[type-var]
    head = stream.peek(512)[:512] if isinstance(stream, io.BufferedReader) else _head(stream)
    kind = kind_of_archive(head)
    if not kind:
        yield Document(document.name, stream, document.size)
        return
    if depth >= limits.DEPTH:
        yield Problem(
            source=Source(document.name),
            kind="limit",
            text=f"archives nested more than {limits.DEPTH} deep are not opened",
        )
        return
    for member in members(kind, document.name, stream):
        if isinstance(member, Problem):
            yield member
        else:
            yield from _unpack(Document(member.name, member.stream, member.size), depth + 1)


def _head(stream: BinaryIO) -> bytes:
    at = stream.tell()
    head = stream.read(512)
    stream.seek(at)
    return head
