"""``kubectl get`` tables: pods, services, endpoints, nodes, events; with or without ``-o wide`` and ``-A``."""

from __future__ import annotations

import re
from typing import Any

from deadhop.evidence import prompt
from deadhop.evidence.asked import operands, option
from deadhop.evidence.fields import integer, is_ip
from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.evidence.formats.probes import probe_failure
from deadhop.evidence.kinds import KIND_OF, kind_of
from deadhop.model.observed.kube import (
    Absent,
    Endpoints,
    Event,
    KubeObject,
    Namespace,
    Node,
    PeerAuthentication,
    Pod,
    Secret,
    Service,
    ServicePort,
)
from deadhop.model.record import Record

_HEADER = re.compile(
    r"^\s*(?:NAMESPACE\s+)?(?:NAME|LAST SEEN|ENDPOINT)\s{2,}\S|^\s*NAME\s+(?:READY|TYPE|STATUS|ENDPOINTS|HOSTS|CLASS|DATA)\b|^\s*NAMESPACE\s+(?:NAME|LAST SEEN)\b|^\s*NAME\s+(?:IP|NODE|CLUSTER-IP|PORT\(S\)|AGE|RESTARTS)\b"
)
_POD_ROW = re.compile(
    r"^\s*(?:(?P<ns>[a-z0-9-]+)\s+)?(?:pods?/)?(?P<name>[a-z0-9][a-z0-9.-]+)\s+(?P<ready>\d+/\d+)\s+(?P<status>[A-Z][\w:.]+)\s+(?P<restarts>\d+(?: \([^)]*\))?)\s+(?P<age>\w+)(?:\s+(?P<ip>[0-9a-f.:]+|<none>)\s+(?P<node>\S+))?"
)
_SERVICE_ROW = re.compile(
    r"^\s*(?:(?P<ns>[a-z0-9-]+)\s+)?(?:services?/)?(?P<name>[a-z0-9][a-z0-9.-]+)\s+(?P<type>ClusterIP|NodePort|LoadBalancer|ExternalName)\s+(?P<ip>\S+)\s+(?P<ext>\S+)\s+(?P<ports>\d\S+)(?:\s+(?P<age>\w+)|\s*$)"
)
#: A row of ``get nodes -o wide`` whose heading grep took away.
_NODE_ROW = re.compile(
    r"^\s*(?P<name>[a-z0-9][\w.-]*)\s+(?:Not)?Ready\S*\s+\S+\s+\w+\s+v\d\S*\s+(?P<ip>[0-9a-fA-F.:]+)\s"
)
#: A row of ``get daemonsets`` without its heading: five counts, the node selector, the age.
_DAEMONS_ROW = re.compile(
    r"^\s*(?:(?P<ns>[a-z0-9][a-z0-9-]*)\s+)?(?P<name>[a-z0-9][a-z0-9.-]*)(?P<counts>(?:\s+\d+){5})\s+\S+\s+\w+\b"
)
#: A row of ``get secrets``, whose types no other kind has (core/v1 SecretType).
_SECRET_ROW = re.compile(
    r"^\s*(?:(?P<ns>[a-z0-9][a-z0-9-]*)\s+)?(?:secrets?/)?(?P<name>[a-z0-9][a-z0-9.-]*)\s+(?:kubernetes\.io/[\w.-]+|Opaque|istio\.io/[\w.-]+|helm\.sh/\S+)\s+\d+\s+\w+\s*$"
)
_PREFIX = re.compile(
    r"^(\s*(?:[a-z0-9-]+\s+)?)()((?:service|pod|endpoints|endpointslice)(?:\.[a-z0-9.]+)?/)(?=[a-z0-9])"
)
_PORT = re.compile(r"^(\d+)(?::(\d+))?/(TCP|UDP|SCTP)$")
_START = re.compile(
    r"^No resources found|^Error from server \(NotFound\): |^\s*(?:NAMESPACE\s|NAME\s|LAST SEEN\s)|\s\d+/\d+\s+[A-Z]\w+\s+\d+|\s(?:ClusterIP|NodePort|LoadBalancer|ExternalName)\s|\s(?:Not)?Ready\S*\s+\S+\s+\w+\s+v\d|\s(?:kubernetes\.io/[\w.-]+|Opaque|istio\.io/[\w.-]+|helm\.sh/\S+)\s+\d+\s+\w+\s*$|^\s*[a-z0-9][a-z0-9.-]*(?:\s+[a-z][a-z0-9.-]*)?(?:\s+\d+){5}\s+\S+\s+\d+\w"
)
#: What stands for no address, and for those that are not shown; anything else in angle brackets hides one.
_NO_ADDRESS = ("<none>", "<unset>", "+")


