"""Flags of a node's Kubernetes service: ``ExecStart=`` of a unit with its continued lines, a process list, or one flag that
grep left of it (systemd.service(5); docs.k3s.io, "Server configuration")."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.record import Record

_PROGRAMS = (
    r"(?:k3s|rke2|k0s|kubelet|kube-router|kube-proxy|kube-apiserver|kube-controller-manager|dockerd|flanneld)"
)
_EXEC = re.compile(rf"^\s*ExecStart=\S*/{_PROGRAMS}\b|(?:^|\s)/(?:\S*/)?{_PROGRAMS}\s+(?:server|agent|-)")
_FLAG = re.compile(r"(?:^|\s)['\"]?--(?P<key>[a-z][a-z0-9-]*)(?:=(?P<value>[^\s'\"\\]+))?(?=['\"\s\\]|$)")
_ALONE = re.compile(r"^\s*['\"]?--disable-(?:network-policy|kube-proxy)(?:=\w+)?['\"]?\s*\\?\s*$")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    start, first = i, lines.text[i]
    if not _EXEC.search(first) and not _ALONE.match(first):
        return i, []
    records: list[Record] = []
    while i < len(lines.text) and i - start < 200:
        line = lines.text[i]
        for match in _FLAG.finditer(line):
            value = match["value"] or "true"
            records.append(
                CiliumOption(source=lines.source(i), where=context.where, key=match["key"], value=value)
            )
        i += 1
        if not line.rstrip().endswith("\\"):
            break
    return (i, records) if records else (start, [])


FORMAT = LineFormat(
    "unit-flags",
    re.compile(rf"ExecStart=\S*/{_PROGRAMS}|/{_PROGRAMS}\s|--disable-(?:network|kube)"),
    _read,
    priority=9,
)
