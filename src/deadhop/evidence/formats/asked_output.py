"""Output that a command cut down to some fields: jq, jsonpath, custom columns, awk on a table.

It stands directly behind its command line, whose words say which field stands where (``evidence/asked.py``). The fields are
put back at their places, and the reader of the whole output reads them: objects of ``kubectl get``, else whatever value
format knows them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from deadhop.evidence import lenient_json, printed, prompt, safe_yaml
from deadhop.evidence.asked import Asked, of, operands, option
from deadhop.evidence.format import Context, LineFormat, Lines, Locate
from deadhop.evidence.formats.kube_objects import FORMAT as OBJECTS
from deadhop.evidence.formats.kubectl_table import asked_namespace
from deadhop.evidence.kinds import kind_of
from deadhop.evidence.projection import (
    ANYWHERE,
    Each,
    Fields,
    Found,
    Known,
    Ref,
    Row,
    Shape,
    Text,
    fit,
    grow,
    merge,
    repeats,
    scalar,
)
from deadhop.model.observed.shell import CommandRun
from deadhop.model.record import Record

#: Where a row stands (its first and last line's index) and what it says.
Placed = tuple[int, int, Found]
_ROWS = 2000
#: The number that ``uniq -c`` puts before a row.
_TALLY = re.compile(r"^\s*\d+\s(?=\S)")
_ITEM = ("items", None)
_DEAD = re.compile(r"^(?:Error from server|No resources found|error: |jq: error|command terminated)")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    command = context.command
    if command is None or i == 0 or lines.source(i - 1) != command.source or (not command.filters and not _output(command) and "--query" not in command.argv):  # fmt: skip
        return i, []
    asked = of(command)
    if asked is None or _document(lines, i, asked):
        return i, []
    if asked.tallied:
        text = [_TALLY.sub("", row, count=1) if n >= i else row for n, row in enumerate(lines.text)]
        lines = Lines(lines.file, text, lines.first)
    after, rows = _table(lines, i, asked, command) if asked.table or asked.headed else _rows(lines, i, asked)
    if not any(found for _first, _last, found in rows):
        return i, []
    records = list(_objects(lines, rows, command, context) if _kind(command) else _values(lines, rows, command, context))  # fmt: skip
    return (after, records) if records else (i, [])


def _document(lines: Lines, i: int, asked: Asked) -> bool:
    """Whether a value of a ConfigMap is printed as it is, several lines long: its own reader knows it."""
    several = i + 1 < len(lines.text) and not _ends(lines.text[i + 1])
    return several and any(isinstance(s, Ref) and s.path[:1] == ("data",) for s in asked.shapes)


def _output(command: CommandRun) -> bool:
    return option(command.argv, "-o", "--output", "--template").startswith(
        ("jsonpath=", "custom-columns=", "go-template=", "{{")
    )


def _kind(command: CommandRun) -> str:
    words = operands(command.argv, "get") if "kubectl" in command.argv[:1] else []
    return (kind_of(words[0]) or "?") if words else ""


def _ends(line: str) -> bool:
    return not line.strip() or bool(_DEAD.match(line)) or prompt.parse(line) is not None


# -- rows of shapes


def _rows(lines: Lines, i: int, asked: Asked) -> tuple[int, list[Placed]]:
    rows: list[Placed] = []
    k = 0
    if asked.yaml and len(asked.shapes) == 1:
        return _yaml(lines, i, asked.shapes[0])
    while i < len(lines.text) and len(rows) < _ROWS and not _ends(lines.text[i]):
        got = _row(lines, i, asked.shapes, k)
        if got is None:
            break
        k, last, founds = got
        rows += [(i, last, found) for found in founds]
        i = last + 1
    return i, rows


def _yaml(lines: Lines, i: int, shape: Shape) -> tuple[int, list[Placed]]:
    """One YAML value up to a blank line or the next command."""
    end = i
    while end < len(lines.text) and not _ends(lines.text[end]):
        end += 1
    try:
        founds = fit(shape, safe_yaml.load("\n".join(lines.text[i:end])))
    except safe_yaml.YamlProblem:
        return i, []
    return (end, [(i, end - 1, found) for found in founds]) if founds and end > i else (i, [])


def _row(lines: Lines, i: int, shapes: tuple[Shape, ...], k: int) -> tuple[int, int, list[Found]] | None:
    """The next shape's turn, the last line of the value, what it says."""
    for step in range(len(shapes)):
        at = (k + step) % len(shapes)
        shape = shapes[at]
        value, last = _value(lines, i, shape)
        founds = fit(shape, value)
        if founds is None or (step == 0 and _better(lines.text[i], shape, shapes[at + 1 :])):
            continue
        return (at if repeats(shape) else (at + 1) % len(shapes)), last, founds
    return None


