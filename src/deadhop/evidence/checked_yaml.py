"""YAML of a declared shape: text to a msgspec struct, every error with the line of the value that is wrong.

The value is decoded by the one YAML decoder and converted by msgspec; where that refuses something, the text is composed
once more for the line of the path that msgspec names.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from deadhop.evidence import safe_yaml

T = TypeVar("T")
_PART = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>\d+|\.\.\.)\]")


class ShapeError(ValueError):
    """``FILE:LINE: what is wrong``, one line per error."""


def loads(text: str, file: str, type: type[T]) -> T:
    """The struct of ``text``. Raises :class:`ShapeError`, whose lines name ``file``."""
    try:
        value = safe_yaml.load(text)
    except safe_yaml.YamlProblem as problem:
        raise ShapeError(f"{file}:{problem.line + 1}: {problem}") from None
    try:
        return msgspec.convert(value, type, dec_hook=_path)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        unknown = re.search(r"unknown field `([^`]+)`", message)
        place = path.rstrip("`").removeprefix("$")
        if unknown:
            place += "." + unknown[1]
        said = f"{place.lstrip('.')}: {message}" if place else message
        raise ShapeError(f"{file}:{line_of(text, place)}: {said}") from None


def _path(wanted: type[Any], value: Any) -> Any:
    if wanted is Path and isinstance(value, str) and value and "\0" not in value:
        return Path(value)
    raise ValueError("Expected `str`, a path")


def line_of(text: str, place: str) -> int:
    """The 1-based line of the deepest part of ``place`` (``.links[0].mtu``) that the text has."""
    try:
        node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return 1
    line = 1
    for part in _PART.finditer(place):
        found = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if part["key"] and key.value == part["key"]:
                    found, line = value, key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and part["index"] and part["index"].isdigit():
            index = int(part["index"])
            if index < len(node.value):
                found = node.value[index]
                line = found.start_mark.line + 1
        if found is None:
            break
        node = found
    return line
