"""The one place that decodes YAML: C loader, no tags, few aliases, every document of a stream on its own.

A document that cannot be decoded is reported with its line; the others are still read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from deadhop.evidence import limits

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ALIAS = re.compile(r"(?:^|[\s\[,{:-])\*[A-Za-z0-9_]", re.M)
_ANCHOR = re.compile(r"(?:^|[\s\[,{:-])&[A-Za-z0-9_]", re.M)
_SEPARATOR = re.compile(r"^---(?:[ \t\r].*)?$", re.M)
_TEMPLATE = re.compile(r"\{\{[^{}\n]*\}\}")


class _Plain(_Loader):  # type: ignore[misc]
    """SafeLoader that reads ``=`` and dates as text: a manifest has neither."""


_Plain.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith((":timestamp", ":value"))]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


class YamlProblem(Exception):
    """A document that is not decoded, with the line (0-based, within the text) where that became clear."""

    def __init__(self, line: int, text: str, hostile: bool = False) -> None:
        super().__init__(text)
        self.line = line
        self.hostile = hostile


def split(text: str) -> Iterator[tuple[int, str]]:
    """The documents of a YAML stream as ``(first line, text)``."""
    at = 0
    line = 0
    for match in _SEPARATOR.finditer(text):
        part = text[at : match.start()]
        if part.strip():
            yield line, part
        line += part.count("\n") + 1
        at = match.end() + 1
    if text[at:].strip():
        yield line, text[at:]


def load(text: str) -> Any:
    """Decodes one document. Raises :class:`YamlProblem`.

    Template actions of Helm (``{{ .Values.x }}``) are read as text.
    """
    if len(text) > limits.YAML:
        raise YamlProblem(0, f"a YAML document of more than {limits.YAML} bytes is not decoded", hostile=True)
    if "*" in text and "&" in text and _ANCHOR.search(text) and len(_ALIAS.findall(text)) > limits.ALIASES:
        raise YamlProblem(
            0, f"a YAML document with more than {limits.ALIASES} aliases is refused", hostile=True
        )
    if "{{" in text:
        text = _TEMPLATE.sub(lambda m: '"' + m.group().replace('"', "'") + '"', text)
    try:
        value = yaml.load(text, Loader=_Plain)
    except yaml.constructor.ConstructorError as error:
        line = error.problem_mark.line if error.problem_mark else 0
        raise YamlProblem(line, f"a YAML tag is refused: {error.problem}", hostile=True) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line if error.problem_mark else 0
        raise YamlProblem(line, f"not YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise YamlProblem(0, f"not YAML: {error}".split("\n")[0]) from None
    if "*" in text and "&" in text and _expanded(value, {}) > limits.NODES:
        text_ = f"a YAML document whose aliases expand to more than {limits.NODES} nodes is refused"
        raise YamlProblem(0, text_, hostile=True)
    return value


def _expanded(value: Any, known: dict[int, int]) -> int:
    """How many nodes a value has when every alias is written out; each shared node is counted once and remembered."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) in known:
        return known[id(value)]
    known[id(value)] = limits.NODES + 1  # an alias to itself never ends
    total = 1 + sum(_expanded(v, known) for v in (value.values() if isinstance(value, dict) else value))
    known[id(value)] = total
    return total