def _better(line: str, shape: Shape, others: tuple[Shape, ...]) -> bool:
    """Whether a line that a bare reference would take has the columns of a later shape."""
    width = line.count("\t") + 1
    return isinstance(_bare(shape), Ref) and any(
        isinstance(r := _bare(o), Row) and r.separator == "\t" and len(r.cells) == width > 1 for o in others
    )


def _bare(shape: Shape) -> Shape:
    return shape.shape if isinstance(shape, Known) else shape


def _value(lines: Lines, i: int, shape: Shape) -> tuple[Any, int]:
    """The printed value that begins at a line, and its last line."""
    line = lines.text[i].strip()
    bare = _bare(shape)
    texts = isinstance(bare, Text) or (isinstance(bare, (Row, Each)) and bare.separator is not None)
    if line[:1] == '"' and line[-1:] == '"':
        try:
            return msgspec.json.decode(line), i
        except msgspec.DecodeError:
            return line, i
    if texts:
        return lines.text[i].rstrip("\r\n"), i
    if line[:1] in ("[", "{"):
        decoded = lenient_json.decode_at("\n".join(lines.text[i : i + 5000]), 0)
        if decoded is None:
            return None, i
        value, at, _whole = decoded
        return value, i + "\n".join(lines.text[i : i + 5000]).count("\n", 0, at)
    return (None if isinstance(bare, (Row, Fields, Each)) and not texts else scalar(line)), i


# -- rows of columns


def _table(lines: Lines, i: int, asked: Asked, command: CommandRun) -> tuple[int, list[Placed]]:
    rows: list[Placed] = []
    kind = _kind(command)
    starts: list[int] = []
    if asked.headed and lines.text[i].split()[:1] == [asked.headed[0]]:
        starts = [m.start() for m in re.finditer(r"\S+", lines.text[i])]
        i += 1
    while i < len(lines.text) and len(rows) < _ROWS and not _ends(lines.text[i]):
        line = lines.text[i]
        words = line.split()
        if asked.table:
            if words and words[0].isupper():
                i += 1
                continue
            found = _words(kind, asked.table, words)
        else:
            if len(words) != len(asked.headed) and len(starts) == len(asked.headed):
                words = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
            found = _cells(asked, words)
        if found is None:
            break
        rows.append((i, i, found))
        i += 1
    return i, rows


def _words(kind: str, table: tuple[str, ...], words: list[str]) -> Found | None:
    if len(words) not in (len(table), len(table) - 1):
        return None
    found: Found = []
    for column, word in zip(table, words, strict=False):
        if placed := printed.place(kind, column, word):
            found.append((placed[0], placed[1]))
    return found


def _cells(asked: Asked, words: list[str]) -> Found | None:
    if len(words) != len(asked.shapes):
        return None
    found: Found = []
    for shape, word in zip(asked.shapes, words, strict=True):
        for got in fit(shape, scalar(word)) or []:
            found += got
    return found


# -- what the rows are


def _objects(lines: Lines, rows: list[Placed], command: CommandRun, context: Context) -> Iterator[Record]:
    """Objects of the Kubernetes API; several rows of one object become one."""
    kind = _kind(command)
    names = operands(command.argv, "get")
    name = names[0].partition("/")[2] or (names[1] if len(names) > 1 else "")
    wanted = dict(p.split("=", 1) for p in option(command.argv, "-l", "--selector").split(",") if p.count("=") == 1)  # fmt: skip
    made: dict[tuple[str, ...], tuple[int, int, dict[str, Any]]] = {}
    for first, last, found in rows:
        value = grow([(p[2:] if p[:2] == _ITEM else p, v) for p, v in found])
        if not isinstance(value, dict):
            continue
        meta = value.get("metadata") if isinstance(value.get("metadata"), dict) else {}
        assert isinstance(meta, dict)
        one = bool(name) or (kind == "EndpointSlice" and "kubernetes.io/service-name" in wanted)
        own = (str(meta.get("namespace", "")), str(meta.get("name") or name))
        key = own if own[1] else (("", "") if one else (str(first), str(len(made))))
        if key in made:
            made[key] = (made[key][0], last, merge(made[key][2], value))
        else:
            made[key] = (first, last, value)
    for first, last, value in made.values():
        known: dict[str, Any] = {"name": name, "namespace": asked_namespace(context)}
        if wanted:
            known["labels"] = wanted
        meta = value.get("metadata")
        meta = merge(meta, {k: v for k, v in known.items() if v}) if isinstance(meta, dict) else {k: v for k, v in known.items() if v}  # fmt: skip
        if kind == "NetworkPolicy" and isinstance(value.get("spec"), dict):
            _direction(value["spec"])
        locate = Locate(lines.file, lines.first + first, lines.first + last if last > first else 0)
        whole = {**value, "kind": value.get("kind") or kind, "metadata": meta}
        if whole["kind"] == "?":
            from deadhop.evidence.scan import read_value

            yield from read_value({k: v for k, v in whole.items() if k != "kind"}, locate, context)
        else:
            yield from OBJECTS.read(whole, locate, context)


