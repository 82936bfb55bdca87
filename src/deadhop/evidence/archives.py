"""Archives from strangers: zip, tar (plain, gzip, bzip2, xz, zstd) and single compressed files, read in memory.

Nothing is extracted, so a member's path is only a label. Each member and each archive has a budget; a member
that unpacks out of proportion is refused and named (zip bombs), as is a truncated stream.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, cast

from deadhop.evidence import limits
from deadhop.model.record import Problem, Source

_MAGIC = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


class _Zstd:
    """A zstd stream; its library is optional, and its errors become :class:`OSError` as those of the others are."""

    def __init__(self, stream: BinaryIO) -> None:
        try:
            self._library: Any = importlib.import_module("zstandard")
        except ImportError:
            raise OSError("reading zstd needs the package zstandard: pip install 'deadhop[zstd]'") from None
        self._stream = self._library.ZstdDecompressor(max_window_size=1 << 27).stream_reader(stream)

    def read(self, size: int) -> bytes:
        try:
            return bytes(self._stream.read(size))
        except self._library.ZstdError as error:
            raise OSError(str(error)) from None


_OPENERS: dict[str, Callable[[BinaryIO], object]] = {
    "gzip": lambda stream: gzip.GzipFile(fileobj=stream),
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "zstd": _Zstd,
}


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    stream: BinaryIO
    size: int


def kind_of_archive(head: bytes) -> str:
    """``zip``, ``tar``, ``gzip``, ``bzip2``, ``xz``, ``zstd`` or nothing, by the first bytes."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    return "tar" if head[257:262] == b"ustar" else ""


def members(kind: str, name: str, stream: BinaryIO) -> Iterator[Member | Problem]:
    """The members of one archive in order, each unpacked into memory within the budget of ``limits``."""
    try:
        if kind == "zip":
            yield from _zip(name, stream)
        elif kind == "tar":
            yield from _tar(name, stream)
        else:
            yield from _compressed(kind, name, stream)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        zlib.error,
        lzma.LZMAError,
    ) as error:
        yield Problem(source=Source(name), kind="damaged", text=f"damaged {kind} archive: {error}")


def _take(stream: IO[bytes], packed: int, name: str, kind: str) -> tuple[bytes, Problem | None]:
    """Up to the budget of one member from ``stream``; what was cut off is a problem."""
    most = limits.WHOLE if packed <= 0 else min(limits.WHOLE, max(limits.FREE, packed * limits.RATIO))
    parts: list[bytes] = []
    size = 0
    some = getattr(stream, "read1", stream.read)  # read1 gives what is there before it meets the damage
    try:
        while size <= most and (part := some(1 << 16)):
            parts.append(part)
            size += len(part)
    except (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        text = f"the {kind} stream ends early or is damaged after {size} bytes ({error}); what came before is read"
        return b"".join(parts), Problem(source=Source(name), kind="truncated", text=text)
    if size > most:
        text = f"unpacks to more than {most} bytes from {packed} packed; refused as out of proportion"
        return b"", Problem(source=Source(name), kind="hostile", text=text)
    return b"".join(parts), None


def _limit(name: str, passed: str) -> Problem:
    return Problem(source=Source(name), kind="limit", text=f"{passed}; the rest is left out")


def _zip(name: str, stream: BinaryIO) -> Iterator[Member | Problem]:
    source: IO[bytes] = stream if stream.seekable() else io.BytesIO(stream.read(limits.WHOLE))
    budget = limits.UNPACKED
    with zipfile.ZipFile(source) as archive:
        for count, info in enumerate(archive.infolist()):
            label = f"{name}!{info.filename}"
            if count >= limits.MEMBERS:
                yield _limit(name, f"more than {limits.MEMBERS} members")
                return
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                yield Problem(source=Source(label), kind="unread", text="encrypted member")
                continue
            try:
                with archive.open(info) as member:
                    data, problem = _take(member, info.compress_size, label, "zip")
            except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
                yield Problem(source=Source(label), kind="damaged", text=f"damaged zip member: {error}")
                continue
            if problem:
                yield problem
            budget -= len(data)
            if budget < 0:
                yield _limit(name, f"unpacks to more than {limits.UNPACKED} bytes")
                return
            if data:
                yield Member(label, io.BytesIO(data), len(data))


def _tar(name: str, stream: BinaryIO) -> Iterator[Member | Problem]:
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for count, info in enumerate(archive):
            label = f"{name}!{info.name}"
            if count >= limits.MEMBERS:
                yield _limit(name, f"more than {limits.MEMBERS} members")
                return
            if info.isdir():
                continue
            member = archive.extractfile(info) if info.isreg() else None
            if member is None:
                yield Problem(
                    source=Source(label),
                    kind="unread",
                    text="not a regular file in the archive (link or device)",
                )
                continue
            data, problem = _take(member, -1, label, "tar")
            if problem:
                yield problem
            if data:
                yield Member(label, io.BytesIO(data), len(data))


def _compressed(kind: str, name: str, stream: BinaryIO) -> Iterator[Member | Problem]:
    opened = cast("IO[bytes]", _OPENERS[kind](stream))
    packed = -1
    if stream.seekable():
        at = stream.tell()
        packed = stream.seek(0, io.SEEK_END) - at
        stream.seek(at)
    inner = name
    for suffix in (".gz", ".bz2", ".xz", ".tgz", ".zst"):
        inner = inner.removesuffix(suffix)
    data, problem = _take(opened, packed, name, kind)
    if not data and not problem:
        problem = Problem(
            source=Source(name), kind="truncated", text=f"the {kind} stream holds nothing whole"
        )
    if problem:
        yield problem
    if data:
        yield Member(inner + ("!" if inner == name else ""), io.BytesIO(data), len(data))
