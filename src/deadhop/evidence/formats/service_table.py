"""The services that a node's proxy holds, by address and port: ``ipvsadm -Ln`` and ``-Sn``, ``cilium service list``,
``cilium bpf lb list``.

Sources: ipvsadm(8); Cilium cilium-dbg/cmd/service_list.go (ID, Frontend, Service Type, Backend), bpf_lb_list.go.
"""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.node import Frontend
from deadhop.model.record import Record

_V4 = r"\d{1,3}(?:\.\d{1,3}){3}"
_END = rf"(?:{_V4}|\[[0-9a-fA-F:]+\])"
_IPVS = re.compile(rf"^\s*(?P<proto>TCP|UDP|SCTP)\s+(?P<vip>{_END}):(?P<port>\d{{1,5}})\s+(?:rr|wrr|lc|wlc|lblc|lblcr|dh|sh|mh|sed|nq|ovf|fo|twos)\b")  # fmt: skip
_REAL = re.compile(rf"^\s*->\s+(?P<to>{_END}:\d{{1,5}})\s+(?:Masq|Route|Tunnel|Local)\b")
_SAVED = re.compile(rf"^\s*-A -(?P<proto>[tu]) (?P<vip>{_END}):(?P<port>\d{{1,5}}) -s \w+")
_SAVED_REAL = re.compile(rf"^\s*-a -[tu] {_END}:\d{{1,5}} -r (?P<to>{_END}:\d{{1,5}})\b")
_CILIUM = re.compile(
    rf"^\s*\d+\s+(?P<vip>{_END}):(?P<port>\d{{1,5}})(?:/(?P<proto>TCP|UDP|SCTP|ANY))?(?:/[ie])?\s+(?:ClusterIP|NodePort|LoadBalancer|ExternalIPs?|HostPort|LocalRedirect)\b(?P<rest>.*)$"
)
_ARROW = re.compile(rf"^\s*(?:\S.*?\s)?\d+ => (?P<to>{_END}:\d{{1,5}})")
_MAP = re.compile(
    rf"^\s*(?P<vip>{_END}):(?P<port>\d{{1,5}})(?:/(?P<proto>TCP|UDP|SCTP|ANY))?(?:/[ie])? \(\d+\)\s+(?P<to>{_END}:\d{{1,5}}) \(\d+\)(?: \(\d+\))?"
)


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    match = _IPVS.match(line) or _SAVED.match(line) or _CILIUM.match(line) or _MAP.match(line)
    if match is None:
        return i, []
    told = match.groupdict()
    proto = {"t": "tcp", "u": "udp", "any": ""}.get(
        (told["proto"] or "").lower(), (told["proto"] or "").lower()
    )
    behind = [told["to"]] if told.get("to") and not told["to"].startswith("0.0.0.0") else []
    if first := _ARROW.match(told.get("rest") or ""):
        behind.append(first["to"])
    k = i + 1
    while k < len(lines.text) and "to" not in told:
        real = _REAL.match(lines.text[k]) or _SAVED_REAL.match(lines.text[k]) or _ARROW.match(lines.text[k])
        if real is None or _CILIUM.match(lines.text[k]):
            break
        behind.append(real["to"])
        k += 1
    return k, [
        Frontend(
            source=lines.source(i, k - 1), where=context.where, address=told["vip"].strip("[]"), port=int(told["port"]),
            protocol=proto, backends=tuple(behind),
        )
    ]  # fmt: skip


FORMAT = LineFormat(
    "service-table",
    re.compile(rf"^\s*(?:(?:TCP|UDP|SCTP|\d+|-A -[tu])\s+)?{_END}:\d{{1,5}}"),
    _read,
    priority=22,
)
