"""JSON as it is pasted: one value at a place in a text, perhaps cut off at the end.

``decode_at`` gives the value that begins at an offset and the offset behind it. A value that is cut off is
closed at its last complete element, and the caller is told.
"""

from __future__ import annotations

import json
import re
from typing import Any

_DECODER = json.JSONDecoder(strict=False)
_START = re.compile(r"\s*(\{\s*(\"|\}|$)|\[\s*(\{|\"|\[|\]|$|-?\d+\s*[,\]]))")


def starts(line: str) -> bool:
    """Whether a line looks like the beginning of a JSON object or array (and not like ``[INFO]``)."""
    return _START.match(line) is not None


def decode_at(text: str, at: int) -> tuple[Any, int, bool] | None:
    """``(value, end, whole)`` for the value at ``at``, or None. ``whole`` is False where it was cut off."""
    while at < len(text) and text[at].isspace():
        at += 1
    try:
        value, end = _DECODER.raw_decode(text, at)
        return value, end, True
    except RecursionError:
        return None
    except json.JSONDecodeError:
        pass
    return _close(text, at)


def _close(text: str, at: int) -> tuple[Any, int, bool] | None:
    """Closes a value that was cut off: back to the last complete element, then every open bracket."""
    stack: list[str] = []
    safe: list[tuple[int, str]] = []
    i, n, in_string = at, len(text), False
    while i < n:
        c = text[i]
        if in_string:
            if c == "\\":
                i += 1
            elif c == '"':
                in_string = False
                safe.append((i + 1, "".join(reversed(stack))))
        elif c == '"':
            in_string = True
        elif c in "{[":
            stack.append("}" if c == "{" else "]")
            safe.append((i + 1, "".join(reversed(stack))))
        elif c in "}]":
            if not stack or stack.pop() != c:
                break
            safe.append((i + 1, "".join(reversed(stack))))
            if not stack:
                break
        elif c in "0123456789truefalsn" and text[i + 1 : i + 2] in ",]} \n\r":
            safe.append((i + 1, "".join(reversed(stack))))
        i += 1
    for end, closers in reversed(safe[-200:]):
        try:
            value = json.loads(text[at:end] + closers, strict=False)
        except (json.JSONDecodeError, RecursionError):
            continue
        return value, end, False
    return None
