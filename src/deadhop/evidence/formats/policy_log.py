"""Verdicts of policy engines other than Cilium's, as flows: OVN-Kubernetes, GKE, Calico, Antrea, AWS.

Sources: ovn-controller acl_log (OVN-Kubernetes names ACLs ``NP:namespace:policy:Direction:index``); GKE network policy logging
(jsonPayload of policy-action); Calico flow logs; antrea audit_logging.go; aws-network-policy-agent pkg/ebpf/events.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deadhop.evidence.fields import integer, is_ip, rfc3339
from deadhop.evidence.format import Context, LineFormat, Lines, Locate, ValueFormat
from deadhop.model.observed.kube import mapping
from deadhop.model.observed.message import Message
from deadhop.model.observed.policy import Flow, FlowEnd
from deadhop.model.record import Record

_DENIED = frozenset({"deny", "denied", "drop", "dropped", "reject", "rejected"})
_OVN = re.compile(
    r"acl_log\([^)]*\)\|\w+\|name=\"?(?P<name>[^\",]*)\"?, verdict=(?P<verdict>\w+),.*? direction=(?P<dir>[\w-]+): (?P<proto>\w+),(?P<rest>.*)$"
)
_AWS = re.compile(
    r"[Ff]low [Ii]nfo:?.*?\"?Src IP\"?\W+(?P<src>[\d.:a-f]+).*?\"?Src Port\"?\W+(?P<sport>\d+).*?\"?Dest IP\"?\W+(?P<dst>[\d.:a-f]+).*?\"?Dest Port\"?\W+(?P<dport>\d+).*?\"?Proto\"?\W+(?P<proto>\w+).*?\"?Verdict\"?\W+(?P<verdict>\w+)"
)
# table, policy, rule, direction, action, priority, what the rule applies to, then the packet (audit logging's columns)
_ANTREA = re.compile(
    r"\b(?P<head>(?:\w*(?:Rule|Metric)|K8sNetworkPolicy) (?P<policy>\S+) (?:\S+ ){0,4}?)(?P<verdict>Drop|Reject|Allow) (?:(?:\d+|<nil>) )?(?:(?P<applied>[\w.-]+/[\w.-]+|<nil>) )?(?P<src>[\d.:a-f]+) (?P<sport>\d+|<nil>) (?P<dst>[\d.:a-f]+) (?P<dport>\d+|<nil>) (?P<proto>\w+)"
)
_CALICO = re.compile(r"calico-packet: .*?SRC=(?P<src>\S+) DST=(?P<dst>\S+).*?PROTO=(?P<proto>\w+)(?:.*?SPT=(?P<sport>\d+) DPT=(?P<dport>\d+))?")  # fmt: skip
_ADDRESS = {"src": r"\b(?:nw|ipv6)_src=([^,\s]+)", "dst": r"\b(?:nw|ipv6)_dst=([^,\s]+)", "sport": r"\b(?:tp|udp|tcp)_src=(\d+)", "dport": r"\b(?:tp|udp|tcp)_dst=(\d+)"}  # fmt: skip


def _flow(
    lines: Lines, i: int, context: Context, told: dict[str, str | None], direction: str
) -> list[Record]:
    """The flow, and the message that it was for causes that read its protocol."""
    line = lines.text[i].strip()
    verdict = (told.get("verdict") or "").lower()
    proto = (told.get("proto") or "").lower().rstrip("6")
    denied = verdict in _DENIED or not verdict
    src, dst = told.get("src") or "", told.get("dst") or ""
    fields = tuple((k, v) for k in ("src", "sport", "dst", "dport", "proto", "verdict", "policy") if (v := told.get(k)) and v != "<nil>")  # fmt: skip
    applied = (told.get("applied") or "").replace("<nil>", "")  # the pod of this end, by name
    when = rfc3339(line[:40])
    message = Message(source=lines.source(i), where=context.where, time=when, emitter="policy-agent", kind="netpol-verdict", fields=fields, text=line[:500])  # fmt: skip
    flow = Flow(
        source=lines.source(i),
        where=context.where,
        time=when,
        src=FlowEnd(name=applied if direction == "EGRESS" else "", ip=src, port=integer(told.get("sport"))),
        dst=FlowEnd(name=applied if direction == "INGRESS" else "", ip=dst, port=integer(told.get("dport"))),
        event=f"policy-verdict {direction}".strip(),
        verdict="DROPPED" if denied else "FORWARDED",
        proto=proto.upper(),
        direction=direction,
        drop_reason="Policy denied" if denied else "",
        summary=line[:300],
    )
    return [message, flow] if is_ip(src) and is_ip(dst) else [message]


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    line = lines.text[i]
    if match := _OVN.search(line):
        told: dict[str, str | None] = {
            "verdict": match["verdict"],
            "proto": match["proto"],
            "policy": match["name"],
        }
        for key, pattern in _ADDRESS.items():
            found = re.search(pattern, match["rest"])
            told[key] = found[1] if found else None
        words = match["name"].split(":")
        # from-lport is what a pod sends (egress), to-lport what it receives (ovn-nb(5), ACL direction)
        direction = "EGRESS" if "Egress" in words or (match["dir"] == "from-lport" and "Ingress" not in words) else "INGRESS"  # fmt: skip
        return i + 1, _flow(lines, i, context, told, direction)
    for pattern_ in (_AWS, _ANTREA, _CALICO):
        if match := pattern_.search(line):
            told = dict(match.groupdict())
            way = re.search("Ingress|Egress", told.get("head") or "")
            return i + 1, _flow(lines, i, context, told, way[0].upper() if way else "")
    return i, []


def _text(value: Any) -> str:
    return "" if value is None or isinstance(value, (dict, list)) or value == "-" else str(value)


def _gke(value: Any) -> dict[str, Any]:
    """The payload of a GKE policy-action entry, with or without the log entry around it."""
    payload = mapping(value, "jsonPayload") or (value if isinstance(value, dict) else {})
    known = isinstance(payload.get("connection"), dict) and isinstance(payload.get("disposition"), str)
    return payload if known else {}


def _calico(value: Any) -> bool:
    return isinstance(value, dict) and {"action", "reporter"} <= value.keys() and bool(value.keys() & {"dest_port", "dest_ip", "dest_name"})  # fmt: skip


def _end(ip: str, name: str, namespace: str, port: int | None) -> FlowEnd:
    return FlowEnd(name=f"{namespace}/{name}" if name and namespace else "", ip=ip, port=port)


def _gke_end(payload: dict[str, Any], side: str, prefix: str) -> FlowEnd:
    connection, end = mapping(payload, "connection"), mapping(payload, side)
    return _end(_text(connection.get(f"{prefix}_ip")), _text(end.get("pod_name")), _text(end.get("pod_namespace") or end.get("namespace")), integer(_text(connection.get(f"{prefix}_port"))))  # fmt: skip


def _value(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    if payload := _gke(value):
        connection = mapping(payload, "connection")
        denied = _text(payload.get("disposition")).lower() in _DENIED
        when = rfc3339(_text(value.get("timestamp")))
        src, dst = _gke_end(payload, "src", "src"), _gke_end(payload, "dest", "dest")
        proto, direction = _text(connection.get("protocol")), _text(connection.get("direction")).upper()
    else:
        denied = _text(value.get("action")).lower() in _DENIED
        when = rfc3339(_text(value.get("start_time")))
        pods = {side: _text(value.get(f"{side}_name")) if value.get(f"{side}_type") in ("wep", None) else "" for side in ("source", "dest")}  # fmt: skip
        names = {side: pods[side] or (_text(value.get(f"{side}_name_aggr")) if value.get(f"{side}_type") == "wep" else "") for side in pods}  # fmt: skip
        src, dst = (
            _end(_text(value.get(f"{side}_ip")), names[side], _text(value.get(f"{side}_namespace")), integer(_text(value.get(f"{side}_port"))))
            for side in ("source", "dest")
        )  # fmt: skip
        proto = _text(value.get("proto"))
        direction = "EGRESS" if _text(value.get("reporter")) == "src" else "INGRESS"
    yield Flow(
        source=locate(),
        where=context.where,
        time=when,
        src=src,
        dst=dst,
        event=f"policy-verdict {direction}",
        verdict="DROPPED" if denied else "FORWARDED",
        proto=proto.upper(),
        direction=direction,
        drop_reason="Policy denied" if denied else "",
    )


FORMATS = (
    LineFormat(
        "policy-log",
        re.compile(
            r"\bacl_log\(|[Ff]low [Ii]nfo|(?:Rule|Metric|K8sNetworkPolicy) \S+.* (?:Drop|Reject|Allow) |calico-packet: "
        ),
        _read,
        priority=36,
    ),
    ValueFormat("policy-log-json", lambda v: bool(_gke(v)) or _calico(v), _value, priority=14),
)