def _columns(header: str) -> list[tuple[str, int]]:
    # awk and cut leave one blank between columns, and then no heading of two words.
    if not re.search(r"\s{2,}|\t", header.strip()):
        return [(m.group(), m.start()) for m in re.finditer(r"\S+", header)]
    return [(m.group().strip(), m.start()) for m in re.finditer(r"\S+(?: \S+)*", header)]


def _cells(columns: list[tuple[str, int]], line: str) -> dict[str, str]:
    words = line.split()
    if len(words) == len(columns):
        return {name: word for (name, _at), word in zip(columns, words, strict=True)}
    cells: dict[str, str] = {}
    for k, (name, at) in enumerate(columns):
        end = columns[k + 1][1] if k + 1 < len(columns) else None
        cells[name] = line[at:end].strip()
    return cells


#: Kinds whose printer columns no other kind has (additionalPrinterColumns of the Istio CRDs, printers of networking/v1).
_BY_COLUMNS = {
    frozenset({"NAME", "MODE"}): "PeerAuthentication",
    frozenset({"NAME", "GATEWAYS", "HOSTS"}): "VirtualService",
    frozenset({"NAME", "HOST"}): "DestinationRule",
    frozenset({"NAME", "POD-SELECTOR"}): "NetworkPolicy",
    frozenset({"NAME", "ACTION"}): "AuthorizationPolicy",
    frozenset({"NAME", "HOSTS", "LOCATION", "RESOLUTION"}): "ServiceEntry",
}
_NOTHING = re.compile(r"^No resources found(?: in (?P<ns>\S+?) namespace)?\.?$")
_NOT_FOUND = re.compile(
    r"^Error from server \(NotFound\): (?P<kind>[a-z]+)(?:\.[\w.]+)? \"(?P<name>[^\"]+)\" not found"
)


def asked_kind(context: Context) -> str:
    """The kind that ``kubectl get KIND`` asked for; empty where the command is not shown."""
    argv = context.command.argv if context.command else ()
    words = operands(argv, "get")
    return kind_of(words[0]) if words else ""


def _absent(lines: Lines, i: int, context: Context) -> list[Record]:
    line = lines.text[i].strip()
    if match := _NOT_FOUND.match(line):
        kind = KIND_OF.get(match["kind"], match["kind"].capitalize())
        return [Absent(source=lines.source(i), where=context.where, kind=kind, name=match["name"], namespace=asked_namespace(context))]  # fmt: skip
    kind = asked_kind(context)
    if kind and (match := _NOTHING.match(line)):
        namespace = match["ns"] or asked_namespace(context)
        argv = context.command.argv if context.command else ()
        asked = option(argv, "-l", "--selector")
        chosen = tuple(
            (k, v) for k, eq, v in (p.replace("==", "=").partition("=") for p in asked.split(",")) if eq
        )
        return [Absent(source=lines.source(i), where=context.where, kind=kind, namespace=namespace, selector=chosen)]  # fmt: skip
    return []


def _labels(cells: dict[str, str], column: str = "LABELS") -> tuple[tuple[str, str], ...]:
    shown = cells.get(column, "")
    return tuple((k, v) for k, _eq, v in (pair.partition("=") for pair in shown.split(",") if "=" in pair))


def _label_columns(cells: dict[str, str], keys: list[str]) -> tuple[tuple[str, str], ...]:
    """Labels in columns of their own (``-L KEY``): the heading is the key's last part in capitals; an empty cell is no label."""
    told = ((key, cells.get(key.rpartition("/")[2].upper(), "")) for key in keys)
    return tuple((key, value) for key, value in told if value and value != "<none>")


def _addresses(internal: str) -> dict[str, Any]:
    """The status of a node of which a row shows the internal address."""
    return {"addresses": [{"type": "InternalIP", "address": internal}]}


