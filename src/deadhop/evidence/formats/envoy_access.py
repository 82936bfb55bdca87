"""Envoy access logs in Istio's default format: text (current and older layouts) and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deadhop.evidence.fields import integer, rfc3339
from deadhop.evidence.format import Context, LineFormat, Lines, Locate, ValueFormat
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.record import Record

_START = re.compile(r"\[\d{4}-\d\d-\d\dT[^\]]+\] \"")
_HEAD = re.compile(
    r"\[(?P<time>\d{4}-\d\d-\d\dT[^\]]+)\] \"(?P<request>[^\"]*)\" (?P<status>\d+|-) (?P<flags>\S+)(?P<rest>.*)$"
)
_TOKEN = re.compile(r"\"([^\"]*)\"|(\S+)")
_FLAGS = re.compile(r"^(?:-|[A-Z]{2,5}(?:,[A-Z]{2,5})*)$")


def _clean(text: str | None) -> str:
    return "" if text in (None, "-") else str(text)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    records: list[Record] = []
    start = i
    while i < len(lines.text) and (match := _HEAD.search(lines.text[i])):
        if not _FLAGS.match(match["flags"]):
            break
        records.append(_line(lines, i, context, match))
        i += 1
    return (i, records) if records else (start, [])


def _line(lines: Lines, i: int, context: Context, match: re.Match[str]) -> EnvoyAccess:
    method, _, rest = match["request"].partition(" ")
    path, _, protocol = rest.rpartition(" ")
    tokens = [(m[1] if m[1] is not None else m[2], m[1] is not None) for m in _TOKEN.finditer(match["rest"])]
    values = [t for t, _quoted in tokens]
    fields: dict[str, str] = {}
    # The details and the termination details came with Istio 1.7; before, the quoted failure reason or the bytes follow.
    plain = 0
    while plain < len(tokens) and not tokens[plain][1] and not tokens[plain][0].isdigit():
        plain += 1
    if plain >= 1:
        fields["details"] = values[0]
    if plain >= 2:
        fields["termination"] = values[1]
    at = plain
    # Istio 1.4 to 1.6 put the policy check's status, quoted, before the quoted failure reason.
    if at + 2 < len(tokens) and tokens[at][1] and tokens[at + 1][1] and not tokens[at + 2][1]:
        at += 1
    if at < len(tokens) and tokens[at][1] and (at + 1 >= len(tokens) or not tokens[at + 1][1]):
        fields["transport"] = values[at]
        at += 1
    for name in ("received", "sent", "duration", "service_time"):
        if at < len(tokens) and not tokens[at][1]:
            fields[name] = values[at]
            at += 1
    for name in ("xff", "agent", "id", "authority", "upstream"):
        if at < len(tokens) and tokens[at][1]:
            fields[name] = values[at]
            at += 1
    for name in ("cluster", "up_local", "down_local", "down_remote", "sni", "route"):
        if at < len(tokens):
            fields[name] = values[at]
            at += 1
    return EnvoyAccess(
        source=lines.source(i),
        where=context.where,
        time=rfc3339(match["time"]),
        method=_clean(method),
        path=_clean(path),
        protocol=_clean(protocol),
        status=integer(match["status"], 0) or 0,
        flags=frozenset(f for f in match["flags"].split(",") if f != "-"),
        details=_clean(fields.get("details")),
        termination=_clean(fields.get("termination")),
        transport_failure=_clean(fields.get("transport")),
        received=integer(fields.get("received")),
        sent=integer(fields.get("sent")),
        duration_ms=integer(fields.get("duration")),
        user_agent=_clean(fields.get("agent")),
        request_id=_clean(fields.get("id")),
        authority=_clean(fields.get("authority")),
        upstream_host=_clean(fields.get("upstream")),
        cluster=_clean(fields.get("cluster")),
        upstream_local=_clean(fields.get("up_local")),
        downstream_local=_clean(fields.get("down_local")),
        downstream_remote=_clean(fields.get("down_remote")),
        sni=_clean(fields.get("sni")),
        route=_clean(fields.get("route")),
        forwarded_for=_clean(fields.get("xff")),
    )


def _match(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and "response_flags" in value
        and bool(value.keys() & {"response_code", "upstream_cluster", "authority"})
    )


def _read_json(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    def text(key: str) -> str:
        return _clean(str(value[key])) if value.get(key) is not None else ""

    yield EnvoyAccess(
        source=locate(),
        where=context.where,
        time=rfc3339(text("start_time")),
        method=text("method"),
        path=text("path"),
        protocol=text("protocol"),
        status=integer(text("response_code"), 0) or 0,
        flags=frozenset(f for f in text("response_flags").split(",") if f),
        details=text("response_code_details"),
        termination=text("connection_termination_details"),
        transport_failure=text("upstream_transport_failure_reason"),
        received=integer(text("bytes_received")),
        sent=integer(text("bytes_sent")),
        duration_ms=integer(text("duration")),
        user_agent=text("user_agent"),
        request_id=text("request_id"),
        authority=text("authority"),
        upstream_host=text("upstream_host"),
        cluster=text("upstream_cluster"),
        upstream_local=text("upstream_local_address"),
        downstream_local=text("downstream_local_address"),
        downstream_remote=text("downstream_remote_address"),
        sni=text("requested_server_name"),
        route=text("route_name"),
        forwarded_for=text("x_forwarded_for"),
    )


FORMATS = (
    LineFormat("envoy-access", _START, _read, priority=12),
    ValueFormat("envoy-access-json", _match, _read_json, priority=10),
)
