"""What a session does with a TLS secret's ``tls.key`` and ``tls.crt``: shows its beginning, hands it to openssl, or takes
a digest of its public half. The data is never kept; a record says what is wrong with it.

Sources: kubectl get -o jsonpath, jq; base64(1); openssl-pkey(1), openssl-x509(1) (crypto/pem/pem_lib.c: no start line).
"""

from __future__ import annotations

import re

from deadhop.evidence.asked import operands, option
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.pem import decoded, fault
from deadhop.model.observed.message import Message
from deadhop.model.observed.shell import CommandRun
from deadhop.model.record import Record

_FIELD = re.compile(r"tls\\{0,2}\.(?P<part>key|crt)\b")
_DECODES = re.compile(r"^\s*base64\s+(?:-\w*[dD]\w*|--decode)|@base64d|base64decode")
_REFUSED = re.compile(
    r"[Uu]nable to load (?:\w+ )?(?:[Kk]ey|certificate)|Could not (?:read|find|open)[^\n]*(?:key|certificate)|PEM routines|:no start line:|bad base64 decode|[Ii]nvalid (?:PEM|key)|RSA key error"
)
_DIGEST = re.compile(
    r"^(?:\(?(?:std)?in\)?[= ]+|[\w()-]+\s*\(stdin\)= )?(?P<digest>[0-9a-f]{32,64})(?:\s+-)?\s*$"
)


def _secret(command: CommandRun) -> str:
    names = [
        n.partition("/")[2] or n for n in operands(command.argv, "get") if not re.fullmatch(r"secrets?", n)
    ]
    space = option(command.argv, "-n", "--namespace")
    return f"{space}/{names[0]}" if names and space else names[0] if names else ""


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    command = context.command
    field = _FIELD.search(command.line) if command else None
    if command is None or field is None or "secret" not in command.line:
        return i, []
    part, line, filters = f"tls.{field['part']}", lines.text[i].strip(), command.filters
    fields: tuple[tuple[str, str], ...] = (("secret", _secret(command)), ("part", part))
    kind = why = ""
    decodes = sum(bool(_DECODES.search(f)) for f in filters) + (
        "base64decode" in command.line and not filters
    )
    if any("openssl" in f for f in filters):
        digest = _DIGEST.match(line)
        if digest and any(w in " ".join(filters) for w in ("-modulus", "-pubkey", "-pubout")):
            kind, fields = "secret-digest", (*fields, ("digest", digest["digest"]))
        elif _REFUSED.search(line):
            why = f"openssl cannot read {part}"
    else:
        why = fault(part, line if decodes else decoded(line))
        if decodes > 1 and line.startswith("-----BEGIN "):
            why = f"{part} is encoded twice"
    if why:
        kind, fields = "secret-malformed", (*fields, ("why", why))
    if not kind:
        return i, []
    return i + 1, [Message(source=lines.source(i), where=context.where, emitter="kubectl", kind=kind, fields=fields, text=why or f"digest of {part}")]  # fmt: skip


FORMAT = LineFormat(
    "secret-data",
    re.compile(rf"^\s*(?:-----BEGIN|[A-Za-z0-9+/]{{16,}}|\\n-----)|{_REFUSED.pattern}|[0-9a-f]{{32}}"),
    _read,
    priority=9,
)
