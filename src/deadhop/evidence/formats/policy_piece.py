"""Rules of a policy without the manifest around them: ``egress:`` with its list, or items of that list."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from deadhop.evidence.format import Context, Locate, ValueFormat
from deadhop.model.observed.kube import CiliumNetworkPolicy, NetworkPolicy
from deadhop.model.record import Record

_CILIUM = frozenset(
    """toFQDNs toEndpoints toPorts toCIDR toCIDRSet toEntities toServices toGroups toNodes fromEndpoints fromCIDR fromCIDRSet fromEntities fromNodes
    fromGroups""".split()
)
_PLAIN = frozenset({"to", "from", "ports"})
#: What may stand beside the rules where the selector of the policy was left out.
_SPEC = frozenset("egress ingress policyTypes egressDeny ingressDeny description enableDefaultDeny".split())


def _items(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(v, dict) for v in value):
        return []
    keys = {k for v in value for k in v}
    cilium = bool(keys & _CILIUM) and keys <= _CILIUM | {"icmps", "authentication"}
    plain = (
        bool(keys & {"to", "from"})
        and keys <= _PLAIN
        and all(isinstance(x, list) for v in value for x in v.values())
    )
    return value if cilium or plain else []


def _directions(value: Any) -> dict[str, list[dict[str, Any]]]:
    if isinstance(value, list):
        items = _items(value)
        incoming = any(str(k).startswith("from") for v in items for k in v)
        return {"ingress" if incoming else "egress": items} if items else {}
    if not isinstance(value, dict) or "kind" in value:
        return {}
    if isinstance(value.get("spec"), dict) and value.keys() <= {"spec", "apiVersion", "metadata", "status"}:
        value = value["spec"]
    if not value.keys() <= _SPEC:
        return {}
    return {k: items for k in ("egress", "ingress") if (items := _items(value.get(k)))}


def _match(value: Any) -> bool:
    return bool(_directions(value))


def _read(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    found = _directions(value)
    meta = value.get("metadata") if isinstance(value, dict) else None
    meta = meta if isinstance(meta, dict) else {}
    name, namespace = str(meta.get("name") or ""), str(meta.get("namespace") or "")
    cilium = any(k in _CILIUM for items in found.values() for v in items for k in v)
    if cilium:
        raw: dict[str, Any] = {"kind": "CiliumNetworkPolicy", "spec": {"endpointSelector": {}, **found}}
        yield CiliumNetworkPolicy(source=locate(), where=context.where, kind="CiliumNetworkPolicy", name=name, namespace=namespace, raw=raw)  # fmt: skip
        return
    types = [k.capitalize() for k in found]
    raw = {"kind": "NetworkPolicy", "spec": {"podSelector": {}, "policyTypes": types, **found}}
    yield NetworkPolicy(
        source=locate(), where=context.where, kind="NetworkPolicy", name=name, namespace=namespace, raw=raw
    )


FORMAT = ValueFormat("policy-piece", _match, _read, priority=30)
