"""A manifest of which sed or grep left a part: its kind and name stand in the command line that printed it."""

from __future__ import annotations

from typing import Any

from deadhop.evidence.asked import operands, option
from deadhop.evidence.kinds import kind_of
from deadhop.model.observed.shell import CommandRun

_TOP = frozenset(
    {"spec", "status", "data", "metadata", "subsets", "endpoints", "items", "apiVersion", "kind"}
)
_STATUS = frozenset(
    {"podIP", "hostIP", "phase", "conditions", "containerStatuses", "loadBalancer", "addresses"}
)
_META = frozenset({"labels", "annotations", "name", "namespace", "uid", "creationTimestamp"})


def completed(value: Any, command: CommandRun | None) -> Any:
    """``value`` with kind, name and namespace of ``kubectl get KIND NAME -o yaml | …``; as it is where that does not fit."""
    if command is None or not command.filters or not isinstance(value, dict) or "kind" in value or not value:
        return value
    words = operands(command.argv, "get") if "kubectl" in command.argv[:1] else []
    kind = kind_of(words[0]) if words else ""
    name = words[0].partition("/")[2] if words and "/" in words[0] else (words[1] if len(words) == 2 else "")
    if not kind or not name or option(command.argv, "-o", "--output") not in ("yaml", "json"):
        return value
    if not value.keys() & _TOP:
        if not all(isinstance(k, str) for k in value) or kind == "ConfigMap":
            return value
        parts: dict[str, Any] = {"spec": {}, "status": {}, "metadata": {}}
        for key, below in value.items():
            parts["status" if key in _STATUS else "metadata" if key in _META else "spec"][key] = below
        value = {k: v for k, v in parts.items() if v}
    meta = value.get("metadata")
    meta = dict(meta) if isinstance(meta, dict) else {}
    meta.setdefault("name", name)
    if namespace := option(command.argv, "-n", "--namespace"):
        meta.setdefault("namespace", namespace)
    return {**value, "kind": kind, "metadata": meta}
