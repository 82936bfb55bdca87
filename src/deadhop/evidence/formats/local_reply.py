"""Bodies that a proxy generates itself: Envoy's local replies, nginx's error pages, standing alone on a line."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from deadhop.evidence.fields import is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.envoy_flags import RESET_STATUS
from deadhop.model.observed.http import ErrorPage, HttpExchange, LocalReply
from deadhop.model.record import Record, Source

_ENVOY = re.compile(
    r"^\W{0,3}(?:[a-z]+: )?upstream connect error or disconnect/reset before headers\.? ?(?P<retried>retried and the latest )?(?:reset reason: (?P<reason>[a-z ]+?))?(?:, transport failure reason: (?P<transport>.*?))?\W{0,3}$"
)
_OTHER = re.compile(
    r"^\W{0,2}(?P<text>no healthy upstream|upstream request timeout|RBAC: access denied|local_rate_limited|Upgrade Required|fault filter abort|Jwt is missing|Jwt verification fails|Access denied)\W{0,3}$"
)
#: The status of the bodies that are no 503 (envoy filters of these names).
STATUS = {
    "RBAC: access denied": 403, "upstream request timeout": 504, "local_rate_limited": 429, "Upgrade Required": 426,
    "Jwt is missing": 401, "Jwt verification fails": 401, "Access denied": 403,
}  # fmt: skip
_PAGE = re.compile(r"(?:<title>|<h1>)\s*(?P<status>[45]\d\d) (?P<text>[^<]+?)\s*</(?:title|h1)>", re.I)
_SERVER = re.compile(
    r"<center>\s*(?P<server>nginx|openresty|Apache|cloudflare|awselb)[^<]*</center>|<address>(?P<apache>Apache)",
    re.I,
)


def body_record(line: str, source: Source, where: str = "") -> Record | None:
    """The record of a generated body on ``line``, or None for any other text."""
    if match := _ENVOY.match(line.strip()):
        return LocalReply(
            source=source, where=where, reset_reason=(match["reason"] or "").strip(), transport_failure=(match["transport"] or "").strip(),
            retried=bool(match["retried"]), text=line.strip(),
        )  # fmt: skip
    if match := _OTHER.match(line.strip()):
        return LocalReply(source=source, where=where, text=match["text"])
    return None


def _session(record: Record, lines: Lines, i: int, context: Context) -> list[Record]:
    """The client's session that printed nothing but this body: the command stands right above it."""
    command = context.command
    if not (
        command
        and isinstance(record, LocalReply)
        and context.ran("curl")
        and command.source.line == lines.source(i).line - 1
    ):
        return []
    try:
        words = list(command.argv[1:])
        url = next((w for w in words if "://" in w), "")
        host = next((w.partition(":")[2].strip() for w in words if w.lower().startswith("host:")), "")
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return []
    status = STATUS.get(record.text, RESET_STATUS.get(record.reset_reason, 503))
    return [HttpExchange(source=record.source, where=context.where, url=url, host=host or name, dialled=name if is_ip(name) else "", port=port, status=status, body=record.text)]  # fmt: skip


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    if record := body_record(lines.text[i], lines.source(i), context.where):
        return i + 1, [*_session(record, lines, i, context), record]
    match = _PAGE.search(lines.text[i])
    if not match:
        return i, []
    start = i
    server = ""
    while (
        i < len(lines.text)
        and i < start + 12
        and re.search(r"</?(?:html|head|title|body|center|hr|h1|address|p)\b", lines.text[i], re.I)
    ):
        if found := _SERVER.search(lines.text[i]):
            server = (found["server"] or found["apache"] or "").lower()
        i += 1
    return i, [
        ErrorPage(
            source=lines.source(start, i - 1),
            where=context.where,
            server=server,
            status=int(match["status"]),
            text=match["text"],
        )
    ]


FORMAT = LineFormat(
    "local-reply",
    re.compile(
        r"upstream connect error|no healthy upstream|upstream request timeout|RBAC: access|<title>|<h1>|local_rate_limited|Upgrade Required|Jwt |fault filter|Access denied"
    ),
    _read,
    priority=26,
)
