"""Chosen fields that ``kubectl get`` printed: jsonpath, custom columns, ``-o json`` through a jq filter.

One object without a name of its own takes that of the command. A range gives an object for every line.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from typing import Any

from deadhop.evidence import projection, prompt
from deadhop.evidence.format import Context, LineFormat, Lines, Locate, ValueFormat
from deadhop.evidence.formats.kube_objects import FORMAT as OBJECTS
from deadhop.evidence.formats.kubectl_table import asked_kind, asked_namespace
from deadhop.model.record import Record

_VALUE = re.compile(r"^\s*\S.{0,4000}$")
#: jq and yq without a filter of their own, and other programs that only change the layout.
_LAYOUT = re.compile(
    r"^(?:jq(?:\s+-[cMCSr]+)*(?:\s+'?\.'?)?|yq(?:\s+-\w+)*(?:\s+'?\.'?)?|python3? -m json\.tool|fold\b.*|cat)$"
)
_JQ = re.compile(r"^jq(?:\s+-[-\w]+)*\s+(?P<filter>'[^']*'|\"(?:[^\"\\]|\\.)*\"|\S+)(?:\s+-[-\w]+)*$")


def _output(context: Context) -> str:
    argv = context.command.argv if context.command else ()
    for k, word in enumerate(argv):
        if word in ("-o", "--output") and k + 1 < len(argv):
            return argv[k + 1]
        if word.startswith(("-o", "--output=")):
            return word.removeprefix("--output=").removeprefix("-o").removeprefix("=")
    return ""


def _template(context: Context) -> projection.Template | None:
    """What the command picks from the objects that it gets."""
    run = context.command
    if run is None or not asked_kind(context):
        return None
    output = _output(context)
    kept = [f for f in run.filters if not _LAYOUT.match(f)]
    if output.startswith(("jsonpath=", "jsonpath-as-json=")):
        return projection.jsonpath(output.partition("=")[2]) if not kept else None
    if output == "json" and len(kept) == 1 and (match := _JQ.match(kept[0])):
        try:
            word = shlex.split(match["filter"])[0]
        except (ValueError, IndexError):
            return None
        return projection.jq(word)
    return None


def _name(context: Context) -> str:
    """The name of the one object that the command gets."""
    argv = context.command.argv if context.command else ()
    words: list[str] = []
    skip = False
    for word in argv[argv.index("get") + 1 :] if "get" in argv else ():
        if skip or word.startswith("-"):
            skip = not skip and word in (
                "-n",
                "--namespace",
                "-o",
                "--output",
                "-l",
                "--selector",
                "-c",
                "--context",
                "--field-selector",
            )
            continue
        words.append(word)
    if not words:
        return ""
    return words[0].partition("/")[2] or (words[1] if len(words) == 2 else "")


def _objects(
    values: Iterable[tuple[projection.Path, Any]], context: Context, locate: Locate, each: bool
) -> list[Record]:
    made = projection.build((p, v) for p, v in values if v is not None)
    meta = made.pop("metadata", {})
    meta = meta if isinstance(meta, dict) else {}
    if not each:
        meta.setdefault("name", _name(context))
    meta.setdefault("namespace", asked_namespace(context))
    if not meta.get("name") and not made:
        return []
    return list(OBJECTS.read({**made, "kind": asked_kind(context), "metadata": meta}, locate, context))


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    template = _template(context)
    run = context.command
    if template is None or run is None or not lines.text[i].strip() or prompt.parse(lines.text[i]):
        return i, []
    first = run.source.file == lines.file and lines.first + i == max(run.source.line, run.source.end) + 1
    if not first and not template.each:
        return i, []
    values, end = template.values(lines.text[i]), i
    if len(template.paths) == 1 and template.paths[0][0] == "data":
        # A file in a ConfigMap: it goes on to the next command.
        while end + 1 < len(lines.text) and not prompt.parse(lines.text[end + 1]):
            end += 1
        return _text(lines, i, end, context, template.paths[0])
    if values is None or (template.each and not re.fullmatch(r"[\w.:-]+", values[0] or "?")):
        return i, []
    locate = Locate(lines.file, lines.first + i)
    pairs = [(p, projection.scalar(v)) for p, v in zip(template.paths, values, strict=True)]
    return (i + 1, found) if (found := _objects(pairs, context, locate, template.each)) else (i, [])


def _text(
    lines: Lines, i: int, end: int, context: Context, path: projection.Path
) -> tuple[int, list[Record]]:
    """The text of one key of a ConfigMap, as it stands."""
    shown = "\n".join(lines.text[i : end + 1]).strip()
    locate = Locate(lines.file, lines.first + i, lines.first + end if end > i else 0)
    value = shown if len(path) > 1 else projection.scalar(shown)
    found = _objects([(path, value)], context, locate, False)
    return (end + 1, found) if found else (i, [])


def _read_value(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    """A value of one field, printed over several lines."""
    template = _template(context)
    run = context.command
    if template is None or run is None or len(template.paths) != 1 or template.each:
        return []
    if locate.file != run.source.file or locate.line != max(run.source.line, run.source.end) + 1:
        return []
    return _objects([(template.paths[0], value)], context, locate, False)


def _read_columns(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    output = _output(context)
    if not output.startswith("custom-columns=") or not asked_kind(context):
        return i, []
    columns = projection.custom_columns(output.partition("=")[2])
    headings = [h for h, _p in columns]
    if lines.text[i].split() != headings:
        return i, []
    start, records = i, list[Record]()
    i += 1
    while i < len(lines.text) and lines.text[i].strip() and not prompt.parse(lines.text[i]):
        cells = re.split(r"\s{2,}|\t", lines.text[i].strip())
        if len(cells) != len(columns):
            cells = lines.text[i].split()
        if len(cells) != len(columns):
            break
        pairs = [(p, projection.scalar(c)) for (_h, p), c in zip(columns, cells, strict=True) if p]
        records += _objects(pairs, context, Locate(lines.file, lines.first + i), True)
        i += 1
    return (i, records) if records else (start, [])


FORMATS = (
    LineFormat("jsonpath", _VALUE, _read, priority=11),
    LineFormat(
        "custom-columns",
        re.compile(r"^\s*[A-Za-z][\w.-]*(?:\s+[A-Za-z][\w.-]*)*\s*$"),
        _read_columns,
        priority=10,
    ),
    ValueFormat("chosen-field", lambda value: isinstance(value, (dict, list)), _read_value, priority=5),
)
