"""``dig`` output, long and short, and the one-line summaries that people write of it."""

from __future__ import annotations

import re

from deadhop.evidence.fields import fqdn, integer, is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.dns import Answer, DnsLookup
from deadhop.model.observed.shell import CommandRun
from deadhop.model.record import Record

_BANNER = re.compile(r"^\s*; <<>> DiG (?P<version>\S+)? ?.*<<>>\s*(?P<args>.*)$")
_HEADER = re.compile(r"->>HEADER<<-.*status: (?P<status>\w+)")
_FLAGS = re.compile(r"flags: (?P<flags>[a-z ]*);.*ANSWER: (?P<n>\d+)")
_RECORD = re.compile(
    r"^(?P<name>\S+\.)\s+(?:(?P<ttl>\d+)\s+)?(?:IN|CH|HS)\s+(?P<type>[A-Z0-9]+)\s+(?P<data>.+?)\s*$"
)
_QUESTION = re.compile(r"^;(?P<name>\S+)\s+(?:IN|CH)\s+(?P<type>[A-Z0-9]+)\s*$")
_TIMEOUT = re.compile(
    r"connection timed out|no servers could be reached|communications error.*timed out", re.I
)
_BAD = re.compile(
    r"^;; (?:Got bad packet|Warning: (?:Message parser reports malformed|query response not set))"
)
_REFUSED = re.compile(r"communications error.*connection refused|connection refused", re.I)
_SERVER = re.compile(r"^;; SERVER: (?P<server>[^#\s]+)#\d+.*?(?:\((?P<proto>UDP|TCP)\))?\s*$")
_SIZE = re.compile(r"^;; MSG SIZE\s+rcvd: (?P<size>\d+)")
_TRUNCATED = re.compile(r"^;; Truncated, retrying in TCP")
_START = re.compile(
    r"<<>> DiG|->>HEADER<<-|^;; (?:Got answer:|connection timed out|communications error|Truncated|Got bad packet|Warning: (?:Message|query))|^\S+\.\s+(?:\d+\s+)?IN\s+[A-Z0-9]+\s"
)
_INSIDE = re.compile(r"^\s*(;|\S+\.\s+(?:\d+\s+)?(?:IN|CH)\s)")
_TYPES = {"A", "AAAA", "SRV", "CNAME", "TXT", "MX", "NS", "PTR", "SOA", "ANY", "HTTPS"}


def question(argv: tuple[str, ...] | list[str]) -> tuple[str, str, str, str]:
    """``(name, type, server, transport)`` that a dig command line asks for."""
    name = qtype = server = transport = ""
    words = [a for a in argv if a not in ("dig", "kdig", "drill")]
    skip = False
    for i, word in enumerate(words):
        if skip:
            skip = False
        elif word.startswith("@"):
            server = word[1:]
        elif word in ("-t", "-q", "-x", "-p", "-b"):
            value = words[i + 1] if i + 1 < len(words) else ""
            skip = True
            if word == "-t":
                qtype = value.upper()
            elif word in ("-q", "-x"):
                name = value
        elif word in ("+tcp", "+vc"):
            transport = "tcp"
        elif word.startswith(("+", "-")):
            continue
        elif word.upper() in _TYPES and not qtype:
            qtype = word.upper()
        elif "." in word or not name:
            name = name or word
    return fqdn(name), qtype or "A", server, transport


_RCODES = frozenset({"NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED", "FORMERR", "NOTIMP"})
_CALLS = re.compile(r"\b(?:dig|kdig)\s+([^;|&'\")]*)")


def _several(lines: Lines, i: int, command: CommandRun | None) -> tuple[str, ...]:
    """The arguments of the dig whose answer begins here, where one command line runs several; empty otherwise."""
    calls = _CALLS.findall(command.line) if command is not None and command.source.file == lines.file else []
    if len(calls) < 2 or command is None or any("$" in c for c in calls):
        return ()
    before = lines.text[max(0, command.source.line - lines.first + 1) : i]
    at = sum(1 for line in before if _HEADER.search(line))
    return tuple(calls[at].split()) if at < len(calls) else ()


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    text = lines.text
    start = i
    command = context.command
    asked = command.argv if isinstance(command, CommandRun) and context.ran("dig", "kdig", "drill") else ()
    if several := _several(lines, i, command):
        asked = several
    name, qtype, server, transport = question(asked) if asked else ("", "", "", "")
    status = ""
    size: int | None = None
    count: int | None = None
    truncated = False
    flags: tuple[str, ...] = ()
    answers: list[Answer] = []
    section = "ANSWER"
    seen = False
    while i < len(text):
        line = text[i].strip()
        if not line:
            if i + 1 < len(text) and _INSIDE.match(text[i + 1]) and not _BANNER.match(text[i + 1]):
                i += 1
                continue
            break
        if match := _BANNER.match(line):
            if seen:
                break
            name, qtype, server, transport = (
                question(match["args"].split()) if match["args"] else (name, qtype, server, transport)
            )
        elif match := _HEADER.search(line):
            if seen and status in _RCODES:
                break  # the next answer, of output that grep cut down
            status = match["status"]
        elif match := _FLAGS.search(line):
            flags = tuple(match["flags"].split())
            count = int(match["n"])
            truncated = truncated or "tc" in flags
        elif _TIMEOUT.search(line):
            status = status or "TIMEOUT"
        elif _BAD.match(line):
            status = status or "PARSE-ERROR"
        elif _REFUSED.search(line):
            status = status or "UNREACHABLE"
        elif _TRUNCATED.match(line):
            truncated, transport = True, "tcp"
        elif match := _SERVER.match(line):
            server = match["server"]
            transport = (match["proto"] or transport).lower()
        elif match := _SIZE.match(line):
            size = int(match["size"])
        elif line.startswith(";; ") and line.endswith("SECTION:"):
            section = line[3:].split(" ")[0]
        elif match := _QUESTION.match(line):
            name, qtype = fqdn(match["name"]), match["type"]
        elif match := _RECORD.match(line):
            if section == "ANSWER":
                answers.append(
                    Answer(
                        fqdn(match["name"]),
                        match["type"],
                        _data(match["type"], match["data"]),
                        integer(match["ttl"]),
                    )
                )
        elif not line.startswith(";"):
            break
        seen = True
        i += 1
    if not seen or not (name or answers or status):
        return start, []
    if answers and not name:
        name, qtype = answers[0].name, answers[-1].type
    lookup = DnsLookup(
        source=lines.source(start, i - 1),
        where=context.where,
        tool="dig",
        qname=name,
        qtype=qtype,
        server=server,
        status=status or ("NOERROR" if answers else ""),
        answers=tuple(answers),
        answer_count=count if count is not None else (len(answers) or None),
        size=size,
        transport=transport,
        truncated=truncated,
        flags=flags,
    )
    return i, [lookup]


def _data(kind: str, data: str) -> str:
    return data if is_ip(data) else (fqdn(data) if kind in ("CNAME", "NS", "PTR") else data)


FORMAT = LineFormat("dig", _START, _read, priority=30)
