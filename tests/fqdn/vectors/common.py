"""What every family of areas shares: comparing, and the selectors and rules of a vector."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from deadhop.fqdn.options import Version
from deadhop.fqdn.selectors import FQDNSelector

Vector = dict[str, Any]
Area = Callable[[Vector, Version, dict[str, Vector]], None]


class UnknownOperation(Exception):
    """The vector asks for something this runner does not know."""


def same(got: Any, wanted: Any, what: str = "") -> None:
    assert got == wanted, f"{what}: got {got!r}, wanted {wanted!r}"


def same_set(got: Iterable[Any], wanted: Iterable[Any], what: str = "") -> None:
    same(sorted(got), sorted(wanted), what)


def selector_of(item: dict[str, str]) -> FQDNSelector:
    unknown = set(item) - {"matchName", "matchPattern"}
    if unknown:
        raise UnknownOperation(f"selector fields {unknown}")
    return FQDNSelector(item.get("matchName", ""), item.get("matchPattern", ""))


def matcher(regex: str | None) -> Callable[[str], bool] | None:
    if regex is None:
        return None
    compiled = re.compile(regex.replace("$", r"\Z"))
    return lambda name: compiled.search(name) is not None


def rules_of(items: list[dict[str, str]] | None) -> tuple[FQDNSelector, ...] | None:
    return None if items is None else tuple(selector_of(item) for item in items)
