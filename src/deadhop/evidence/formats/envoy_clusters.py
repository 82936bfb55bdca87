"""Envoy's ``/clusters`` as text: ``outbound|80||shop.default.svc.cluster.local::10.0.0.9:8080::health_flags::healthy``.

Reference: envoy ``source/server/admin/clusters_handler.cc`` (``writeClustersAsText``).
"""

from __future__ import annotations

import re
from typing import Any

from deadhop.evidence.envoy_whole import owner_of_context
from deadhop.evidence.fields import host_port, integer
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.proxy import ProxyDump, ProxyResource
from deadhop.model.record import Record

_LINE = re.compile(r"^(?P<cluster>[^\s:]\S*?)::(?P<what>\S+?)::(?P<key>\w+)(?:::(?P<value>\S*))?\s*$")
_FLAT = re.compile(r"^(?P<cluster>[^\s:]\S*?)::(?P<key>observability_name|added_via_api|eds_service_name)::(?P<value>\S*)\s*$")  # fmt: skip
_START = re.compile(
    r"^\S+?::(?:observability_name|added_via_api|eds_service_name|default_priority|high_priority)::|^\S+?::\S+:\d+::(?:cx_active|cx_connect_fail|health_flags|rq_total|weight|region|hostname)::"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    first = i
    hosts: dict[str, dict[str, dict[str, Any]]] = {}
    begins: dict[str, int] = {}
    while i < len(lines.text):
        line = lines.text[i]
        flat = _FLAT.match(line)
        match = flat or _LINE.match(line)
        if match is None:
            break
        cluster = match["cluster"]
        begins.setdefault(cluster, i)
        known = hosts.setdefault(cluster, {})
        if flat is None:
            address, port = host_port(match["what"])
            if port is not None:
                _host(known, match["what"], address, port, match["key"], match["value"] or "")
        i += 1
    if not hosts:
        return first, []
    owner = owner_of_context(context)
    whole = "PassthroughCluster" in hosts and "BlackHoleCluster" in hosts
    records: list[Record] = [
        ProxyDump(source=lines.source(first, i - 1), where=context.where, proxy=owner, **({"whole": ("hosts",)} if whole else {"part": ("hosts",)}))  # type: ignore[arg-type]
    ]  # fmt: skip
    reading = str(records[0].source)
    for cluster, members in hosts.items():
        raw = {"name": cluster, "host_statuses": list(members.values())}
        records.append(ProxyResource(source=lines.source(begins[cluster]), where=context.where, proxy=owner, reading=reading, kind="hosts", name=cluster, raw=raw))  # fmt: skip
    return i, records


def _host(
    known: dict[str, dict[str, Any]], shown: str, address: str, port: int, key: str, value: str
) -> None:
    entry = known.setdefault(
        shown,
        {
            "address": {"socket_address": {"address": address.strip("[]"), "port_value": port}},
            "health_status": {"eds_health_status": "HEALTHY"},
        },
    )
    if key == "health_flags" and value != "healthy":
        failed = {
            "/failed_active_hc": "failed_active_health_check",
            "/failed_outlier_check": "failed_outlier_check",
        }
        health = entry["health_status"]
        for word, field in failed.items():
            if word in value:
                health[field] = True
        if "/failed_eds_health" in value or "/eds_status_draining" in value:
            health["eds_health_status"] = "UNHEALTHY"
    elif key == "priority":
        entry["priority"] = integer(value, 0)


FORMAT = LineFormat("envoy-clusters", _START, _read, priority=18)