def asked_namespace(context: Context) -> str:
    return option(context.command.argv, "-n", "--namespace") if context.command else ""


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    text = lines.text
    start = i
    if absent := _absent(lines, i, context):
        return i + 1, absent
    records: list[Record] = []
    namespace = asked_namespace(context)
    asked = asked_kind(context)
    argv = context.command.argv if context.command else ()
    keys = [k for k in option(argv, "-L", "--label-columns").split(",") if k]
    columns: list[tuple[str, int]] = []
    if _HEADER.match(text[i]):
        columns = _columns(text[i])
        i += 1
    gap = 0
    while i < len(text) and gap < 2:
        line = text[i]
        if not line.strip() or line.strip() == "...":
            if not line.strip():
                break
            gap += 1
            i += 1
            continue
        if columns and _HEADER.match(line):  # another table, the blank line between them lost
            break
        record = _row(lines, i, line, columns, namespace, asked, keys)
        if record is None:
            break
        records.append(record)
        gap = 0
        i += 1
    if not records and not columns:
        return start, []
    return i, records


def _row(
    lines: Lines,
    i: int,
    line: str,
    columns: list[tuple[str, int]],
    namespace: str,
    asked: str,
    label_keys: list[str],
) -> Record | None:
    names = {name for name, _at in columns}
    source = lines.source(i)
    # "kubectl get svc,ep" and "get all" write the kind before the name.
    line = _PREFIX.sub(lambda m: m[1] + m[2] + " " * len(m[3]), line)
    labels = _labels(_cells(columns, line)) if "LABELS" in names else ()
    if match := _POD_ROW.match(line):
        ready, total = match["ready"].split("/")
        shown_cells = _cells(columns, line) if names & {"IP", "NODE"} or (label_keys and columns) else {}
        labels = labels or _label_columns(shown_cells, label_keys)
        ip = match["ip"] or shown_cells.get("IP", "")
        spaced = "NAMESPACE" in names or not columns
        return Pod(
            source=source, kind="Pod", name=match["name"], namespace=(match["ns"] or "") if spaced and match["ns"] else namespace,
            ip=ip if is_ip(ip) else "", node=(match["node"] or shown_cells.get("NODE", "")).replace("<none>", ""), ready=(int(ready), int(total)), phase=match["status"],
            labels=labels, raw={"cells": {"RESTARTS": match["restarts"], "AGE": match["age"]}},
        )  # fmt: skip
    if match := _SERVICE_ROW.match(line):
        ports = []
        for part in match["ports"].split(","):
            if port := _PORT.match(part):
                ports.append(ServicePort(port=int(port[1]), node_port=integer(port[2]), protocol=port[3]))
        external = tuple(e for e in match["ext"].split(",") if e[:1] not in "<" and e != "None")
        selector = _labels(_cells(columns, line), "SELECTOR") if "SELECTOR" in names else ()
        return Service(
            source=source, kind="Service", name=match["name"], namespace=match["ns"] or namespace, type=match["type"], external=external,
            cluster_ip=match["ip"] if is_ip(match["ip"]) or match["ip"] == "None" else "", ports=tuple(ports), selector=selector or None,
        )  # fmt: skip
    if not columns and asked == "Node" and (match := _NODE_ROW.match(line)) and is_ip(match["ip"]):
        return Node(source=source, kind="Node", name=match["name"], raw={"status": _addresses(match["ip"])})
    if not columns and (match := _SECRET_ROW.match(line)):
        return Secret(source=source, kind="Secret", name=match["name"], namespace=match["ns"] or namespace)
    if not columns and asked == "DaemonSet" and (match := _DAEMONS_ROW.match(line)):
        counts = zip(
            ("DESIRED", "CURRENT", "READY", "UP-TO-DATE", "AVAILABLE"), match["counts"].split(), strict=True
        )
        shown_row = {"cells": {"NAME": match["name"], **dict(counts)}}
        return KubeObject(source=source, kind="DaemonSet", name=match["name"], namespace=match["ns"] or namespace, raw=shown_row)  # fmt: skip
    if not columns:
        return None
    cells = _cells(columns, line)
    if "NAME" in names and (not re.fullmatch(r"[\w./:-]+", cells.get("NAME", "")) or prompt.parse(line)):
        return None  # the table ends where a command or another output begins
    if {"ENDPOINTS", "ADDRESSTYPE"} <= names:
        listed = [a for a in cells.get("ENDPOINTS", "").split(",") if a and not a.startswith(_NO_ADDRESS)]
        numbers = [int(p) for p in cells.get("PORTS", "").split(",") if p.isdecimal() and len(p) < 6]
        service = re.sub(
            r"-[a-z0-9]{5}$", "", cells.get("NAME", "")
        )  # generateName of the endpointslice controller
        return Endpoints(
            source=source, kind="Endpoints", name=cells.get("NAME", ""), namespace=cells.get("NAMESPACE", namespace), service=service,
            ready=tuple(f"{a}:{p}" for a in listed for p in numbers) or tuple(listed), ports=tuple(numbers),
        )  # fmt: skip
    if "ENDPOINTS" in names and "ADDRESSTYPE" not in names:
        shown = cells.get("ENDPOINTS", "")
        ready_ = tuple(
            p.split()[0] for p in shown.split(",") if p.strip() and not p.strip().startswith(_NO_ADDRESS)
        )
        return Endpoints(
            source=source, kind="Endpoints", name=cells.get("NAME", ""), namespace=cells.get("NAMESPACE", namespace), service=cells.get("NAME", ""),
            ready=ready_, ports=tuple(dict.fromkeys(int(p) for _, _, p in (r.rpartition(":") for r in ready_) if p.isdecimal() and len(p) < 6)),
        )  # fmt: skip
    if "CLUSTER-IP" in names and is_ip(cells.get("CLUSTER-IP", "")):
        return Service(
            source=source,
            kind="Service",
            name=cells.get("NAME", ""),
            namespace=cells.get("NAMESPACE", namespace),
            cluster_ip=cells["CLUSTER-IP"],
        )
    if {"REASON", "MESSAGE"} <= names:
        return _event(source_line=line, lines=lines, i=i, cells=cells, namespace=namespace)
    if "NAME" in names and re.fullmatch(r"[\w./:-]+", cells.get("NAME", "")) and not prompt.parse(line):
        if "DATA" in names and cells.get("TYPE", "").startswith(
            ("kubernetes.io/", "Opaque", "istio.io/", "helm.sh/")
        ):
            return Secret(
                source=source, kind="Secret", name=cells["NAME"], namespace=cells.get("NAMESPACE", namespace)
            )
        shown, _, name = cells["NAME"].rpartition("/")
        kind = "Node" if "ROLES" in names else KIND_OF.get(shown.partition(".")[0], asked or "Resource")
        if kind == "Resource":
            kind = _BY_COLUMNS.get(frozenset(names - {"NAMESPACE", "AGE", "LABELS"}), kind)
        if kind == "Resource" and any(k == "kubernetes.io/metadata.name" for k, _v in labels):
            kind = "Namespace"
        if kind == "Pod":
            ready_cell = re.fullmatch(r"(\d+)/(\d+)", cells.get("READY", ""))
            ip, node = cells.get("IP", ""), cells.get("NODE", "")
            return Pod(
                source=source, kind=kind, name=name, namespace=cells.get("NAMESPACE", namespace), labels=labels,
                ip=ip if is_ip(ip) else "", node="" if node.startswith("<") else node, phase=cells.get("STATUS", ""),
                ready=(int(ready_cell[1]), int(ready_cell[2])) if ready_cell else None,
            )  # fmt: skip
        if is_ip(cells.get("IPV4", "")) and (kind == "CiliumEndpoint" or "ENDPOINT STATE" in names):
            return Pod(source=source, kind="Pod", name=name, namespace=cells.get("NAMESPACE", namespace), ip=cells["IPV4"], raw={"cells": cells})  # fmt: skip
        # A row shows no manifest: kinds whose causes read the manifest stay plain objects.
        if kind == "PeerAuthentication" and cells.get("MODE"):
            mode = {"spec": {"mtls": {"mode": cells["MODE"]}}}
            return PeerAuthentication(
                source=source, kind=kind, name=name, namespace=cells.get("NAMESPACE", namespace), raw=mode
            )
        labels = labels or _label_columns(cells, label_keys)
        raw: dict[str, Any] = {"cells": cells}
        made: type[KubeObject] = Namespace if kind == "Namespace" else KubeObject
        if kind == "Node" and is_ip(cells.get("INTERNAL-IP", "")):
            made = Node
            raw["status"] = _addresses(cells["INTERNAL-IP"])
        return made(
            source=source,
            kind=kind,
            name=name,
            namespace=cells.get("NAMESPACE", namespace),
            labels=labels,
            raw=raw,
        )
    return None


def _event(*, source_line: str, lines: Lines, i: int, cells: dict[str, str], namespace: str) -> Record:
    message = cells.get("MESSAGE", "")
    about = cells.get("OBJECT", "")
    failure = probe_failure(message or source_line, lines.source(i), pod=about.removeprefix("pod/"))
    return failure or Event(
        source=lines.source(i), type=cells.get("TYPE", ""), reason=cells.get("REASON", ""), object=about,
        namespace=cells.get("NAMESPACE", namespace), message=message,
    )  # fmt: skip


FORMAT = LineFormat("kubectl-table", _START, _read, priority=35)
