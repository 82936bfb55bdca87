"""What was cut out of a structured output, put back where it stood.

People print three fields of a thousand: ``jq '.items[] | [.metadata.name, .status.podIP] | @tsv'``, a jsonpath template,
custom columns, a few words of a table by awk. Each is a *shape*: which path of the whole output stands where in what
was printed. ``fit`` lays a shape over a printed value and gives the places and values; ``grow`` makes of them the part
of the whole that was shown, so that the reader of the whole reads it. What was not printed stays unsaid.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from deadhop.evidence import lenient_json
from deadhop.evidence.fields import tabbed

#: Keys and indices; None stands for an element of a list, ANYWHERE for any depth.
Path = tuple[str | int | None, ...]
ANYWHERE = -1


class Ref(NamedTuple):
    """The value at a path."""

    path: Path


class Row(NamedTuple):
    """Several values side by side; ``separator`` is None for a JSON array, else they are one text."""

    cells: tuple[Shape, ...]
    separator: str | None = None


class Fields(NamedTuple):
    """A JSON object made of parts."""

    items: tuple[tuple[str, Shape], ...]


class Each(NamedTuple):
    """A list with one shape for every element; ``separator`` where it is printed as one text."""

    item: Shape
    separator: str | None = None


class Text(NamedTuple):
    """A text with values in it."""

    parts: tuple[str | Shape, ...]


class Opaque(NamedTuple):
    """A value that says nothing about where it came from."""


class Length(NamedTuple):
    """How long the list at a path is: zero says that it is empty."""

    path: Path


class Known(NamedTuple):
    """A shape, and the values that a filter before it demanded."""

    shape: Shape
    facts: tuple[tuple[Path, Any], ...]


Shape = Ref | Row | Fields | Each | Text | Opaque | Length | Known
Found = list[tuple[Path, Any]]
_NONE = ("", "null", "<none>", "<no value>", "-")


def _says(path: Path, value: Any) -> bool:
    """Whether a printed value is one. ``-`` stands for none in a column, and for itself in a field of a log line."""
    return value is not None and (value not in _NONE or (value == "-" and len(path) == 1))


def fit(shape: Shape, value: Any) -> list[Found] | None:
    """The places and values of ``value``, one list for every element that it repeats; None where it has another shape."""
    if isinstance(shape, Known):
        inner = fit(shape.shape, value)
        return None if inner is None else [[*found, *shape.facts] for found in inner]
    if isinstance(shape, Opaque):
        return [[]]
    if isinstance(shape, Length):
        return [[(shape.path, [])] if value == 0 else []]
    if isinstance(shape, Ref):
        return [[(shape.path, value)] if _says(shape.path, value) else []]
    if isinstance(shape, Row):
        return _row(shape, value)
    if isinstance(shape, Fields):
        if not isinstance(value, dict) or not value.keys() <= {k for k, _s in shape.items}:
            return None
        return _together([(s, value[k]) for k, s in shape.items if k in value])
    if isinstance(shape, Each):
        if shape.separator is not None and isinstance(value, (str, int)):
            value = str(value)
            value = _sequence(value) or [scalar(v) for v in value.split(shape.separator) if v]
        if not isinstance(value, list):
            return None
        rows = [fit(shape.item, v) for v in value]
        return None if any(r is None for r in rows) else [found for r in rows if r for found in r]
    return _text(shape, value)


def _row(shape: Row, value: Any) -> list[Found] | None:
    if shape.separator is not None:
        if not isinstance(value, str):
            return None
        value = _split(value, shape.separator, len(shape.cells))
        if len(value) == len(shape.cells) + 1 and not value[-1].strip():
            value = value[:-1]
        elif shape.separator == "\t" and 1 < len(value) < len(shape.cells) and value[0].strip():
            value += [""] * (
                len(shape.cells) - len(value)
            )  # the tabs of empty cells at the end, cut off by a paste
    if not isinstance(value, list) or len(value) != len(shape.cells):
        return None
    return _together(list(zip(shape.cells, value, strict=True)))


def _split(text: str, separator: str, wanted: int) -> list[str]:
    if separator == ",":
        return [c.strip('"') for c in text.split(",")]
    if separator == "\t" and "\t" not in text:  # a terminal, or column(1), made spaces of the tabs
        cells = tabbed(text.rstrip())
        return cells if len(cells) == wanted else re.split(r" {2,}", text.strip())
    return text.split(separator) if separator.strip() or separator == "\t" else text.split()


def _together(cells: list[tuple[Shape, Any]]) -> list[Found] | None:
    """One list of the values that stand alone, once for every element of those that repeat."""
    alone: Found = []
    several: list[list[Found]] = []
    for shape, value in cells:
        got = fit(shape, value if isinstance(shape, Each) and shape.separator else scalar(value))
        if got is None:
            if value is None or value in _NONE:
                continue
            return None
        if whole_list(shape):
            alone += [pair for found in got for pair in found]
        elif isinstance(shape, Each) or len(got) > 1:
            several.append(got)
        else:
            alone += got[0] if got else []
    return [[*alone, *found] for found in _zipped(several)] or [alone]


def _zipped(several: list[list[Found]]) -> list[Found]:
    """Columns that repeat: those of one list side by side, element by element, the others one behind the other."""
    made: list[tuple[Path | None, list[Found]]] = []
    for got in several:
        prefixes = {_listed(path) for found in got for path, _value in found}
        prefix = prefixes.pop() if len(prefixes) == 1 else None
        beside = next((rows for p, rows in made if p == prefix and len(rows) == len(got)), None)
        if prefix is None or beside is None:
            made.append((prefix, [list(found) for found in got]))
            continue
        for row, found in zip(beside, got, strict=True):
            row += [f for f in found if f not in row]
    return [row for _prefix, rows in made for row in rows]


def _listed(path: Path) -> Path | None:
    """The list that a path goes through last; None for one that goes through none."""
    at = max((i for i, step in enumerate(path) if step is None), default=-1)
    return path[: at + 1] if at >= 0 else None


def whole_list(shape: Shape) -> bool:
    """Whether a shape is all of one object's list in one text (``join(",")``): it belongs to its row as a whole."""
    if not isinstance(shape, Each) or shape.separator is None or not isinstance(shape.item, Ref):
        return False
    path = shape.item.path
    inner = path[2:] if path[:2] == ("items", None) else path[1:] if path[:1] == (None,) else path
    return inner.count(None) == 1


