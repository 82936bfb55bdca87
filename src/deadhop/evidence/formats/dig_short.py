"""The bare answers of ``dig +short`` and of ``getent hosts``/``ahosts``, which mean something only behind their command."""

from __future__ import annotations

import re

from deadhop.evidence.fields import fqdn, is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.formats.dig import question
from deadhop.model.observed.dns import Answer, DnsLookup
from deadhop.model.record import Record

_NAME = re.compile(r"^[\w-]+(?:\.[\w-]+)+\.$")


#: One dig within a loop: ``for i in …; do dig +short NAME; done``.
_LOOPED = re.compile(r"\b(?:do|then|while|;)\s+((?:k?dig)\s[^;|&]*\+short[^;|&]*)")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    command = context.command
    if command is None or command.source.line < lines.first + i - 1:
        return i, []
    argv = command.argv
    if not context.ran("dig", "kdig") and (looped := _LOOPED.findall(command.line)):
        argv = tuple(looped[0].split()) if len(looped) == 1 and "$" not in looped[0] else argv
    short = "+short" in argv
    if not short and not (
        context.ran("getent") and len(command.argv) > 2 and command.argv[1].startswith(("hosts", "ahosts"))
    ):
        return i, []
    name, qtype, server, transport = question(argv) if short else (fqdn(command.argv[2]), "", "", "")
    start, answers = i, []
    while i < len(lines.text) and (words := lines.text[i].split()):
        value = words[0]
        if is_ip(value):
            shown = fqdn(words[1]) if not short and len(words) > 1 and "." in words[1] else name
            answers.append(Answer(shown, "AAAA" if ":" in value else "A", value))
        elif short and len(words) == 1 and _NAME.match(value):
            answers.append(Answer(name, "CNAME", fqdn(value)))
        else:
            break
        i += 1
    if not answers:
        return start, []
    return i, [
        DnsLookup(
            source=lines.source(start, i - 1), where=context.where, tool="dig" if short else "getent", qname=name, qtype=qtype, server=server,
            status="NOERROR", answers=tuple(answers), answer_count=len(answers), transport=transport,
        )
    ]  # fmt: skip


FORMAT = LineFormat(
    "dig-short", re.compile(r"^\s*(?:[0-9a-fA-F:.]+|[\w-]+(?:\.[\w-]+)+\.)(?:\s|$)"), _read, priority=15
)
