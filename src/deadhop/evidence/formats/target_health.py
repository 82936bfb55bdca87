"""Health of a load balancer's targets as JSON or YAML: ``gcloud compute backend-services get-health``, ``aws elbv2
describe-target-health``, ``aws elb describe-instance-health``, ``az network lb`` and OpenStack Octavia members, whole or cut to
some fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from deadhop.evidence.fields import integer
from deadhop.evidence.format import Context, Locate, ValueFormat
from deadhop.model.observed.balancer import TargetHealth
from deadhop.model.record import Record

_GOOD = frozenset({"healthy", "inservice", "online", "up"})
_BAD = frozenset({"unhealthy", "outofservice", "error", "down", "timeout"})


def _rows(value: Any) -> Iterator[tuple[str, str, Any, str]]:
    """Target, state, port and reason of every target in a value of any of these APIs."""
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, dict):
            continue
        status = item.get("status")
        listed = status.get("healthStatus") if isinstance(status, dict) else item.get("healthStatus")
        for one in listed if isinstance(listed, list) else []:
            if isinstance(one, dict) and isinstance(one.get("healthState"), str):
                name = str(one.get("instance") or one.get("ipAddress") or "")
                yield name.rstrip("/").rpartition("/")[2], one["healthState"], one.get("port"), ""
        for one in [item, *_list(item, "TargetHealthDescriptions")]:
            target, health = one.get("Target"), one.get("TargetHealth")
            if isinstance(health, dict) and isinstance(health.get("State"), str):
                target = target if isinstance(target, dict) else {}
                yield (
                    str(target.get("Id", "")),
                    health["State"],
                    target.get("Port"),
                    str(health.get("Reason", "")),
                )
        for one in [item, *_list(item, "InstanceStates")]:
            if isinstance(one.get("InstanceId"), str) and isinstance(one.get("State"), str):
                yield one["InstanceId"], one["State"], None, str(one.get("ReasonCode", ""))
        if isinstance(item.get("operating_status"), str) and "protocol_port" in item:
            yield (
                str(item.get("name") or item.get("address") or ""),
                item["operating_status"],
                item["protocol_port"],
                "",
            )


def _list(item: dict[str, Any], key: str) -> list[dict[str, Any]]:
    listed = item.get(key)
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def _match(value: Any) -> bool:
    return any(state.lower() in _GOOD | _BAD for _t, state, _p, _r in _rows(value))


def _read(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    for target, state, port, reason in _rows(value):
        if state.lower() in _GOOD | _BAD:
            yield TargetHealth(
                source=locate(), where=context.where, target=target, healthy=state.lower() in _GOOD, port=integer(str(port)) if port is not None else None, reason=reason,
            )  # fmt: skip


FORMAT = ValueFormat("target-health", _match, _read, priority=13)
