"""What the way into a ticket puts around each line: colours, quote marks, log collectors' prefixes and JSON, indentation,
HTML's entities, typesetters' spaces.

A prefix is taken off where a run of lines has it, so that a single line that begins like one is left alone. Lines stay
lines: numbers in sources hold, and a report quotes them as they stand in the evidence.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][AB0]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
#: A request line behind ``>`` is curl's, and not somebody's quote.
_SENT = re.compile(r"^\s*>\s*[A-Z]{3,8} \S+ HTTP/\d")


#: What HTML writes for characters of its own, in text that was taken from a page's source.
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|apos|nbsp|#0?39|#x27|#34|#x2[Ff]|#47);")
#: Spaces of typesetters, and marks without width, which chats and word processors put into what they are given.
_SPACES = dict.fromkeys((0xA0, 0x2007, 0x2009, 0x202F, 0x3000), " ") | dict.fromkeys(
    (0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF)
)
_ODD_SPACE = re.compile(f"[{''.join(map(chr, _SPACES))}]")
#: The marks of a code block on a line of its content, as chats take them; alone, or with a language, they stand for themselves.
_BLOCK = re.compile(r"^\s*```(?=\S*\s+\S)|(?<=\S)```\s*$")
#: An item of a list in prose, of several words; and one of a YAML document.
_ITEM = re.compile(r"^ {0,3}(?:\d{1,2}[.)]|[-*+]) +\S+ +\S")
_MAPPING = re.compile(r"^ *- +[\w./\"'-]+:(?: |$)")
_NUMBERED = re.compile(r"\bgrep\b[^\n|]*\s-[A-Za-z]*n|\bcat -n\b")


class Prefix(NamedTuple):
    """One decoration: a cheap test of the whole text, the prefix of a line, and what a run of it may not hold."""

    hint: Callable[[str], bool]
    pattern: re.Pattern[str]
    never: re.Pattern[str] | None = None


_PREFIXES = (
    # The kubelet's log files (CRI log format): time, stream, F for a full or P for a partial line.
    Prefix(
        lambda text: " stdout " in text or " stderr " in text,
        re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d) (?:stdout|stderr) [FP] "),
    ),
    # kubectl logs --prefix.
    Prefix(lambda text: "[pod/" in text, re.compile(r"^\[pod/[\w.-]+/[\w.-]+\] ")),
    # stern and kubetail: pod and container, the pod's name with the suffixes that controllers give.
    Prefix(
        lambda text: "-" in text,
        re.compile(r"^[a-z0-9][a-z0-9-]*-(?:[a-z0-9]{5}|\d+) [a-z0-9][a-z0-9-]* (?=\[|\{|\d{4}[-/]|[IWEF]\d{4} |[a-z]+=)"),
    ),
    # docker compose logs: service and number before a bar.
    Prefix(lambda text: " | " in text, re.compile(r"^[\w.-]+[-_]\d+\s+\| ")),
    Prefix(lambda text: text.lstrip().startswith(">") or "\n>" in text, re.compile(r"^ {0,3}>+(?: |$)"), _SENT),
)  # fmt: skip


#: Innermost, for a person numbers the lines of a file: grep -n and grep -nA put a number and a colon or, for a line of
#: context, a hyphen before each.
_LINE_NUMBERS = Prefix(
    lambda text: _NUMBERED.search(text) is not None,
    re.compile(r"^\d{1,6}[:-]"),
    re.compile(r"^\d+:\s+(?:(?:not )?from |[\w.@-]+: <)|^\d+[:-](?:\d|[\da-fA-F]{0,4}:)"),
)


class _Wrapped(msgspec.Struct):
    """A log line inside JSON: Docker's json-file and Fluent Bit's ``log``, the journal's ``MESSAGE``."""

    log: str | None = None
    message: str | None = msgspec.field(default=None, name="MESSAGE")
    stream: str | None = None
    realtime: str | None = msgspec.field(default=None, name="__REALTIME_TIMESTAMP")


_WRAPPED = msgspec.json.Decoder(_Wrapped)


