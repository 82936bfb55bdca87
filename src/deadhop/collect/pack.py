"""A folder of evidence as one archive, written beside its name and moved there whole."""

from __future__ import annotations

import importlib
import os
import tarfile
from pathlib import Path
from typing import Any

ENDINGS = (".tar.gz", ".tgz", ".tar.zst")


class CannotPack(Exception):
    """The archive cannot be written; the message says why."""


def check(target: Path) -> None:
    """Raises :class:`CannotPack` where an archive of this name could not be written at the end."""
    if target.name.endswith(".tar.zst"):
        _zstd()
    if target.is_dir():
        raise CannotPack(f"{target} is a folder")
    if not os.access(target.absolute().parent, os.W_OK):
        raise CannotPack(f"{target.absolute().parent} is not a folder that can be written to")


def pack(folder: Path, target: Path) -> None:
    """All of ``folder`` under the archive's base name. Raises :class:`CannotPack`."""
    base = target.name
    for ending in ENDINGS:
        base = base.removesuffix(ending)
    half = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if target.name.endswith(".tar.zst"):
            with (
                half.open("wb") as out,
                _zstd().ZstdCompressor().stream_writer(out) as stream,
                tarfile.open(fileobj=stream, mode="w|") as archive,
            ):
                archive.add(folder, arcname=base)
        else:
            with tarfile.open(half, "w:gz") as archive:
                archive.add(folder, arcname=base)
        os.chmod(half, 0o600)
        half.replace(target)
    except OSError as error:
        raise CannotPack(f"{target}: {error.strerror or error}") from None
    finally:
        half.unlink(missing_ok=True)


def _zstd() -> Any:
    try:
        return importlib.import_module("zstandard")
    except ImportError:
        raise CannotPack(
            "a .tar.zst needs the package zstandard: pip install 'deadhop[zstd]'; .tar.gz needs nothing"
        ) from None