def scalar(value: Any) -> Any:
    """A printed word as the value that it shows: numbers, booleans and JSON are no texts."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith(("map[", "[map[")):
        made, end = _go(text, 0, 0)
        return made if end == len(text) else text
    if text[:1] in ("{", "[") or text in ("true", "false"):
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return text
    return int(text) if text.isdecimal() and len(text) < 10 else text


def _go(text: str, at: int, depth: int) -> tuple[Any, int]:
    """A value of Go's ``%v``: maps as ``map[k:v k:v]``, lists as ``[v v]``; the index behind it."""
    if depth > 40:
        return "", len(text)
    if text.startswith("map[", at):
        made: dict[str, Any] = {}
        at += 4
        while at < len(text) and text[at] != "]":
            match = re.compile(r"\s*([^\s:\[\]]+):").match(text, at)
            if match is None:
                return made, len(text) + 1
            made[match[1]], at = _go(text, match.end(), depth + 1)
        return made, at + 1
    if text.startswith("[", at):
        rows: list[Any] = []
        at += 1
        while at < len(text) and text[at] != "]":
            if text[at] == " ":
                at += 1
                continue
            if text[at] == "[" or text.startswith("map[", at):
                value, at = _go(text, at, depth + 1)
            else:
                word = re.compile(r"[^\s\[\]]+").match(text, at)
                if word is None:
                    return rows, len(text) + 1
                value, at = word[0], word.end()
            rows.append(
                int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else value
            )
        return rows, at + 1
    # A text may hold spaces: it ends before the next key or the closing bracket.
    match = re.compile(r"[^\[\]]*?(?=\]|\s[^\s:\[\]]+:|$)" if depth else r"[^\[\]]*").match(text, at)
    text_ = match[0] if match else ""
    number = text_.strip()
    return (int(number) if number.isdecimal() and len(number) < 10 else number), at + len(text_)


