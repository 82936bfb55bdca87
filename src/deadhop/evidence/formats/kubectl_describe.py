"""``kubectl describe``: the facts of a pod, service or policy that no other output holds; events are read by ``probes``."""

from __future__ import annotations

import re
from typing import Any

from deadhop.evidence.asked import operands
from deadhop.evidence.described import containers
from deadhop.evidence.fields import integer, is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.formats.kubectl_table import asked_namespace
from deadhop.evidence.kinds import kind_of
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
    node, _, address = first.get("Node", "").partition("/")
    spec = _spec(text[start:i])
    on_host = (ip == address) if spec and is_ip(ip) and is_ip(address) else None
    if spec and on_host:
        spec["hostNetwork"] = True
    return i, [
        Pod(
            **common,
            kind="Pod",
            ip=ip if is_ip(ip) else "",
            node=node,
            phase=first.get("Status", ""),
            raw={"spec": spec} if spec else {},
            host_network=on_host,
        )
    ]


def _spec(rows: list[str]) -> dict[str, Any]:
    """The containers, where their sections are whole: the conditions follow them."""
    heads = {
        row.strip(): n
        for n, row in enumerate(rows)
        if re.match(r"^(?:Init Containers|Containers|Conditions):\s*$", row)
    }
    first, last = heads.get("Containers:"), heads.get("Conditions:")
    if first is None or last is None or last < first or any(row.strip() == "..." for row in rows):
        return {}
    found = {"containers": containers(rows[first + 1 : last])}
    if (init := heads.get("Init Containers:")) is not None and init < first:
        found["initContainers"] = containers(rows[init + 1 : first])
    return found if found["containers"] else {}


def _read_container(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    """A container of a pod, as ``grep -A`` leaves it; the command names the pod."""
    argv = context.command.argv if context.command else ()
    words = operands(argv, "describe")
    kind, _, named = words[0].partition("/") if words else ("", "", "")
    name = named or (words[1] if len(words) > 1 else "")
    end = i + 1
    while end < len(lines.text) and re.match(r"^ {4,}\S", lines.text[end]):
        end += 1
    found = containers(lines.text[i:end])
    if kind_of(kind) != "Pod" or not name or not any("ports" in c for c in found):
        return i, []
    source = lines.source(i, end - 1)
    return end, [Pod(source=source, where=context.where, kind="Pod", name=name, namespace=asked_namespace(context), raw={"spec": {"containers": found}})]  # fmt: skip


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
    LineFormat(
        "kubectl-describe-container", re.compile(r"^  [a-z0-9][a-z0-9-]*:\s*$"), _read_container, priority=11
    ),
)
