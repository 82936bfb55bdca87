"""One setting that a one-liner prints: ``node -p '….keepAliveTimeout'``, and the numbers behind a port's name that
``grep`` leaves of manifests (``containerPort`` above ``name: NAME``).

Sources: Node http.Server (keepAliveTimeout, headersTimeout, requestTimeout, in milliseconds); Pod v1, ContainerPort.
"""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.kube import Pod
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.record import Record

_NODE = re.compile(r"\bnode\s+-\w*[pe]\w*\s.*\.(?P<key>keepAliveTimeout|headersTimeout|requestTimeout)\b")
_VALUE = re.compile(r"^\s*(?:v\d+\.\d+\.\d+\s+)?(?P<value>\d{1,7})\s*$")
_NAMED = re.compile(
    r"\bgrep\s[^|]*-\w*[BC]\s?\d[^|]*name: ?[\"']?(?P<name>[a-z0-9-]{1,15})\b[^|]*\|.*containerPort"
)
_NUMBER = re.compile(r"^\s*(?:\d+\s+)?(?:-\s+)?containerPort: (?P<number>\d{1,5})\s*$")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    asked = context.command.line if context.command and len(context.command.line) < 2000 else ""
    if (value := _VALUE.match(lines.text[i])) and (one := _NODE.search(asked)):
        return i + 1, [CiliumOption(source=lines.source(i), where=context.where, key=one["key"], value=value["value"])]  # fmt: skip
    if (number := _NUMBER.match(lines.text[i])) and (named := _NAMED.search(asked)):
        port = {"name": named["name"], "containerPort": int(number["number"])}
        return i + 1, [Pod(source=lines.source(i), where=context.where, kind="Pod", name="", namespace="", raw={"kind": "Pod", "spec": {"containers": [{"ports": [port]}]}})]  # fmt: skip
    return i, []


FORMAT = LineFormat("printed-setting", re.compile(rf"{_VALUE.pattern}|{_NUMBER.pattern}"), _read, priority=11)