def _sequence(text: str) -> list[Any]:
    """JSON values one behind the other; empty where the text is none."""
    found: list[Any] = []
    at, text = 0, text.strip()
    while at < len(text) and text[at] in "{[":
        decoded = lenient_json.decode_at(text, at)
        if decoded is None or not decoded[2]:
            return []
        found.append(decoded[0])
        at = decoded[1]
        while at < len(text) and text[at].isspace():
            at += 1
    return found if at >= len(text) else []


def _text(shape: Text, value: Any) -> list[Found] | None:
    if not isinstance(value, str):
        return None
    cells = [p for p in shape.parts if not isinstance(p, str)]
    pattern = "".join("(.*?)" if not isinstance(p, str) else _literal(p) for p in shape.parts)
    match = re.fullmatch(r"\s*" + pattern + r"\s*", value, re.S)
    return _together(list(zip(cells, match.groups(), strict=True))) if match else None


def _literal(text: str) -> str:
    """A literal of a template; blanks may have been made fewer or more."""
    return "".join(r"\s+" if part.isspace() else re.escape(part) for part in re.split(r"(\s+)", text))


def grow(found: Found) -> Any:
    """The smallest value that has the given values at their places; elements of a list come as a list of one, or as
    many as a place in it is named."""
    root: list[Any] = [None]
    times: Counter[Path] = Counter()
    for path, value in found:
        _set(root, 0, path, value, times[path])
        times[path] += None in path
    return root[0]


def _set(holder: Any, key: Any, path: Path, value: Any, nth: int = 0) -> None:
    """``nth`` is the element of the innermost list."""
    last = max((k for k, step in enumerate(path) if step is None), default=-1)
    for k, step in enumerate(path):
        made: Any = {} if isinstance(step, str) else []
        have = holder[key] if isinstance(holder, list) else holder.get(key)
        if not isinstance(have, type(made)):
            holder[key] = have = made
        if isinstance(step, str):
            holder, key = have, step
        else:
            at = nth if k == last else 0
            while len(have) <= at:
                have.append(None)
            holder, key = have, at
    holder[key] = value


def merge(a: Any, b: Any) -> Any:
    """Two parts of one value: mappings key by key, lists one behind the other, else the first that is said."""
    if isinstance(a, dict) and isinstance(b, dict):
        return {k: merge(a[k], b[k]) if k in a and k in b else a.get(k, b.get(k)) for k in (*a, *(k for k in b if k not in a))}  # fmt: skip
    if isinstance(a, list) and isinstance(b, list):
        return a + [x for x in b if x not in a]
    return b if a is None else a


def repeats(shape: Shape) -> bool:
    """Whether a shape is printed once for each element of a list."""
    if isinstance(shape, Known):
        return repeats(shape.shape)
    if isinstance(shape, Ref):
        return None in shape.path
    if isinstance(shape, Row):
        return any(repeats(c) for c in shape.cells if not isinstance(c, Each))
    if isinstance(shape, Fields):
        return any(repeats(c) for _k, c in shape.items if not isinstance(c, Each))
    if isinstance(shape, Text):
        return any(repeats(c) for c in shape.parts if not isinstance(c, (str, Each)))
    return False


def paths(shapes: Iterable[Shape]) -> list[Path]:
    """Every path that the shapes show."""
    found: list[Path] = []
    for shape in shapes:
        if isinstance(shape, Ref):
            found.append(shape.path)
        elif isinstance(shape, Known):
            found += paths([shape.shape])
        elif isinstance(shape, Row):
            found += paths(shape.cells)
        elif isinstance(shape, Fields):
            found += paths([s for _k, s in shape.items])
        elif isinstance(shape, Each):
            found += paths([shape.item])
        elif isinstance(shape, Text):
            found += paths([p for p in shape.parts if not isinstance(p, str)])
    return found