def _unwrapped(row: str) -> str:
    if not row.startswith("{") or ('"log"' not in row and '"MESSAGE"' not in row):
        return row
    try:
        found = _WRAPPED.decode(row)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return row
    text = found.log if found.log is not None and found.stream else found.message if found.realtime else None
    return row if text is None else text.replace("\r", "").strip("\n").replace("\n", " ")


_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@")


def _after(rows: list[str]) -> list[str]:
    """Unified diffs as what they lead to: rows that were taken away are blank, the others lose their mark.

    A hunk counts its rows (POSIX diff -u), but people cut them, so it ends where a row has no mark.
    """
    made = list(rows)
    inside = False
    for i, row in enumerate(rows):
        if _HUNK.match(row):
            inside, made[i] = True, ""
        elif row.startswith(("--- ", "+++ ", "diff ", "index ")) and any(
            map(_HUNK.match, rows[i + 1 : i + 6])
        ):
            inside, made[i] = False, ""
        elif inside and row[:1] in ("-", "\\"):
            made[i] = ""
        elif inside and row[:1] in ("+", " ", ""):
            made[i] = row[1:]
        else:
            inside = False
    return made


def undecorated(rows: list[str]) -> list[str]:
    """The same number of lines, without what stands before each of a run of them."""
    text = "\n".join(rows)
    if "\x1b" in text:
        rows = [_COLOUR.sub("", row) for row in rows]
        text = "\n".join(rows)
    if "```" in text:
        rows = [_BLOCK.sub("", row) for row in rows]
        text = "\n".join(rows)
    if _ENTITY.search(text):
        rows = [_ENTITY.sub(lambda entity: html.unescape(entity[0]), row) for row in rows]
        text = "\n".join(rows)
    if not text.isascii() and _ODD_SPACE.search(text):
        rows = [row.translate(_SPACES) for row in rows]
        text = "\n".join(rows)
    if '"log"' in text or '"MESSAGE"' in text:
        rows = [_unwrapped(row) for row in rows]
        text = "\n".join(rows)
    for prefix in _PREFIXES:
        if prefix.hint(text):
            bare = list(_stripped(rows, prefix))
            if bare != rows:
                rows, text = bare, "\n".join(bare)
    rows = _dedented(rows)
    if any(map(_ITEM.match, rows)):
        rows = _out_of_lists(rows)
    if "@@ -" in text and any(map(_HUNK.match, rows)):
        rows = _dedented(_after(rows))
    return list(_stripped(rows, _LINE_NUMBERS)) if _LINE_NUMBERS.hint("\n".join(rows)) else rows


def _stripped(rows: list[str], prefix: Prefix) -> Iterator[str]:
    start, every = 0, sum(1 for row in rows if row.strip())
    while start < len(rows):
        if not prefix.pattern.match(rows[start]):
            yield rows[start]
            start += 1
            continue
        end, count = start, 0
        while end < len(rows) and (not rows[end].strip() or prefix.pattern.match(rows[end])):
            count += bool(rows[end].strip())
            end += 1
        run = rows[start:end]
        mine = (count > 1 or count == every) and not (prefix.never and any(map(prefix.never.match, run)))
        yield from (prefix.pattern.sub("", row, count=1) for row in run) if mine else iter(run)
        start = end


def _out_of_lists(rows: list[str]) -> list[str]:
    """What stands under an item of a list, behind a blank line, without the item's margin (CommonMark, list items)."""
    made = list(rows)
    for i, row in enumerate(rows[:-1]):
        if not _ITEM.match(row) or _MAPPING.match(row) or rows[i + 1].strip():
            continue
        end = i + 1
        while end < len(rows) and (not rows[end].strip() or rows[end].startswith("  ")):
            end += 1
        made[i + 1 : end] = _dedented(rows[i + 1 : end])
    return made


def _dedented(rows: list[str]) -> list[str]:
    """Without the indentation that every line has."""
    filled = [row for row in rows if row.strip()]
    if not filled or not filled[0][:1].isspace():
        return rows
    common = filled[0][: len(filled[0]) - len(filled[0].lstrip())]
    while not all(row.startswith(common) for row in filled):
        common = common[:-1]
    return [row[len(common) :] if row.strip() else row for row in rows] if common else rows
