"""``nslookup`` (BIND and busybox) and ``host``."""

from __future__ import annotations

import re

from deadhop.evidence.fields import fqdn, is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.dns import Answer, DnsLookup
from deadhop.model.record import Record

_SERVER = re.compile(r"^Server:\s+(?P<server>\S+)")
_ADDRESS = re.compile(
    r"^Address(?: \d+)?:\s*(?P<address>[0-9a-fA-F:.]+?)(?:#\d+|:53)?(?:\s+(?P<name>\S+))?\s*$"
)
_NAME = re.compile(r"^Name:\s*(?P<name>\S+)")
_CNAME = re.compile(r"^(?P<name>\S+)\s+canonical name = (?P<target>\S+)")
_FAILED = re.compile(
    r"server can't find (?P<name>\S+?): (?P<code>[A-Z]+)|Can't find (?P<name2>\S+?): (?P<why>.+)|"
    r"can't resolve '?(?P<name3>[^':\s]+)'?(?:: (?P<why2>.+))?"
)
_TIMEOUT = re.compile(r"connection timed out|no servers could be reached|timed-?out|no response from", re.I)
_HOST_HAS = re.compile(
    r"^(?P<name>\S+) has (?:IPv6 )?address (?P<address>\S+)|^(?P<alias>\S+) is an alias for (?P<target>\S+?)\.?$|^(?P<srv>\S+) has SRV record (?P<data>.+)$"
)
_HOST_NOT = re.compile(r"^Host (?P<name>\S+) not found: \d+\((?P<code>\w+)\)")
_NON = re.compile(
    r"^(?:Non-authoritative answer|Authoritative answers can be found from):|^;;.*|^\*\*|^\*\*\*|^nslookup: "
)
_START = re.compile(
    r"^\s*Server:\s+\S+\s*$|canonical name = |^\*\*\*? |^nslookup: |^Non-authoritative answer:|^Name:\s+\S+\s*$|"
    r"has (?:IPv6 )?address [0-9a-fA-F.:]+$|^Host \S+ not found: |is an alias for \S+\.$|has SRV record |^;; (?:connection timed out|Got SERVFAIL)"
)
#: What only busybox prints: the server's port behind a colon, numbered addresses, three stars (networking/nslookup.c).
_BUSYBOX = re.compile(
    r"^Address(?: \d+:\s|:\s*\S+[.\]\da-f]:53$)|^\*\*\* Can't find |^nslookup: can't resolve"
)
_WHY = {
    "no answer": "NODATA",
    "parse error": "PARSE-ERROR",
    "does not resolve": "NXDOMAIN",
    "try again": "TIMEOUT",
    "nxdomain": "NXDOMAIN",
    "servfail": "SERVFAIL",
    "refused": "REFUSED",
    "non-existent": "NXDOMAIN",
}


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    text = lines.text
    start = i
    command = context.command
    name = server = status = last = qtype = ""
    absolute = False
    if command and context.ran("nslookup", "host"):
        words = [a for a in command.argv[1:] if not a.startswith("-")]
        name = fqdn(words[0]) if words else ""
        server = words[1] if len(words) > 1 else ""
        absolute = bool(words) and words[0].endswith(".")
        qtype = _type(command.argv)
    answers: list[Answer] = []
    said: list[str] = []
    current = ""
    before_name = True
    tool = "nslookup"
    while i < len(text):
        line = text[i].strip()
        if not line:
            following = text[i + 1].strip() if i + 1 < len(text) else ""
            if following and _continues(following) and not (_SERVER.match(following) and i > start):
                i += 1
                continue
            break
        if match := _SERVER.match(line):
            if status or answers:
                break
            server = match["server"]
        elif match := _CNAME.match(line):
            name = name or fqdn(match["name"])
            answers.append(Answer(fqdn(match["name"]), "CNAME", fqdn(match["target"])))
            before_name = False
        elif match := _NAME.match(line):
            current = fqdn(match["name"])
            name = name or current
            before_name = False
        elif match := _ADDRESS.match(line):
            if not before_name and is_ip(match["address"]):
                answers.append(
                    Answer(current or name, "AAAA" if ":" in match["address"] else "A", match["address"])
                )
        elif match := _FAILED.search(line):
            found = fqdn(match["name"] or match["name2"] or match["name3"] or "")
            name = name or found
            last = last or (found if found != name else "")
            why = (match["code"] or match["why"] or match["why2"] or "").lower()
            status = status or next((v for k, v in _WHY.items() if k in why), match["code"] or "NXDOMAIN")
        elif _TIMEOUT.search(line):
            status = status or "TIMEOUT"
        elif match := _HOST_NOT.match(line):
            name, status = name or fqdn(match["name"]), match["code"]
        elif match := _HOST_HAS.match(line):
            if match["address"] and is_ip(match["address"]):
                answers.append(
                    Answer(fqdn(match["name"]), "AAAA" if ":" in match["address"] else "A", match["address"])
                )
            elif match["alias"]:
                answers.append(Answer(fqdn(match["alias"]), "CNAME", fqdn(match["target"])))
            elif match["srv"]:
                answers.append(Answer(fqdn(match["srv"]), "SRV", match["data"]))
            else:
                break
            name = name or answers[0].name
        elif not _NON.match(line):
            break
        if _BUSYBOX.search(line):
            tool = "busybox nslookup"
        said.append(line)
        i += 1
    if not said or not (name or answers or status):
        return start, []
    return i, [
        DnsLookup(
            source=lines.source(start, i - 1),
            where=context.where,
            tool=tool,
            qname=name,
            qtype=qtype,
            server=server,
            status=status or ("NOERROR" if answers else ""),
            answers=tuple(answers),
            answer_count=len(answers) or None,
            text="; ".join(said[-3:]),
            last=last,
            absolute=absolute,
        )
    ]


def _type(argv: tuple[str, ...]) -> str:
    """The type that ``-type=X``, ``-q=X`` or ``-t X`` asks for."""
    for word, following in zip(argv, (*argv[1:], ""), strict=True):
        if match := re.fullmatch(r"-(?:type|query|querytype|q|ty)=(\w+)", word):
            return match[1].upper()
        if word == "-t" and following:
            return following.upper()
    return ""


def _continues(line: str) -> bool:
    return any(p.search(line) for p in (_SERVER, _ADDRESS, _NAME, _CNAME, _FAILED, _NON))


FORMAT = LineFormat("nslookup", _START, _read, priority=35)