def _direction(spec: dict[str, Any]) -> None:
    """A policy of which only the rules of one direction are shown governs at least that direction."""
    if "policyTypes" not in spec:
        shown = [k for k in ("ingress", "egress") if isinstance(spec.get(k), list) and spec[k]]
        if shown:
            spec["policyTypes"] = [k.capitalize() for k in shown]


def _values(lines: Lines, rows: list[Placed], command: CommandRun, context: Context) -> Iterator[Record]:
    """Values of other programs, read by the format that knows them."""
    from deadhop.evidence.scan import read_value

    listed: Any = None
    for first, last, found in rows:
        locate = Locate(lines.file, lines.first + first, lines.first + last if last > first else 0)
        inner = [(_below(p), v) for p, v in found]
        value = _of_device(grow(inner), command)
        if isinstance(value, list) and all(p and p[0] is None for p, _v in inner):
            listed = merge(listed, value)
            continue
        if any(ANYWHERE in p for p, _v in found):
            value = _rule(value)
        if command.program == "hubble":
            value = _flow(value, command)
        yield from read_value(value, locate, context)
    if listed is not None:
        first, last = rows[0][0], rows[-1][1]
        locate = Locate(lines.file, lines.first + first, lines.first + last if last > first else 0)
        yield from read_value(listed, locate, context)


def _of_device(value: Any, command: CommandRun) -> Any:
    """A device's fields with the name that ``ip link show NAME`` asked for, where the filter left the name out."""
    item = value[0] if isinstance(value, list) and len(value) == 1 else value
    if command.program != "ip" or not isinstance(item, dict) or "ifname" in item:
        return value
    words = [w for w in command.argv[1:] if not w.startswith("-")]
    named = words[2:] if words[:1] in (["link"], ["l"], ["addr"], ["a"], ["address"]) else []
    named = [w for w in named if w not in ("dev", "up")]
    if len(named) != 1 or not item.keys() & {"mtu", "linkinfo", "operstate"}:
        return value
    return [{**item, "ifname": named[0]}]


def _below(path: tuple[Any, ...]) -> tuple[Any, ...]:
    return path[path.index(ANYWHERE) + 1 :] if ANYWHERE in path else path


def _rule(value: Any) -> Any:
    """A part of a rule, found at any depth, back in a rule of its direction."""
    if isinstance(value, dict) and len(value) == 1:
        key = str(next(iter(value)))
        if re.match(r"(?:to|from)[A-Z]", key):
            value = {"ingress" if key.startswith("from") else "egress": [value]}
    return value


def _flow(value: Any, command: CommandRun) -> Any:
    """A flow with what the command's own filters say of every flow."""
    if not isinstance(value, dict):
        return value
    inner = value.get("flow", value)
    if isinstance(inner, dict):
        verdict = option(command.argv, "--verdict")
        inner.setdefault("verdict", verdict.upper())
        own = "destination" if _nested(inner, "l7", "type") == "RESPONSE" else "source"
        for side, name in (("source", "--from-pod"), ("destination", "--to-pod"), (own, "--pod")):
            namespace, _, pod = option(command.argv, name).rpartition("/")
            end = inner.setdefault(side, {}) if pod else None
            if isinstance(end, dict):
                end.setdefault("pod_name", pod)
                end.setdefault("namespace", namespace or "default")
    return value


def _nested(value: dict[str, Any], *keys: str) -> Any:
    for key in keys:
        value = value.get(key, {}) if isinstance(value, dict) else {}
    return value


FORMAT = LineFormat("asked-output", re.compile(r"\S"), _read, priority=2)
