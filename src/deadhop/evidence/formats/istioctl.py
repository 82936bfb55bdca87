"""istioctl's tables and findings: ``proxy-config``, ``proxy-status``, ``version``, ``analyze``, ``authn tls-check``."""

# ruff: noqa: ARG001 - every row reader has the same shape
from __future__ import annotations

import re

from deadhop.evidence.fields import host_port, integer
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.mesh import (
    EnvoyCluster,
    EnvoyEndpoint,
    EnvoyListener,
    EnvoyRouteHost,
    MeshVersion,
    ProxySync,
)
from deadhop.model.observed.message import Message
from deadhop.model.record import Record

_LISTENERS = re.compile(r"^\s*ADDRESS(?:ES)?\s+PORT\s+(?:TYPE|MATCH)")
_ROUTES = re.compile(r"^\s*NAME\s+(?:VHOST NAME\s+)?DOMAINS\s+MATCH")
_CLUSTERS = re.compile(r"^\s*SERVICE FQDN\s+PORT\s+SUBSET\s+DIRECTION")
_ENDPOINTS = re.compile(r"^\s*ENDPOINT\s+STATUS\s+(?:OUTLIER CHECK\s+)?CLUSTER")
_STATUS = re.compile(r"^\s*(?:NAME|PROXY)\s+(?:CLUSTER\s+)?(?:[A-Z]DS\s+){2,}")
_TLS_CHECK = re.compile(r"^\s*HOST:PORT\s+STATUS\s+SERVER\s+CLIENT")
_ANALYZE = re.compile(
    r"^\s*(?P<level>Error|Warning|Info|Warn)\s*\[(?P<code>IST\d{4})\]\s*\((?P<object>[^)]*)\)\s*(?P<text>.*)$"
)
_VERSION = re.compile(
    r"^\s*(?:(?P<role>client|control plane|data plane|pilot|istiod|citadel|galley) version:|(?P<json>never))\s*(?P<v>\S.*)$"
)
_COUNTED = re.compile(r"(?P<v>[\w.+-]+) \((?P<n>\d+) prox(?:y|ies)\)")
_SYNC = ("SYNCED", "STALE", "NOT SENT", "IGNORED", "ERROR", "NACKED")
_ENDPOINT_ROW = re.compile(
    r"^\s*(?P<a>\S+:\d+|unix://\S+)\s+(?P<s>HEALTHY|UNHEALTHY|DRAINING|DEGRADED|UNKNOWN|TIMEOUT)\s+(?:(?:OK|FAILED)\s+)?(?P<c>\S+)\s*$"
)
_CLUSTER_ROW = re.compile(
    r"^\s*(?P<fqdn>\S+)\s+(?P<port>\d+|-)\s+(?P<subset>\S+)\s+(?P<dir>outbound|inbound|-)\s+(?P<type>\S+)(?:\s+(?P<rule>\S.*?))?\s*$"
)
_LISTENER_ROW = re.compile(
    r"^\s*(?P<a>\d+\.\d+\.\d+\.\d+(?:,[\d.:]+)?|::|\S*:\S*:\S*)\s+(?P<port>\d+)\s+(?P<rest>\S.*?)\s*$"
)
_ROUTE_ROW = re.compile(r"^\s*(?P<name>\S+)\s{2,}(?P<rest>\S.*)$")
_START = re.compile(
    r"^\s*(?:ADDRESS(?:ES)?\s+PORT|NAME\s+(?:VHOST NAME\s+)?DOMAINS|SERVICE FQDN|ENDPOINT\s+STATUS|(?:NAME|PROXY)\s+(?:CLUSTER\s+)?[A-Z]DS|HOST:PORT\s+STATUS)|\[IST\d{4}\]|^\s*(?:client|control plane|data plane|pilot) version:|\s(?:HEALTHY|UNHEALTHY)\s+\S+|\s(?:SYNCED|STALE|NOT SENT)\b"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    where = context.where
    if match := _ANALYZE.match(line):
        fields = (("level", match["level"]), ("object", match["object"]), ("text", match["text"]))
        return i + 1, [Message(source=lines.source(i), where=where, emitter="istioctl-analyze", kind=match["code"], fields=fields, text=line.strip()[:500])]  # fmt: skip
    if match := _VERSION.match(line):
        role = {"client": "client", "data plane": "data-plane"}.get(match["role"], "control-plane")
        counted = [(m["v"], int(m["n"])) for m in _COUNTED.finditer(match["v"])]
        single = match["v"].split()[0].strip('{}",') if match["v"].split() else ""
        versions = counted or ([(single, 1)] if re.match(r"^v?\d+\.\d+", single) else [])
        return (i + 1 if versions else i), [
            MeshVersion(source=lines.source(i), where=where, role=role, version=v, count=n)
            for v, n in versions
        ]
    for head, row in _TABLES:
        if head.match(line):
            return _table(lines, i + 1, context, row, line)
    for pattern, row in ((_ENDPOINT_ROW, _endpoint), (re.compile(r"\s(?:SYNCED|STALE|NOT SENT)\b"), _sync)):
        if pattern.search(line):
            record = row(lines, i, context, "")
            return (i + 1, [record]) if record else (i, [])
    return i, []


def _table(lines: Lines, i: int, context: Context, row, head: str) -> tuple[int, list[Record]]:  # type: ignore[no-untyped-def]
    records: list[Record] = []
    while i < len(lines.text) and lines.text[i].strip():
        record = row(lines, i, context, head)
        if record is None:
            if lines.text[i].strip() not in ("...", "…"):
                break
        else:
            records.append(record)
        i += 1
    return i, records


def _listener(lines: Lines, i: int, context: Context, head: str) -> Record | None:
    match = _LISTENER_ROW.match(lines.text[i])
    if not match:
        return None
    rest = match["rest"]
    destination = re.split(r"\s{2,}", rest)[-1]
    http = (
        True
        if re.search(r"\bRoute: |App: http|^HTTP$", rest)
        else (False if re.match(r"^TCP$|.*Cluster:", rest) else None)
    )
    return EnvoyListener(source=lines.source(i), where=context.where, name=f"{match['a']}_{match['port']}", address=match["a"], port=int(match["port"]), destination=destination, http=http, chains=(rest,))  # fmt: skip


def _route(lines: Lines, i: int, context: Context, head: str) -> Record | None:
    match = _ROUTE_ROW.match(lines.text[i])
    if not match:
        return None
    cells = re.split(r"\s{2,}", match["rest"].strip())
    vhost, domains = (
        (cells[0], cells[1] if len(cells) > 1 else "") if "VHOST NAME" in head else ("", cells[0])
    )
    return EnvoyRouteHost(source=lines.source(i), where=context.where, route=match["name"], vhost=vhost, domains=tuple(d.strip() for d in domains.split(",") if d.strip()))  # fmt: skip


def _cluster(lines: Lines, i: int, context: Context, head: str) -> Record | None:
    match = _CLUSTER_ROW.match(lines.text[i])
    if not match:
        return None
    subset = "" if match["subset"] == "-" else match["subset"]
    name = (
        f"{match['dir']}|{match['port']}|{subset}|{match['fqdn']}" if match["dir"] != "-" else match["fqdn"]
    )
    return EnvoyCluster(
        source=lines.source(i), where=context.where, name=name, type=match["type"], rule=match["rule"] or ""
    )


def _endpoint(lines: Lines, i: int, context: Context, head: str) -> Record | None:
    match = _ENDPOINT_ROW.match(lines.text[i])
    if not match:
        return None
    return EnvoyEndpoint(
        source=lines.source(i), where=context.where, address=match["a"], status=match["s"], cluster=match["c"]
    )


def _sync(lines: Lines, i: int, context: Context, head: str) -> Record | None:
    cells = re.split(r"\s{2,}|\t", re.sub(r"\s*\([^)]*\)", "", lines.text[i].strip()))
    states = [c for c in cells[1:] if c.upper().startswith(_SYNC)]
    if not states or len(cells) < 2 or "=" in cells[0]:
        return None
    kinds = re.findall(r"\b[A-Z]+DS\b", head) or ["CDS", "LDS", "EDS", "RDS", "ECDS"]
    version = cells[-1] if re.match(r"^v?\d+\.\d+", cells[-1]) else ""
    return ProxySync(source=lines.source(i), where=context.where, proxy=cells[0], states=tuple(zip(kinds, (s.upper() for s in states), strict=False)), version=version)  # fmt: skip


def _tls(lines: Lines, i: int, context: Context, head: str) -> Record | None:
    cells = re.split(r"\s{2,}", lines.text[i].strip())
    if len(cells) < 4 or integer(str(host_port(cells[0])[1])) is None:
        return None
    fields = (
        ("host", cells[0]),
        ("status", cells[1]),
        ("server", cells[2]),
        ("client", cells[3]),
        ("rules", " ".join(cells[4:])),
    )
    return Message(
        source=lines.source(i),
        where=context.where,
        emitter="istioctl",
        kind="tls-check",
        fields=fields,
        text=lines.text[i].strip(),
    )


_TABLES = ((_LISTENERS, _listener), (_ROUTES, _route), (_CLUSTERS, _cluster), (_ENDPOINTS, _endpoint), (_STATUS, _sync), (_TLS_CHECK, _tls))  # fmt: skip
FORMAT = LineFormat("istioctl", _START, _read, priority=19)
