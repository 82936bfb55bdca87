"""A loop over packet sizes or addresses around ``ping``: ``1472: 0 received, 100% packet loss``, one line a round."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.shell_loop import Loop, loop
from deadhop.model.observed.node import Ping
from deadhop.model.record import Record

_LINE = re.compile(
    r"^\s*(?:[a-z][\w ]{0,12}[ =])?(?P<item>\d{1,5}|\d[\d.]+|[0-9a-f]*:[0-9a-f:]+)\b\s*[:=]?\s*(?:-+>|=+>|→)?\s*(?P<out>\S.*)$"
)
_RECEIVED = re.compile(r"(\d+)(?: packets)? received")
_LOSS = re.compile(r"(\d+(?:\.\d+)?)% (?:packet )?loss|loss[ =:]+(\d+(?:\.\d+)?)%")
_YES = re.compile(r"^(?:ok|pass(?:ed|es)?|works?|yes|up|success|0)\W*$", re.I)
_NO = re.compile(r"^(?:fail(?:ed|s|ure)?|lost|no|down|drop(?:ped)?|timed? ?out|stuck|1)\W*$", re.I)
_TOO_LONG = re.compile(r"message too long|frag needed|too big", re.I)
_SIZE = re.compile(r"(?:^|\s)-s\s*\"?(\S+?)\"?(?:\s|;|$)")
_TARGET = re.compile(
    r"(?:\d{1,3}\.){3}\d{1,3}|[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F:]*|[a-z0-9-]+(?:\.[a-z0-9-]+)+"
)


def _outcome(out: str) -> tuple[bool | None, str]:
    if _TOO_LONG.search(out):
        return False, "too-long"
    if got := _RECEIVED.search(out):
        return (True, "") if int(got[1]) else (False, "lost")
    if loss := _LOSS.search(out):
        return (False, "lost") if float(loss[1] or loss[2]) >= 100 else (True, "")
    if _YES.match(out):
        return True, ""
    return (False, "lost") if _NO.match(out) else (None, "")


def _pinging(context: Context) -> tuple[Loop, str] | None:
    """The loop and the ``ping`` command in its body, where the last command was one."""
    each = loop(context.command.line) if context.command else None
    match = re.search(r"\bping6?\s[^|;&>]*", each.body) if each else None
    return (each, match[0]) if each and match and each.uses(match[0]) else None


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    found = _pinging(context)
    match = _LINE.match(lines.text[i]) if found else None
    if found is None or match is None:
        return i, []
    each, command = found
    item = match["item"]
    if each.items and item not in each.items:
        return i, []
    ok, error = _outcome(match["out"].strip())
    if ok is None:
        return i, []
    typed = each.fill(command, item)
    size, target = _SIZE.search(typed), _TARGET.search(typed)
    return i + 1, [
        Ping(
            source=lines.source(i), where=context.where, target=target[0] if target else "", ok=ok, error=error,
            size=int(size[1]) if size and size[1].isdigit() else None, df=bool(re.search(r"-M\s*do|\s-D\b", typed)),
            text=lines.text[i].strip(),
        )
    ]  # fmt: skip


FORMAT = LineFormat("ping-loop", _LINE, _read, priority=9)
