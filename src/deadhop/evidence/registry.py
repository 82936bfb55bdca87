"""Finds the formats: every module of ``formats/`` (and one folder below) with a constant ``FORMAT``."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache

from deadhop.evidence import formats as package
from deadhop.evidence.format import BinaryFormat, Format, LineFormat, ValueFormat


@dataclass(frozen=True)
class Registry:
    """The formats by shape, each in order of priority (lower first) and then of name."""

    lines: tuple[LineFormat, ...]
    values: tuple[ValueFormat, ...]
    binaries: tuple[BinaryFormat, ...]


@cache
def registry() -> Registry:
    """All formats. Two formats of one name are an error of the house and raise ``ValueError``."""
    found: dict[str, Format] = {}
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        module = importlib.import_module(info.name)
        for value in (getattr(module, "FORMAT", None), *getattr(module, "FORMATS", ())):
            if value is None:
                continue
            if value.name in found:
                raise ValueError(f"two formats are called {value.name!r}")
            found[value.name] = value
    return Registry(
        tuple(
            sorted(
                (f for f in found.values() if isinstance(f, LineFormat)), key=lambda f: (f.priority, f.name)
            )
        ),
        tuple(
            sorted(
                (f for f in found.values() if isinstance(f, ValueFormat)), key=lambda f: (f.priority, f.name)
            )
        ),
        tuple(f for f in found.values() if isinstance(f, BinaryFormat)),
    )
