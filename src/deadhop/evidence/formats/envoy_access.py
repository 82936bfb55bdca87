"""Envoy access logs in Istio's default format: text (current and older layouts) and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deadhop.evidence.fields import integer, rfc3339
from deadhop.evidence.format import Context, LineFormat, Lines, Locate, ValueFormat
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.record import Record

#: The time may be cut off; what then stands first on the line is the request, and behind the status Envoy's flags.
_START = re.compile(
    r"\[\d{4}-\d\d-\d\dT[^\]]+\] \"|^\s*\"[A-Z]+ \S+ HTTP/[\d.]+\" \d{1,3} (?:-|[A-Z]{2,5}(?:,[A-Z]{2,5})*) "
)
_HEAD = re.compile(
    r"(?:\[(?P<time>\d{4}-\d\d-\d\dT[^\]]+)\] |^\s*(?=\"[A-Z]+ \S+ HTTP/))\"(?P<request>[^\"]*)\" (?P<status>\d+|-) (?P<flags>\S+)(?P<rest>.*)$"
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
        time=rfc3339(match["time"]) if match["time"] else None,
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


#: Names that people give to the operators of a JSON format (Envoy, access log command operators).
_NAMES: dict[str, tuple[str, ...]] = {
    "time": ("start_time", "ts", "time", "timestamp", "@timestamp", "t"),
    "method": ("method", "m", "verb", "request_method", "req_method"),
    "path": ("path", "p", "uri", "x_envoy_original_path", "request_path"),
    "protocol": ("protocol", "proto"),
    "status": ("response_code", "code", "status", "status_code", "rc"),
    "flags": ("response_flags", "flags", "rf", "flag", "responseFlags"),
    "details": ("response_code_details", "details", "rcd", "code_details"),
    "termination": ("connection_termination_details", "ctd", "termination"),
    "transport": ("upstream_transport_failure_reason", "utfr", "transport_failure", "upstream_failure"),
    "received": ("bytes_received", "rx", "bytes_in"),
    "sent": ("bytes_sent", "tx", "bytes_out"),
    "duration": ("duration", "dur", "ms", "duration_ms"),
    "agent": ("user_agent", "ua"),
    "id": ("request_id", "rid", "x_request_id"),
    "authority": ("authority", "host", "auth", ":authority"),
    "upstream": ("upstream_host", "upstream", "uh", "upstream_addr"),
    "cluster": ("upstream_cluster", "cluster", "uc"),
    "up_local": ("upstream_local_address", "upstream_local", "ul", "ula"),
    "down_local": ("downstream_local_address", "downstream_local", "dl", "dla"),
    "down_remote": ("downstream_remote_address", "downstream_remote", "downstream", "dr", "client"),
    "sni": ("requested_server_name", "sni"),
    "route": ("route_name", "route"),
    "xff": ("x_forwarded_for", "xff"),
}


def _named(value: dict[str, Any], field: str) -> str:
    key = next((k for k in _NAMES[field] if value.get(k) is not None), "")
    shown = value.get(key)
    return _clean(str(shown)) if key and not isinstance(shown, (dict, list)) else ""


def _match(value: Any) -> bool:
    """A line with Envoy's flags in Envoy's form and a status; short names ask for an upstream beside them."""
    if not isinstance(value, dict) or "kind" in value:
        return False
    if "response_flags" in value:
        return bool(value.keys() & {"response_code", "upstream_cluster", "authority"})
    flags = next((value[k] for k in _NAMES["flags"] if k in value), None)
    if not isinstance(flags, str) or not _FLAGS.match(flags):
        return False
    return bool(re.fullmatch(r"\d{1,3}", _named(value, "status") or "0")) and bool(
        _named(value, "upstream") or _named(value, "cluster")
    )


def _read_json(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    def text(field: str) -> str:
        return _named(value, field)

    yield EnvoyAccess(
        source=locate(),
        where=context.where,
        time=rfc3339(text("time")),
        method=text("method"),
        path=text("path"),
        protocol=text("protocol"),
        status=integer(text("status"), 0) or 0,
        flags=frozenset(f for f in text("flags").split(",") if f),
        details=text("details"),
        termination=text("termination"),
        transport_failure=text("transport"),
        received=integer(text("received")),
        sent=integer(text("sent")),
        duration_ms=integer(text("duration")),
        user_agent=text("agent"),
        request_id=text("id"),
        authority=text("authority"),
        upstream_host=text("upstream"),
        cluster=text("cluster"),
        upstream_local=text("up_local"),
        downstream_local=text("down_local"),
        downstream_remote=text("down_remote"),
        sni=text("sni"),
        route=text("route"),
        forwarded_for=text("xff"),
    )


FORMATS = (
    LineFormat("envoy-access", _START, _read, priority=12),
    ValueFormat("envoy-access-json", _match, _read_json, priority=10),
)
