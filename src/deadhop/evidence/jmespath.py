"""The ``--query`` of the aws and az command lines in the words of jq: paths, lists of fields, filters by one value.

Only what prints values of the input is translated (jmespath.org specification: sub-expressions, flatten and list
projections, multi-select lists and hashes, ``[?field=='value']``); anything else is not read.
"""

from __future__ import annotations

import re

_STEP = re.compile(
    r"\.?(?P<key>[A-Za-z_][\w-]*|\"[^\"]+\")"
    r"|\[\?\s*(?P<field>[\w.]+)\s*==\s*(?:'(?P<a>[^']*)'|`\"?(?P<b>[^`\"]*)\"?`)\s*\]"
    r"|\[(?P<index>-?\d+)\]|(?P<all>\[\*?\])"
    r"|\.?(?P<many>[\[{][^\[\]{}]*(?:\[[^\[\]{}]*\][^\[\]{}]*)*[\]}])|\s*(?P<pipe>\|)\s*"
)
_NAMED = re.compile(r"^\s*(?P<name>[\w-]+)\s*:\s*(?P<path>\S.*)$")


class NotRead(ValueError):
    """A query beyond this grammar."""


def _path(text: str) -> str:
    """One field of a selection: a path without lists but indices."""
    text = text.strip()
    if not re.fullmatch(r"[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*|\[-?\d+\]|\[\*?\])*", text):
        raise NotRead(text)
    if text.count("[]") + text.count("[*]"):
        return "[" + "." + text.replace("[*]", "[]") + "]"
    return "." + text


def program(query: str) -> str:
    """The jq program that prints one value of the query's list after the other. Raises :class:`NotRead`."""
    text = query.strip()
    made, at = "", 0
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None or match.end() == at:
            raise NotRead(query)
        at = match.end()
        if match["key"]:
            made += "." + match["key"]
        elif match["field"]:
            wanted = match["a"] if match["a"] is not None else match["b"]
            made += f'[] | select(.{match["field"]} == "{wanted}") | .'
        elif match["index"] and made.endswith("| "):
            made = made.removesuffix(" | ")  # the first of what is left is one of it
        elif match["index"]:
            made += f"[{match['index']}]" if made else f".[{match['index']}]"
        elif match["all"]:
            made += "[]" if made else ".[]"
        elif match["pipe"]:
            made = (made or ".") + " | "
        else:
            made = (made or ".").removesuffix(" | ") + " | " + _many(match["many"])
    return re.sub(r"\|\s*\.\.", "| .", made)


def _many(text: str) -> str:
    parts = re.split(r",(?![^\[]*\])", text[1:-1])
    if text[0] == "[":
        return "[" + ", ".join(_path(p) for p in parts) + "]"
    named = [_NAMED.match(p) for p in parts]
    if not all(named):
        raise NotRead(text)
    return "{" + ", ".join(f'"{m["name"]}": {_path(m["path"])}' for m in named if m) + "}"


__all__ = ["NotRead", "program"]
