"""``istioctl x describe pod|service``: the Services of a pod, its rules, and the mutual-TLS mode that is in force.

Layouts of 1.5 ("Pod is STRICT") to 1.24 ("Workload mTLS mode: STRICT") (istio istioctl/pkg/describe).
"""

from __future__ import annotations

import re

from deadhop.evidence.fields import integer
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.kube import DestinationRule, PeerAuthentication, Service, ServicePort
from deadhop.model.observed.message import Message
from deadhop.model.record import Record

_SERVICE = re.compile(r"^Service: (?P<name>[\w-]+)(?:\.(?P<ns>[\w-]+))?\s*$")
_PORT = re.compile(
    r"^\s+Port: (?P<name>\S+) (?P<port>\d+)/(?P<proto>\S+)(?: targets pod port (?P<target>\w+))?\s*$"
)
_RULE = re.compile(r"^DestinationRule: (?P<name>[\w-]+)(?:\.(?P<ns>[\w-]+))? for \"(?P<host>[^\"]+)\"\s*$")
_MODE = re.compile(r"^\s*(?:Workload mTLS mode: |Pod is )(?P<mode>STRICT|PERMISSIVE|DISABLE)\b")
_WARNING = re.compile(r"^\s*(?:WARNING|Warning): (?P<text>\S.*)$")
_START = re.compile(
    r"^Service: [\w-]+(?:\.[\w-]+)?\s*$|^DestinationRule: \S+ for \"|^\s*Workload mTLS mode: |^\s*Pod is (?:STRICT|PERMISSIVE)|^\s+WARNING: "
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line, where = lines.text[i], context.where
    if match := _SERVICE.match(line):
        ports: list[ServicePort] = []
        end = i + 1
        while end < len(lines.text) and (port := _PORT.match(lines.text[end])):
            number = integer(port["port"])
            target = port["target"]
            if number is not None:
                ports.append(
                    ServicePort(
                        port=number,
                        name=port["name"],
                        target=integer(target) if target and target.isdigit() else target,
                    )
                )
            end += 1
        if not ports:
            return i, []
        return end, [
            Service(source=lines.source(i, end - 1), where=where, kind="Service", name=match["name"], namespace=match["ns"] or "", ports=tuple(ports))
        ]  # fmt: skip
    if match := _RULE.match(line):
        raw = {"kind": "DestinationRule", "spec": {"host": match["host"]}}
        return i + 1, [
            DestinationRule(source=lines.source(i), where=where, kind="DestinationRule", name=match["name"], namespace=match["ns"] or "", raw=raw)
        ]  # fmt: skip
    if match := _MODE.match(line):
        raw = {"kind": "PeerAuthentication", "spec": {"mtls": {"mode": match["mode"]}}}
        return i + 1, [
            PeerAuthentication(source=lines.source(i), where=where, kind="PeerAuthentication", raw=raw)
        ]
    if (match := _WARNING.match(line)) and context.ran("istioctl"):
        return i + 1, [
            Message(
                source=lines.source(i),
                where=where,
                emitter="istioctl-describe",
                kind="warning",
                text=match["text"],
            )
        ]
    return i, []


FORMAT = LineFormat("istioctl-describe", _START, _read, priority=33)
