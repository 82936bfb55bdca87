"""What people note of trying a command: ``IMAGE COMMAND`` under a label of success or failure, ``COMMAND -> outcome``,
and how long it took (time(1), curl's ``time_namelookup``)."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.shell import Attempt, Elapsed
from deadhop.model.record import Record

_TOOLS = r"(?:ping6?|curl|wget|nc|ncat|telnet|nslookup|dig|host|getent|apk|apt-get|apt|yum|npm|pip|git)"
_IMAGE = re.compile(
    rf"^\s*(?:[-*|]\s*)?(?P<image>(?:[\w.-]+(?::\d+)?/)*[a-z][\w.-]*:[\w][\w.-]*)[:\s|]+(?P<command>{_TOOLS}\s+\S+(?:\s+\S+){{0,5}}?|)\s*"
    r"(?:(?:[-=]+>|:|\|)\s*|\s{2,})?(?P<verdict>OK|ok|PASS|passes|works?|success\w*|FAIL\w*|fail\w*|error\w*|times? ?out|NOK|broken)?[\s|.]*$"
)
_PLAIN = re.compile(
    rf"^\s*(?:[$#] )?(?P<command>{_TOOLS}\s+(?:-\S+\s+)*(?P<target>[\w./:\[\]<>-]+)(?:\s+\S+){{0,3}}?)\s*(?:[-=]+>|→|:\s|\s{{2,}}|\s#)\s*(?P<told>[^\n]{{2,80}})$"
)
_GOOD = re.compile(
    r"\b(?:ok|good|works?|worked|success\w*|reachable|connected|pass(?:es|ed)?|HTTP/?[\d.]* ?(?:200|30\d)|200|resolves?|open|replies|0% packet loss)\b",
    re.I,
)
_BAD = re.compile(
    r"\b(?:bad|fail\w*|time[sd]?[ -]?out|timeout|refused|unreachable|no route|hangs?|hung|lost|100% (?:packet )?loss|not? (?:work\w*|reachable|resolv\w*|reply|response|answer)|"
    r"does(?:n't| not) \w+|can(?:'t|not) \w+|reset|broken|NXDOMAIN|SERVFAIL|error)\b",
    re.I,
)
_LABEL_GOOD = re.compile(r"^(?:ok|okay|works|working|good|success\w*|pass\w*)\b", re.I)
_LABEL_BAD = re.compile(
    r"^(?:fail\w*|not? ok|nok|broken|bad|does(?:n't| not) work|error\w*|not working)\b", re.I
)
_REAL = re.compile(r"^\s*real\s+(?:(?P<min>\d+)m\s?)?(?P<sec>\d+\.\d+)s?\s*$")
_CURL_TIME = re.compile(
    r"^\s*(?:time_)?(?P<what>namelookup|connect|appconnect|pretransfer|starttransfer|total)\s*[:=]\s*(?P<sec>\d+\.\d+)s?\s*$"
)
_START = re.compile(
    rf"^\s*(?:[-*|]\s*)?(?:[\w./-]+(?::\d+)?/)*[a-z][\w.-]*:\w[\w.-]*[:\s|]+(?:{_TOOLS}\s|\S*\s*(?i:ok|pass|fail|work|error|success))|"
    rf"^\s*(?:[$#] )?{_TOOLS}\s+\S+.*(?:[-=]+>|→|:\s|\s\s|\s#)\s*\w|^\s*real\s+\d|^\s*(?:time_)?(?:namelookup|connect|total)\s*[:=]\s*\d"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    if len(line) > 300:
        return i, []
    if match := _REAL.match(line):
        seconds = int(match["min"] or 0) * 60 + float(match["sec"])
        what = context.command.program if context.command else ""
        return i + 1, [Elapsed(source=lines.source(i), where=context.where, what=what, seconds=seconds)]
    if match := _CURL_TIME.match(line):
        return i + 1, [
            Elapsed(
                source=lines.source(i), where=context.where, what=match["what"], seconds=float(match["sec"])
            )
        ]
    if match := _IMAGE.match(line):
        ok = _verdict(match["verdict"] or "", context.label)
        command = match["command"].strip()
        if (
            ok is None
            or not (command or match["verdict"])
            or match["image"].split(":")[0] in ("http", "https")
        ):
            return i, []
        words = [w for w in command.split()[1:] if not w.startswith("-")]
        return i + 1, [
            Attempt(
                source=lines.source(i),
                where=context.where,
                command=command,
                ok=ok,
                image=match["image"],
                target=words[0] if words else "",
                text=line.strip(),
            )
        ]
    if match := _PLAIN.match(line):
        good, bad = bool(_GOOD.search(match["told"])), bool(_BAD.search(match["told"]))
        if good == bad and not bad:
            return i, []
        return i + 1, [
            Attempt(
                source=lines.source(i),
                where=context.where,
                command=" ".join(match["command"].split()),
                ok=not bad,
                target=match["target"],
                text=line.strip(),
            )
        ]
    return i, []


def _verdict(word: str, label: str) -> bool | None:
    for said in (word, label):
        if said and (_LABEL_GOOD.match(said)):
            return True
        if said and (_LABEL_BAD.match(said) or re.match(r"times? ?out", said)):
            return False
    return None


FORMAT = LineFormat("attempt", _START, _read, priority=65)
