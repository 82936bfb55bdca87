"""What ``curl -w`` prints: the template of the command line, read back (curl(1), --write-out).

``%{http_code}`` gives a response or, as 000, the lack of one; ``%{time_…}`` gives how long a phase took, ``%{speed_…}`` bytes a second.
"""

from __future__ import annotations

import re
import shlex

from deadhop.evidence.fields import is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.formats.curl import split, target
from deadhop.evidence.prompt import parse
from deadhop.evidence.shell_loop import loop
from deadhop.model.observed.http import HttpExchange
from deadhop.model.observed.node import Throughput
from deadhop.model.observed.shell import CommandRun, Elapsed
from deadhop.model.record import Record

_TEMPLATE = re.compile(
    r"(?:^|\s)(?:-w|--write-out|-\w+w)[ =]*(?:'(?P<a>[^']*)'|\"(?P<b>[^\"]*)\"|(?P<c>\S+))"
)
#: Options that take the body off the terminal: to a file, or none at all.
_OUTPUT = re.compile(r"\s(?:-o|--output|-\w*[oOI]\w*|--head|--remote-name)(?:[ =]|$)")
_VARIABLE = re.compile(r"%\{(\w+)\}")
#: What begins a line that a template can have made: a number, or the words that people put before one.
_START = re.compile(r"^\s*(?:\S{1,60}?[ =:]?\s*)?\d")
_SHAPES = {
    "http_code": r"\d{3}",
    "response_code": r"\d{3}",
    "remote_ip": r"[0-9a-fA-F:.]*",
    "num_redirects": r"\d+",
}


def _pattern(line: str) -> tuple[re.Pattern[str], list[str]] | None:
    """The template of a command line as a pattern for one line, and the variables in order of its groups."""
    match = _TEMPLATE.search(line)
    text = next((g for g in match.groups() if g is not None), "") if match else ""
    rows = [r for r in text.replace("\\r", "").split("\\n") if _VARIABLE.search(r)]
    if len(rows) != 1 or len(text) > 300:
        return None
    names: list[str] = []
    shape = ""
    for part in re.split(r"(%\{\w+\})", rows[0].replace("\\t", "\t").strip()):
        if variable := _VARIABLE.fullmatch(part):
            names.append(variable[1])
            shape += f"({_SHAPES.get(variable[1], '[0-9.]+' if variable[1].startswith(('time_', 'size_', 'speed_')) else '.*?')})"
        else:
            shape += r"\s+".join(re.escape(word) for word in part.split(" "))
    # What the server sends stands before it, unless curl writes that elsewhere.
    body = (
        ""
        if _OUTPUT.search(line) or not names or names[0] not in _SHAPES
        else r"(?P<body>\S.{0,160}?)??(?<!\d)"
    )
    return re.compile(rf"^\s*{body}{shape}\s*$"), names


def _last(lines: Lines, i: int) -> bool:
    """Whether a command's output ends with the line: what curl writes out stands behind all of the body."""
    return i + 1 >= len(lines.text) or not lines.text[i + 1].strip() or parse(lines.text[i + 1]) is not None


def _round(line: str, run: CommandRun) -> tuple[str, tuple[str, ...]]:
    """In a loop that prints its variable first: what is left of the line, and the curl command of that round."""
    each = loop(run.line)
    typed = re.search(r"\bcurl\s[^|;&>`)]*", each.body) if each else None
    match = re.match(r"^\s*(\S+?)[:=]?\s+(.*)$", line)
    if each is None or typed is None or match is None or not each.uses(typed[0]):
        return line, run.argv
    if each.items and match[1] not in each.items:
        return line, ()
    try:
        return match[2], tuple(shlex.split(each.fill(typed[0], match[1])))
    except ValueError:
        return line, ()


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    run = context.command
    if run is None or "curl" not in run.line or len(lines.text[i]) > 300:
        return i, []
    made = _pattern(run.line)
    line, argv = _round(lines.text[i], run)
    match = made[0].match(line) if made else None
    if made is None or match is None or (match.groupdict().get("body") and not _last(lines, i)):
        return i, []
    values = dict(zip(made[1], match.groups()[-len(made[1]) :] if made[1] else (), strict=True))
    source = lines.source(i)
    records: list[Record] = [
        Elapsed(source=source, where=context.where, what=name, seconds=float(value))
        for name, value in values.items()
        if name.startswith("time_") and re.fullmatch(r"\d+(?:\.\d+)?", value)
    ]
    records += [
        Throughput(source=source, where=context.where, bits=8 * float(value))
        for name, value in values.items()
        if name in ("speed_download", "speed_upload")
        and re.fullmatch(r"\d+(?:\.\d+)?", value)
        and float(value)
    ]
    code = values.get("http_code", values.get("response_code", ""))
    if code:
        url, host, method, _verbose = target(argv) if argv and argv[0] == "curl" else ("", "", "GET", False)
        name, port = split(url) if url else ("", None)
        records.append(
            HttpExchange(
                source=source, where=context.where, tool="curl", url=url, method=method, host=host or name,
                dialled=values.get("remote_ip", "") or (name if is_ip(name) else ""), port=port,
                status=int(code) if code != "000" else None, error="other" if code == "000" else "",
            )
        )  # fmt: skip
    return (i + 1, records) if records else (i, [])


FORMAT = LineFormat("curl-write-out", _START, _read, priority=14)
