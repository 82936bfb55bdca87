"""What kubectl's printer columns show of an object, for rows of which only some words are left (awk, cut).

Columns and their order: k8s.io/kubernetes pkg/printers/internalversion/printers.go. The columns after READY that a row does not
need are not given a path: they say nothing that an object holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from deadhop.evidence.fields import integer, is_ip

Item = dict[str, Any]
_AGE = re.compile(r"(?:\d+[smhdy]){1,2}|\d+y\d+d")
_SHORT: dict[str, tuple[str, ...]] = {
    "Pod": ("NAME", "READY", "STATUS", "RESTARTS", "AGE"),
    "Service": ("NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"),
    "Endpoints": ("NAME", "ENDPOINTS", "AGE"),
    "EndpointSlice": ("NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"),
    "Node": ("NAME", "STATUS", "ROLES", "AGE", "VERSION"),
    "Namespace": ("NAME", "STATUS", "AGE"),
    "NetworkPolicy": ("NAME", "POD-SELECTOR", "AGE"),
}
_WIDE: dict[str, tuple[str, ...]] = {
    "Pod": ("IP", "NODE", "NOMINATED NODE", "READINESS GATES"),
    "Service": ("SELECTOR",),
    "Node": ("INTERNAL-IP", "EXTERNAL-IP"),
}


def columns(kind: str, *, namespaced: bool, wide: bool, labels: list[str], all_labels: bool) -> list[str]:
    """The columns of ``kubectl get KIND``, in order; empty for a kind whose columns are not known here."""
    short = _SHORT.get(kind)
    if short is None:
        return []
    shown = [*(["NAMESPACE"] if namespaced else []), *short, *(_WIDE.get(kind, ()) if wide else ())]
    return [*shown, *(f"label:{key}" for key in labels), *(["LABELS"] if all_labels else [])]


def selector(text: str) -> dict[str, str] | None:
    """``a=b,c=d`` as a mapping; None where the cell shows none."""
    pairs = [p.partition("=") for p in text.split(",") if "=" in p]
    return {k: v for k, _eq, v in pairs} if pairs else ({} if text == "<none>" else None)


def _ports(text: str) -> list[Item]:
    found = []
    for part in text.split(","):
        if match := re.fullmatch(r"(\d+)(?::(\d+))?/(TCP|UDP|SCTP)", part):
            node = {"nodePort": int(match[2])} if match[2] else {}
            found.append({"port": int(match[1]), "protocol": match[3], **node})
    return found


def _ready(text: str) -> list[Item]:
    ready, _, total = text.partition("/")
    count, of = integer(ready, 0) or 0, integer(total, 0) or 0
    return [{"ready": k < count} for k in range(min(of, 50))]


def _subsets(text: str) -> list[Item]:
    found = []
    for part in text.split(","):
        host, _, port = part.rpartition(":")
        if is_ip(host.strip("[]")) and port.isdecimal():
            found.append({"addresses": [{"ip": host.strip("[]")}], "ports": [{"port": int(port)}]})
    return found


def _given(text: str) -> str | None:
    return None if text in ("<none>", "<pending>", "") else text


def _label(text: str) -> str | None:
    return None if _AGE.fullmatch(text) else _given(text)


#: A column, where its fact stands in the object, and the fact that its text shows.
_PLACES: dict[tuple[str, str], tuple[tuple[str, ...], Callable[[str], Any]]] = {
    ("", "NAMESPACE"): (("metadata", "namespace"), _given),
    ("", "NAME"): (("metadata", "name"), lambda t: t.rpartition("/")[2]),
    ("", "LABELS"): (("metadata", "labels"), selector),
    ("Pod", "READY"): (("status", "containerStatuses"), _ready),
    ("Pod", "STATUS"): (("status", "phase"), _given),
    ("Pod", "IP"): (("status", "podIP"), lambda t: t if is_ip(t) else None),
    ("Pod", "NODE"): (("spec", "nodeName"), _given),
    ("Service", "TYPE"): (("spec", "type"), _given),
    ("Service", "CLUSTER-IP"): (("spec", "clusterIP"), lambda t: t if is_ip(t) or t == "None" else None),
    ("Service", "PORT(S)"): (("spec", "ports"), _ports),
    ("Service", "SELECTOR"): (("spec", "selector"), selector),
    ("Endpoints", "ENDPOINTS"): (("subsets",), _subsets),
    ("Node", "INTERNAL-IP"): (("status", "addresses"), lambda t: [{"type": "InternalIP", "address": t}] if is_ip(t) else None),
    ("NetworkPolicy", "POD-SELECTOR"): (("spec", "podSelector", "matchLabels"), selector),
}  # fmt: skip


def place(kind: str, column: str, text: str) -> tuple[tuple[str, ...], Any] | None:
    """Where the text of a column stands in the object, and its value; None where it says nothing."""
    if column.startswith("label:"):
        value = _label(text)
        return (("metadata", "labels", column.removeprefix("label:")), value) if value else None
    known = _PLACES.get((kind, column)) or _PLACES.get(("", column))
    if known is None:
        return None
    made = known[1](text)
    return None if made is None else (known[0], made)
