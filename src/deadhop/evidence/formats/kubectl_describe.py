"""``kubectl describe``: the facts of a pod, service or policy that no other output holds; events are read by ``probes``."""

from __future__ import annotations

import re
from typing import Any

from deadhop.evidence.fields import integer, is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.formats.kubectl_table import asked_namespace
from deadhop.model.observed.kube import Endpoints, Pod, Service, ServicePort
from deadhop.model.record import Record

_FIELD = re.compile(r"^(?P<key>[A-Z][\w .-]*?):\s*(?P<value>.*)$")
_PORT = re.compile(r"^(?P<name>\S+)\s+(?P<port>\d+)/(?P<proto>\w+)$")
_LABEL = re.compile(r"^\s+(?P<key>[\w./-]+)=(?P<value>\S*)$")

#: Fields of a Service's description (kubectl pkg/describe describeService); one that was cut down may lack its selector.
_SERVICE = frozenset({"Selector", "TargetPort", "Session Affinity", "External Traffic Policy", "NodePort"})


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    text = lines.text
    start = i
    fields: dict[str, list[str]] = {}
    labels: list[tuple[str, str]] = []
    last = ""
    while i < len(text):
        line = text[i]
        if not line.strip():
            break
        match = _FIELD.match(line)
        if match:
            last = match["key"]
            if last == "Events":
                break
            fields.setdefault(last, []).append(match["value"].strip())
            if last == "Labels" and "=" in match["value"]:
                key, _, value = match["value"].partition("=")
                labels.append((key.strip(), value.strip()))
        elif last == "Labels" and (label := _LABEL.match(line)):
            labels.append((label["key"], label["value"]))
        elif not line[:1].isspace() and line.strip() != "...":
            break
        i += 1
    name = (fields.get("Name") or [""])[0]
    if not name or len(fields) < 2:
        return start, []
    common: dict[str, Any] = {
        "source": lines.source(start, i - 1),
        "where": context.where,
        "name": name,
        "namespace": (fields.get("Namespace") or [""])[0],
        "labels": tuple(labels),
    }
    first = {key: values[0] for key, values in fields.items()}
    if first.keys() & _SERVICE and first.keys() & {"Port", "Endpoints", "External Traffic Policy"}:
        return i, _service(common, fields, first)
    ip = first.get("IP", "")
    node = first.get("Node", "").partition("/")[0]
    return i, [
        Pod(**common, kind="Pod", ip=ip if is_ip(ip) else "", node=node, phase=first.get("Status", ""))
    ]


def _service(common: dict[str, Any], fields: dict[str, list[str]], first: dict[str, str]) -> list[Record]:
    ports = []
    targets = [_PORT.match(t) for t in fields.get("TargetPort", [])]
    for k, shown in enumerate(fields.get("Port", [])):
        if match := _PORT.match(shown):
            target = fields["TargetPort"][k].partition("/")[0] if k < len(targets) else None
            wanted: int | str | None = integer(target) if target and target.isdigit() else target
            name = "" if match["name"] == "<unset>" else match["name"]
            ports.append(
                ServicePort(port=int(match["port"]), name=name, protocol=match["proto"], target=wanted)
            )
    selector = first.get("Selector", "")
    chosen = tuple((p.partition("=")[0], p.partition("=")[2]) for p in selector.split(",") if "=" in p)
    cluster_ip = first.get("IP", "")
    policy = {
        "externalTrafficPolicy": first.get("External Traffic Policy"),
        "internalTrafficPolicy": first.get("Internal Traffic Policy"),
    }
    said = {key: value for key, value in policy.items() if value}
    records: list[Record] = [
        Service(
            **common,
            raw={"spec": said} if said else {},
            kind="Service",
            type=first.get("Type", ""),
            cluster_ip=cluster_ip if is_ip(cluster_ip) or cluster_ip == "None" else "",
            ports=tuple(ports),
            selector=chosen if selector and selector != "<none>" else None,
        )
    ]
    if "Endpoints" in first:
        ready = tuple(
            e.strip() for e in first["Endpoints"].split(",") if e.strip() and e.strip()[0] not in "<+"
        )
        numbers = tuple(
            dict.fromkeys(int(e.rpartition(":")[2]) for e in ready if e.rpartition(":")[2].isdigit())
        )
        records.append(
            Endpoints(
                **{**common, "kind": "Endpoints", "service": common["name"], "ready": ready, "ports": numbers}
            )
        )
    return records


def _read_piece(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    """A Service of which ``grep`` left the ports: its name is that of the command."""
    start, fields = i, dict[str, list[str]]()
    while i < len(lines.text) and (match := _PIECE.match(lines.text[i])):
        fields.setdefault(match["key"], []).append(match["value"].strip())
        i += 1
    if "TargetPort" not in fields or "Port" not in fields:
        return start, []
    argv = context.command.argv if context.command else ()
    asked = "describe" in argv and {"svc", "service", "services"} & set(argv)
    name = next((w for w in reversed(argv) if not w.startswith("-")), "") if asked else ""
    common = {
        "source": lines.source(start, i - 1), "where": context.where, "name": name, "namespace": asked_namespace(context),
    }  # fmt: skip
    return i, _service(common, fields, {key: values[0] for key, values in fields.items()})


_PIECE = re.compile(
    r"^(?P<key>Type|IP|Port|TargetPort|NodePort|Endpoints|Selector|Session Affinity|External Traffic Policy):\s+(?P<value>\S.*)$"
)
FORMATS = (
    LineFormat("kubectl-describe", re.compile(r"^Name:\s{2,}\S"), _read, priority=28),
    LineFormat("kubectl-describe-piece", _PIECE, _read_piece, priority=29),
)
