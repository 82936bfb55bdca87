"""The ingress expects PROXY protocol, and the load balancer sends plain connections.

What happens
------------
An annotation that asks for PROXY protocol belongs to another load-balancer type or controller and is ignored. Every
client's request, outside ones included, stands where the ingress expects the header.

How to tell it from its neighbours
----------------------------------
Outside clients fail as well, unlike with hairpinning. The load balancer's real attributes do not show the option.

Fix
---
Use the controller or annotation that fits the load-balancer type, or set the attribute directly.

References
----------
Kubernetes in-tree AWS provider (NLB ignores aws-load-balancer-proxy-protocol); AWS Load Balancer Controller
annotations.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.kube import ConfigMap, Service, mapping
from deadhop.model.observed.message import Message
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.record import Record
from deadhop.snapshot.said import private, public, said

SLUG = "lb-annotation-not-honoured-proxy-protocol-off"

TYPE = "service.beta.kubernetes.io/aws-load-balancer-type"
PROXY = "service.beta.kubernetes.io/aws-load-balancer-proxy-protocol"
ATTRIBUTES = "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes"


def check(view: View) -> Iterator[Hypothesis]:
    broken = [m for m in said(view.of(Message), "broken-proxy-header") if m.field("header").strip()]
    outside = [m for m in broken if public(m.field("client"))]
    inside = [m for m in broken if private(m.field("client"))]
    ignored = [
        s
        for s in view.of(Service)
        if PROXY in s.annotations
        and str(s.annotations.get(TYPE, "")).lower() in ("nlb",)
        and "proxy_protocol_v2.enabled=true" not in str(s.annotations.get(ATTRIBUTES, ""))
    ]
    off = [o for o in view.of(CiliumOption) if "proxy_protocol_v2" in o.key and o.value == "false"]
    off_too = said(view.of(Message), "lb-proxy-protocol-off")
    expects: list[Record] = [
        o for o in view.of(CiliumOption) if "use-proxy-protocol" in o.key and o.value == "true"
    ]
    expects += [
        k
        for k in view.of(ConfigMap)
        if str(mapping(k.raw, "data").get("use-proxy-protocol", "")).lower() == "true"
    ]
    if not (outside or ignored or off or off_too or (inside and view.of(Service))):
        return
    yield Hypothesis(
        subject=ignored[0].ref if ignored and ignored[0].name else "the load balancer's PROXY protocol",
        title="The ingress expects a PROXY header that the load balancer does not send: its annotation is not honoured for this type.",
        checks=(
            shown("outside clients reach the ingress without a PROXY header, or the annotation does not fit the load balancer", [*outside, *ignored, *off, *off_too], weight=2.0, required=True, decide="aws elbv2 describe-target-group-attributes --target-group-arn ARN | grep proxy_protocol"),
            shown("the ingress expects PROXY protocol", expects, weight=0.6, decide="kubectl -n ingress-nginx get configmap ingress-nginx-controller -o yaml | grep proxy-protocol"),
            shown("broken headers contain the plain request", inside if ignored or off else [], weight=0.6),
        ),
        explains=("outside clients fail as well as those in the cluster",),
        fixes=(Fix(title="Set the option where it is honoured", artifact="# AWS Load Balancer Controller\nmetadata:\n  annotations:\n    service.beta.kubernetes.io/aws-load-balancer-type: external\n    service.beta.kubernetes.io/aws-load-balancer-nlb-target-type: ip\n    service.beta.kubernetes.io/aws-load-balancer-target-group-attributes: proxy_protocol_v2.enabled=true\n# or directly\n# aws elbv2 modify-target-group-attributes --target-group-arn ARN --attributes Key=proxy_protocol_v2.enabled,Value=true\n"),),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="ingress",
    title="The ingress expects PROXY protocol, but the cloud provider ignores the annotation for this load-balancer type.",
    inputs=(
        Message,
        Service,
        CiliumOption,
        ConfigMap,
    ),
    needs=(
        Message,
        Service,
        CiliumOption,
    ),
    rivals=(
        "proxy-protocol-hairpin-bypasses-lb",
        "benign-tcp-healthcheck-noise",
    ),
    check=check,
)
