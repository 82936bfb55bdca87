"""Membership: right-hand sides, anonymous and named sets, maps, verdict maps (nft_lookup, nft_set_*)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from deadhop.hops.linux.netfilter.values import Unsupported, Vague, constant, flags
from deadhop.model import ip

#: What :meth:`Index.find` returns for a key that is not there.
MISSING = object()

Interval = tuple[int, int]


def interval(item: Any, kind: str) -> Interval | None:
    """The bounds of a JSON prefix or range, None for other values."""
    if not isinstance(item, dict):
        return None
    if "prefix" in item:
        version = 4 if kind == "ipv4_addr" else 6
        length = int(item["prefix"]["len"])
        low = constant(item["prefix"]["addr"], kind)
        if kind not in ("ipv4_addr", "ipv6_addr"):
            raise Unsupported(f"prefix of a {kind}")
        low &= ip.mask(version, length)
        return low, low | ((1 << (ip.WIDTH[version] - length)) - 1)
    if "range" in item:
        low, high = (constant(end, kind) for end in item["range"])
        return low, high
    return None


class Index:
    """Keys with values. Scalars go to a dict or sorted intervals, concatenations with intervals to a list."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.kinds = kinds
        self.exact: dict[Any, Any] = {}
        self.starts: list[int] = []
        self.spans: list[tuple[int, int, Any]] = []
        self.composite: list[tuple[tuple[Any, ...], Any]] = []
        self.wildcards: list[tuple[str, Any]] = []
        self.fallback: Any = MISSING

    def add(self, key: Any, value: Any) -> None:
        key = _element(key)
        if key == "*":
            self.fallback = value
        elif len(self.kinds) > 1:
            self._add_composite(key, value)
        else:
            self._add_scalar(key, value)

    def _add_scalar(self, key: Any, value: Any) -> None:
        kind = self.kinds[0]
        span = interval(key, kind)
        if span is not None:
            self.spans.append((*span, value))
        elif isinstance(key, list):
            self.exact[flags(key, kind)] = value
        elif kind == "ifname" and isinstance(key, str) and key.endswith("*"):
            self.wildcards.append((key[:-1], value))
        else:
            self.exact[constant(key, kind)] = value

    def _add_composite(self, key: Any, value: Any) -> None:
        if not isinstance(key, dict) or not isinstance(key.get("concat"), list):
            raise Unsupported(f"set element {str(key)[:80]}")
        parts = key["concat"]
        if len(parts) != len(self.kinds):
            raise Unsupported("concatenation of another length")
        tests = tuple(
            span if (span := interval(part, kind)) is not None else constant(part, kind)
            for part, kind in zip(parts, self.kinds, strict=True)
        )
        if any(isinstance(test, tuple) for test in tests):
            self.composite.append((tests, value))
        else:
            self.exact[tests] = value

    def seal(self) -> Index:
        self.spans.sort(key=lambda span: span[0])
        self.starts = [span[0] for span in self.spans]
        return self

    def find(self, key: Any) -> Any:
        """The value of ``key`` or :data:`MISSING`."""
        found = self.exact.get(key, MISSING)
        if found is not MISSING:
            return found
        if self.starts:
            place = bisect_right(self.starts, key) - 1
            if place >= 0 and key <= self.spans[place][1]:
                return self.spans[place][2]
        for tests, value in self.composite:
            if all(_fits(test, part) for test, part in zip(tests, key, strict=True)):
                return value
        for start, value in self.wildcards:
            if key.startswith(start):
                return value
        return self.fallback

    def values(self) -> list[Any]:
        """All values, for a key that nobody knows."""
        found = [*self.exact.values(), *(s[2] for s in self.spans), *(c[1] for c in self.composite)]
        found += [w[1] for w in self.wildcards]
        return found + ([] if self.fallback is MISSING else [self.fallback])


def _fits(test: Any, part: Any) -> bool:
    return bool(test[0] <= part <= test[1]) if isinstance(test, tuple) else bool(test == part)


def _element(item: Any) -> Any:
    """An element without its timeout, counter and comment."""
    if isinstance(item, dict) and "elem" in item:
        body = item["elem"]
        return body.get("val") if isinstance(body, dict) else body
    return item


def index_of(items: list[Any], kinds: tuple[str, ...]) -> Index:
    """The index of a set's elements; every value is True."""
    index = Index(kinds)
    for item in items:
        index.add(item, True)
    return index.seal()


def map_of(items: list[Any], kinds: tuple[str, ...], make: Callable[[Any], Any]) -> Index:
    """The index of a map's ``[key, value]`` pairs; ``make`` compiles a value."""
    index = Index(kinds)
    for item in items:
        if not isinstance(item, (list, tuple)) or len(item) != 2:
            raise Unsupported(f"map element {str(item)[:80]}")
        index.add(item[0], make(item[1]))
    return index.seal()


def vague_in(key: Any) -> Vague | None:
    """The part of a key that nobody knows, if any."""
    if isinstance(key, Vague):
        return key
    if isinstance(key, tuple):
        return next((part for part in key if isinstance(part, Vague)), None)
    return None
