"""``systemd-cgls``: which process runs in which container of which pod."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.kube import ContainerProcess
from deadhop.model.record import Record

_SLICE = re.compile(r"kubepods-(?:(?:burstable|besteffort)-)?pod(?P<uid>[0-9a-f_]{32,40})\.slice")
_SCOPE = re.compile(r"(?:crio|cri-containerd|docker|containerd)-(?P<id>[0-9a-f]{12,64})\.scope")
_PROCESS = re.compile(r"^[\s│├└─|`+-]*?[─-]\s*(?P<pid>\d+)\s+(?P<command>\S.*)$")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    start = i
    pod = container = ""
    records: list[Record] = []
    seen = False
    while i < len(lines.text):
        line = lines.text[i]
        if match := _SLICE.search(line):
            pod, container, seen = match["uid"].replace("_", "-"), "", True
        elif match := _SCOPE.search(line):
            container, seen = match["id"], True
        elif (match := _PROCESS.match(line)) and container:
            records.append(
                ContainerProcess(
                    source=lines.source(i),
                    where=context.where,
                    pid=int(match["pid"]),
                    command=match["command"].strip(),
                    container=container,
                    pod_uid=pod,
                )
            )
        elif not re.match(r"^\s*(Control group|CGroup|[│├└─|`]|\.\.\.|/\S*$)", line):
            break
        i += 1
    return (i, records) if seen else (start, [])


FORMAT = LineFormat("systemd-cgls", re.compile(r"^\s*Control group |kubepods.*\.slice"), _read, priority=30)
