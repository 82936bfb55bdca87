"""Lines that grep left of ``kubectl describe node NAME`` or of its YAML: CNI annotations and the internal address."""

from __future__ import annotations

import re

from deadhop.evidence.asked import operands
from deadhop.evidence.fields import is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.kinds import kind_of
from deadhop.model.observed.kube import Node
from deadhop.model.record import Record

_ANNOTATION = re.compile(
    r"^\s*(?:Annotations:\s+)?(?P<key>(?:projectcalico\.org|flannel\.alpha\.coreos\.com|network\.cilium\.io|io\.cilium\.network|k8s\.ovn\.org|kubernetes\.io)/[\w.-]+):\s+\"?(?P<value>[^\s\"]+)\"?\s*$"
)
_ADDRESS = re.compile(r"^\s*InternalIP:\s+(?P<ip>[0-9a-fA-F.:]+)\s*$")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    command = context.command
    if command is None or command.program != "kubectl" or not command.filters:
        return i, []
    words = operands(command.argv, "describe") or operands(command.argv, "get")
    if not words or kind_of(words[0]) != "Node":
        return i, []
    name = words[0].partition("/")[2] or (words[1] if len(words) == 2 else "")
    start, annotations, addresses = i, dict[str, str](), list[dict[str, str]]()
    while i < len(lines.text):
        if match := _ANNOTATION.match(lines.text[i]):
            if match["key"] in annotations:
                break
            annotations[match["key"]] = match["value"]
        elif (match := _ADDRESS.match(lines.text[i])) and is_ip(match["ip"]):
            if addresses:
                break
            addresses.append({"type": "InternalIP", "address": match["ip"]})
        else:
            break
        i += 1
    if i == start:
        return i, []
    raw = {
        "kind": "Node",
        "metadata": {"name": name, "annotations": annotations},
        "status": {"addresses": addresses},
    }
    return i, [Node(source=lines.source(start, i - 1), where=context.where, kind="Node", name=name, raw=raw)]


FORMAT = LineFormat("node-lines", re.compile(rf"{_ANNOTATION.pattern}|^\s*InternalIP:\s"), _read, priority=25)
