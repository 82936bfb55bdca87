"""What ``kubectl get KIND NAME -o jsonpath='{.a.b}'`` prints: one value, put back at its path of the object.

Only plain paths are read back: a range, a filter or several expressions do not say which value stands where.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from deadhop.evidence.format import Context, LineFormat, Lines, Locate
from deadhop.evidence.formats.kube_objects import FORMAT as OBJECTS
from deadhop.evidence.formats.kubectl_table import asked_kind, asked_namespace
from deadhop.model.record import Record

_PATH = re.compile(
    r"^\{\.?(?P<path>(?:metadata|spec|status|data)(?:\.[\w-]+|\[\d+\]|\['[^']+'\])*)\}(?:\{\"\\n\"\})?$"
)
_PART = re.compile(r"\.?([\w-]+)|\[(\d+)\]|\['([^']+)'\]")
_VALUE = re.compile(r"^\s*\S.{0,4000}$")


def _asked(context: Context) -> tuple[str, str, list[str]] | None:
    """Kind, name and path of the command; None where it asks for anything else."""
    argv = context.command.argv if context.command else ()
    kind = asked_kind(context)
    if not kind or "get" not in argv or (context.command and context.command.filters):
        return None
    told = next((a.partition("jsonpath=")[2] for a in argv if "jsonpath=" in a), "").strip("'\"")
    match = _PATH.match(told)
    words = [w for w in argv[argv.index("get") + 1 :] if not w.startswith("-")]
    name = words[0].partition("/")[2] or (words[1] if len(words) > 1 and "jsonpath" not in words[1] else "")
    if not match or not name:
        return None
    return kind, name, [a or b or c for a, b, c in _PART.findall(match["path"])]


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    asked = _asked(context)
    line = lines.text[i].strip()
    if (
        asked is None
        or not line
        or i == 0
        or not context.command
        or lines.source(i - 1) != context.command.source
    ):
        return i, []
    kind, name, path = asked
    try:
        value: Any = msgspec.json.decode(line) if line[0] in "{[" or line in ("true", "false") else line
    except (msgspec.DecodeError, RecursionError):
        return i, []
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        value = int(value)
    for part in reversed(path):
        value = [value] if part.isdecimal() else {part: value}
    if not isinstance(value, dict):
        return i, []
    meta = {**value.pop("metadata", {}), "name": name, "namespace": asked_namespace(context)}
    locate = Locate(lines.file, lines.first + i)
    return i + 1, list(OBJECTS.read({"kind": kind, "metadata": meta, **value}, locate, context))


FORMAT = LineFormat("jsonpath", _VALUE, _read, priority=11)
