"""Chosen fields of objects: what a jsonpath, custom columns or a jq filter asked for, put back at their places.

A template is a list of literal texts and paths; one line of output gives the paths' values, and with them an object
that holds no more than was printed (kubernetes.io/docs/reference/kubectl/jsonpath, jq(1)).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

#: Steps are names, numbers, and ``*`` for every item of a list.
Path = tuple[str | int, ...]
_STEP = re.compile(r"\.?([A-Za-z_](?:[\w-]|\\\.|/)*)|\[(\d+|\*)\]|\[?['\"]([^'\"]+)['\"]\]?|\.\"([^\"]+)\"")
_ROOTS = ("metadata", "spec", "status", "data", "subsets", "endpoints", "ports", "items", "webhooks", "rules")
_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\r": ""}


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """``parts`` alternate freely between texts and paths; ``each`` where every line is an object of a list."""

    parts: tuple[str | Path, ...]
    each: bool = False

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(p for p in self.parts if isinstance(p, tuple))

    def values(self, line: str) -> list[str] | None:
        """The paths' values on a line of output, or None where the line was not made by the template."""
        shape = ""
        last = max((k for k, p in enumerate(self.parts) if isinstance(p, tuple)), default=-1)
        for k, part in enumerate(self.parts):
            if isinstance(part, tuple):
                shape += "(.*)" if k == last else "(.*?)"
            elif part.strip():
                shape += r"\s*" * part[:1].isspace() + re.escape(part.strip()) + r"\s*" * part[-1:].isspace()
            elif part.strip("\n"):
                shape += r"\s+"
        # One blank where there are many: the pattern then has one place to look for each separator.
        line = re.sub(r"\s+", " ", line.strip())
        match = re.fullmatch(rf"\s*{shape}\s*", line) if len(line) < 4000 and len(self.paths) <= 12 else None
        return [v.strip() for v in match.groups()] if match else None


def path(text: str) -> Path | None:
    """A plain path (``.spec.ports[0].port``, ``.metadata.annotations['a/b']``) as its steps; None for anything else."""
    text = text.strip()
    at, steps = 0, []
    if not text.startswith((".", "[")):
        text = "." + text
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None or match.end() == at:
            return None
        name = match[1] or match[3] or match[4]
        steps.append(name.replace("\\.", ".") if name else match[2] if match[2] == "*" else int(match[2]))
        at = match.end()
    if steps[:2] == ["items", 0]:
        steps = steps[2:]
    if steps[:2] == ["items", "*"]:
        return None  # values of several objects on one line
    return tuple(steps) if steps and steps[0] in (*_ROOTS, "kind", "apiVersion") else None


def jsonpath(text: str) -> Template | None:
    """The template of ``-o jsonpath=``; None where it has parts that do not say which value stands where."""
    text = text.strip().strip("'\"").replace('\\"', '"')
    each = False
    if body := re.fullmatch(r"\{range \.?items\[\*\]\}(?P<body>.*?)\{end\}\s*(?:\{\"\\n\"\})?", text, re.S):
        text, each = body["body"], True
    if "{" not in text:
        text = "{" + text + "}"
    parts: list[str | Path] = []
    for literal, inner in re.findall(r"([^{}]+)|\{([^{}]*)\}", text):
        if literal:
            parts.append(_unescape(literal))
        elif inner[:1] in "\"'":
            parts.append(_unescape(inner[1:-1]))
        else:
            found = path(inner.removeprefix("@"))
            if found is None:
                return None
            parts.append(found)
    return Template(parts=tuple(parts), each=each) if any(isinstance(p, tuple) for p in parts) else None


def custom_columns(text: str) -> list[tuple[str, Path | None]]:
    """The headings of ``-o custom-columns=`` and their paths."""
    found = []
    for pair in re.split(r",(?=[\w.-]+:)", text.strip().strip("'\"")):
        heading, _, where = pair.partition(":")
        found.append((heading.strip(), path(where.strip("{}"))))
    return found


def jq(text: str) -> Template | None:
    """A jq filter that picks fields: ``.spec``, ``.items[] | [.a, .b] | @tsv``, ``"\\(.a) \\(.b)"``."""
    text = text.strip()
    each = False
    if body := re.match(r"\.items\[\]\s*\|\s*(?=\S)|\.items\[\](?=\.)", text):
        text, each = text[body.end() :].strip(), True
    if row := re.fullmatch(
        r"\[(?P<cells>[^\[\]]*(?:\[\d+\][^\[\]]*)*)\]\s*\|\s*(?:@tsv|@csv|join\(.*\))", text
    ):
        cells = [path(c) for c in row["cells"].split(",")]
        parts: list[str | Path] = []
        for cell in cells:
            if cell is None:
                return None
            parts += [" ", cell] if parts else [cell]
        return Template(parts=tuple(parts), each=each)
    if quoted := re.fullmatch(r"\"(?P<text>.*)\"", text):
        parts = []
        for literal, inner in re.findall(r"((?:(?!\\\().)+)|\\\(([^()]*)\)", quoted["text"]):
            found = path(inner) if inner else None
            if inner and found is None:
                return None
            parts.append(found if found is not None else _unescape(literal))
        return Template(parts=tuple(parts), each=each) if any(isinstance(p, tuple) for p in parts) else None
    found = path(text.partition(",")[0].partition("|")[0])
    return Template(parts=(found,), each=each) if found else None


def _unescape(text: str) -> str:
    for escaped, plain in _ESCAPES.items():
        text = text.replace(escaped, plain)
    return text


def build(pairs: Iterable[tuple[Path, Any]]) -> dict[str, Any]:
    """An object with the values at their paths. Values that cannot stand beside each other: the first stays."""
    root: dict[str, Any] = {}
    for steps, value in pairs:
        if "*" not in steps:
            _put(root, tuple(0 if isinstance(s, int) else s for s in steps), value)
            continue
        # Values of a list's items stand side by side; of lists in lists the inner one is meant.
        last = max(k for k, step in enumerate(steps) if step == "*")
        head = tuple(0 if step == "*" or isinstance(step, int) else step for step in steps[:last])
        rows = value if isinstance(value, list) else [scalar(v) for v in re.split(r"[,\s]+", str(value)) if v]
        for number, row in enumerate(rows[:200]):
            _put(root, (*head, number, *(0 if isinstance(s, int) else s for s in steps[last + 1 :])), row)
    return root


def _put(root: dict[str, Any], steps: Path, value: Any) -> None:
    """Puts a value at its place. What other items of a list hold is not known: a numbered item stands alone."""
    node: Any = root
    for k, step in enumerate(steps):
        fresh: Any = value if k + 1 == len(steps) else ([] if isinstance(steps[k + 1], int) else {})
        if isinstance(step, int):
            if not isinstance(node, list) or step > len(node):
                return
            if step == len(node):
                node.append(fresh)
            node = node[step]
        else:
            if not isinstance(node, dict):
                return
            node = node.setdefault(step, fresh)


def scalar(text: str) -> Any:
    """A printed value: JSON, Go's ``map[…]``, a number, or the text itself. ``<none>`` is None."""
    text = text.strip()
    if text in ("<none>", "<no value>", "null", ""):
        return None
    if text[0] in '{["' or text in ("true", "false"):
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            pass
    if text.startswith(("map[", "[map[")):
        found, end = _go(text, 0, 0)
        return found if end == len(text) else text
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
