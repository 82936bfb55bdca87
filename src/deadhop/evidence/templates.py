"""kubectl's jsonpath templates and custom columns as shapes (k8s.io/client-go/util/jsonpath; kubectl custom-columns)."""

from __future__ import annotations

import itertools
import re

from deadhop.evidence.projection import Each, Known, Path, Ref, Shape, Text

_STEP = re.compile(
    r"\.?(?P<key>(?:[\w@/-]|\\.)+)|\[\?\(@\.(?P<field>[\w.]+)\s*==\s*[\"'](?P<value>[^\"']*)[\"']\)\]|\[(?P<any>\*|-?\d+|\d*:\d*)\]"
    r"|\[[\"'](?P<quoted>[^\"']+)[\"']\]|(?P<all>\.\*)"
)
_NODE = re.compile(r"\{((?:[^{}\"']|\"(?:[^\"\\]|\\.)*\"|'[^']*')*)\}")


def path(text: str) -> tuple[Path, tuple[tuple[Path, str], ...]] | None:
    """A path expression, and the values that its filters demand; None for anything else."""
    text = text.strip()
    text = text[1:] if text[:1] == "$" else text
    steps: list[str | int | None] = []
    facts: list[tuple[Path, str]] = []
    at = 0
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            return None
        if match["key"] or match["quoted"]:
            steps.append(re.sub(r"\\(.)", r"\1", match["key"] or match["quoted"]))
        else:
            steps.append(0 if match["any"] and match["any"].lstrip("-").isdigit() else None)
            if match["field"]:
                facts.append(((*steps, *match["field"].split(".")), match["value"]))
        at = match.end()
    return tuple(steps), tuple(facts)


def _shape(text: str, base: Path = ()) -> Shape | None:
    found = path(text)
    if found is None:
        return None
    steps, facts = (*base, *found[0]), tuple(((*base, *p), v) for p, v in found[1])
    made: Shape = Ref(steps)
    if None in found[0] and not facts and "[*]" in text:
        made = Each(made, " ")
    return Known(made, facts) if facts else made


def template(text: str) -> Shape | None:
    """What a jsonpath template prints: one shape, repeated where the template has a range; None beyond this grammar."""
    parts: list[str | Shape] = []
    base: Path = ()
    at = 0
    for match in _NODE.finditer(text):
        literal, at = text[at : match.start()], match.end()
        if literal:
            parts.append(literal)
        inner = match[1].strip()
        if inner[:1] in "\"'" and inner:
            parts.append(inner[1:-1].encode().decode("unicode_escape", "replace") if inner[1:-1].isascii() else inner[1:-1])  # fmt: skip
        elif inner.startswith("range "):
            found = path(inner.removeprefix("range "))
            if found is None or base or any(not isinstance(p, str) for p in parts):
                return None  # ranges within ranges, or values before the range, print no rows of one shape
            base, parts = found[0], []
        elif inner == "end":
            break
        elif (shape := _shape(inner, base)) is not None:
            parts.append(shape)
        else:
            return None
    while parts and isinstance(parts[-1], str) and not parts[-1].strip():
        parts.pop()
    shapes = [p for p in parts if not isinstance(p, str)]
    if not shapes:
        return None
    if len(parts) == 1 and not isinstance(shapes[0], Each):
        return shapes[0]
    if len(parts) > 1 and any(not isinstance(a, str) and not isinstance(b, str) for a, b in itertools.pairwise(parts)):  # fmt: skip
        return None  # two values without anything between them
    return Text(tuple(parts))


def columns(text: str) -> list[tuple[str, Shape]] | None:
    """The columns of ``custom-columns=NAME:.path,...``: header and shape, for a list of objects."""
    found: list[tuple[str, Shape]] = []
    for part in re.split(r",(?=[^,:\[\]]+:)", text):
        header, _, told = part.partition(":")
        steps = path(told)
        if steps is None or not header:
            return None
        shape: Shape = Ref(("items", None, *steps[0]))
        if None in steps[0]:
            shape = Each(shape, ",")
        found.append((header, Known(shape, tuple((("items", None, *p), v) for p, v in steps[1])) if steps[1] else shape))  # fmt: skip
    return found


__all__ = ["columns", "path", "template"]
