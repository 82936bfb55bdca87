"""Failed kubelet probes, wherever their message stands: events, describe, kubelet log.

Texts are those of kubernetes/pkg/probe and Go's net package: ``Get "http://10.0.0.5:8181/ready": dial tcp
10.0.0.5:8181: i/o timeout``, ``read tcp A->B: read: connection reset by peer``, ``HTTP probe failed with
statuscode: 503``.
"""

from __future__ import annotations

import re

from deadhop.evidence.fields import host_port, integer
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.kube import Event, ProbeFailure
from deadhop.model.record import Record, Source

_PROBE = re.compile(
    r"(?P<kind>Readiness|Liveness|Startup) probe (?:failed|errored)[^:]*:\s*(?P<text>.*)", re.I
)
_URL = re.compile(
    r"Get \"?(?P<scheme>https?)://(?P<host>\[[^\]]+\]|[^:/\"]+)(?::(?P<port>\d+))?(?P<path>/[^\s\"]*)?"
)
_DIAL = re.compile(r"dial tcp (?P<to>\[?[0-9a-fA-F:.]+\]?:\d+)")
_READ = re.compile(r"(?:read|write) tcp (?P<local>\S+?)->(?P<to>\S+?):")
_STATUS = re.compile(r"statuscode: (\d+)")
_ERRORS = (
    ("connection refused", "refused"),
    ("connection reset", "reset"),
    ("EOF", "reset"),
    ("broken pipe", "reset"),
    ("no route to host", "unreachable"),
    ("network is unreachable", "unreachable"),
    ("timeout", "timeout"),
    ("deadline exceeded", "timeout"),
    ("Client.Timeout", "timeout"),
    ("timed out", "timeout"),
)
_EVENT = re.compile(r"^\s*(?P<type>Normal|Warning)\s+(?P<reason>[A-Z]\w+)\s+(?P<rest>\S.*)$")
_FROM = re.compile(
    r"^(?:(?P<age>\S+(?: \(x(?P<count>\d+) over [^)]*\))?)\s+)??(?P<from>kubelet|default-scheduler|[a-z][\w-]*(?:controller|manager|scheduler)[\w-]*)(?:, \S+)?\s+(?P<message>.*)$"
)
_OBJECT = re.compile(r"^(?P<object>(?:pod|node|service|daemonset|deployment|job)/\S+)\s+(?P<message>.*)$")


def probe_failure(text: str, source: Source, pod: str = "", where: str = "") -> ProbeFailure | None:
    """The probe failure that a message tells, or None."""
    match = _PROBE.search(text)
    if not match:
        return None
    told = match["text"]
    url, dial, read, status = _URL.search(told), _DIAL.search(told), _READ.search(told), _STATUS.search(told)
    ip, port = "", None
    if dial:
        ip, port = host_port(dial["to"])
    elif read:
        ip, port = host_port(read["to"])
    elif url:
        ip, port = url["host"].strip("[]"), integer(url["port"], 443 if url["scheme"] == "https" else 80)
    error = "status" if status else next((name for words, name in _ERRORS if words in told), "other")
    return ProbeFailure(
        source=source,
        where=where,
        probe=match["kind"].lower(),
        pod=pod,
        ip=ip,
        port=port,
        path=(url["path"] or "/") if url else "",
        error=error,
        status=integer(status[1]) if status else None,
        local=host_port(read["local"])[0] if read else "",
        text=told.strip(),
    )


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    pod = ""
    if context.ran("kubectl") and context.command and "describe" in context.command.argv:
        argv = [a for a in context.command.argv if not a.startswith("-")]
        pod = argv[3] if len(argv) > 3 else (argv[2].removeprefix("pod/") if len(argv) > 2 else "")
    if failure := probe_failure(line, lines.source(i), pod, context.where):
        return i + 1, [failure]
    match = _EVENT.match(line)
    if not match:
        return i, []
    rest = match["rest"]
    component = about = ""
    count = 1
    if found := _FROM.match(rest):
        component, rest, count = found["from"], found["message"], int(found["count"] or 1)
    elif found := _OBJECT.match(rest):
        about, rest = found["object"], found["message"]
    return i + 1, [
        Event(
            source=lines.source(i),
            where=context.where,
            type=match["type"],
            reason=match["reason"],
            object=about or pod,
            component=component,
            message=rest.strip(),
            count=count,
        )
    ]


FORMAT = LineFormat(
    "probes-and-events",
    re.compile(r"probe (?:failed|errored)|^\s*(?:Normal|Warning)\s+[A-Z]\w+\s"),
    _read,
    priority=25,
)
