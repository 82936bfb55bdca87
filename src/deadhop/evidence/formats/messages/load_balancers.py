"""Health and attributes of load balancers, kube-proxy's health check answers, notes of policies and grants."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from deadhop.evidence.format import Context, Locate, ValueFormat
from deadhop.evidence.formats.messages import catalogue, entry
from deadhop.model.observed.message import Message
from deadhop.model.record import Record

_AWS = "aws elbv2 describe-target-health, describe-target-group-attributes"

FORMAT = catalogue(
    "load-balancer",
    (
        entry("health-check-nodes", r"\"?localEndpoints\"?\s*:\s*(?P<count>\d+)", "kubernetes pkg/proxy/healthcheck/service_health.go"),
        entry("no-local-endpoint", r"-A KUBE-(?:XLB|EXT|SVL|XLB-\w+|EXT-\w+|SVL-\w+|EXTERNAL-SERVICES|SERVICES)\S*.*\"(?P<service>\S+) has no local endpoints\"", "kubernetes pkg/proxy/iptables/proxier.go"),
        entry("lb-proxy-protocol-off", r"(?:proxy_protocol_v2\.enabled\W+(?:Value\W+)?false|\"?ProxyProtocol\"?\s*[:=]\s*(?:false|NONE|\"NONE\"))|proxy_protocol_v2\.enabled\s+false", _AWS),
        entry("lb-unhealthy", r"(?:\"State\"\s*:\s*\"unhealthy\"|\bhealthState: UNHEALTHY|Target\.FailedHealthChecks|Target\.ResponseCodeMismatch|^[\s|]*(?P<node>[\w.:-]*[\d.:-][\w.:-]*)[\s|]+(?:\d+[\s|]+)?(?:unhealthy|OutOfService)(?:\s*$|\s*\||\s{2,}|\s+Target\.))", _AWS + "; gcloud compute backend-services get-health"),
        entry("lb-healthy", r"(?:\"State\"\s*:\s*\"healthy\"|\bhealthState: HEALTHY|^[\s|]*(?P<node>[\w.:-]*[\d.:-][\w.:-]*)[\s|]+(?:\d+[\s|]+)?(?:healthy|InService)[\s|]*$)", _AWS),
        entry("ref-not-permitted", r"\bRefNotPermitted\b|[Rr]eference to (?:\w+ )?(?:secret|certificate)[^\n]*not (?:permitted|allowed)|[Cc]ertificate ?[Rr]ef[^\n]*(?:missing|no) (?:a )?(?:matching )?ReferenceGrant", "Gateway API ListenerConditionReason"),
        entry("no-allow-matched", r"allow policies exist, but none allowed|(?:closed|denied)[^\n]*policy rejection: allow policies", "istio ztunnel src/rbac.rs"),
        entry("checker-conflict", r"\bKIA\d{4}\b(?P<text>.*)", "Kiali validations"),
    ),
    priority=33,
)  # fmt: skip


def _match(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("localEndpoints"), int)


def _read(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    yield Message(
        source=locate(), where=context.where, emitter="kube-proxy", kind="health-check-nodes",
        fields=(("count", str(value["localEndpoints"])),), text=str(value)[:200],
    )  # fmt: skip


#: What kube-proxy answers on a Service's health check port (pkg/proxy/healthcheck/service_health.go).
FORMATS = (ValueFormat("kube-proxy-health", _match, _read, priority=12),)
