"""A port is marked opaque on one side, and HTTP-aware traffic arrives there.

What happens
------------
Linkerd treats an opaque port as a plain stream. When only the pod, or only the Service, carries the mark, the
client's proxy still sends HTTP to the server's proxy, whose inbound side has no HTTP route for the port: 404, no
route found.

How to tell it from its neighbours
----------------------------------
The inbound proxy says that no route was found for a request; callers outside the mesh succeed; it appears with the
opaque annotation. A denial of policy is told as unauthorized.

Fix
---
Remove the mark from HTTP ports, or set it on pod and Service alike.

References
----------
Linkerd, Protocol Detection (config.linkerd.io/opaque-ports); linkerd2-proxy inbound router.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import HttpExchange
from deadhop.model.observed.kube import KubeObject, mapping
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "http-sent-to-opaque-port"

MARK = "config.linkerd.io/opaque-ports"


def check(view: View) -> Iterator[Hypothesis]:
    lost: list[Record] = [
        m for m in said(view.of(Message), "no-route", emitter="linkerd") if m.field("side") in ("inbound", "")
    ]
    lost += [
        e
        for e in view.of(HttpExchange)
        if e.header("l5d-proxy-error") and "no route" in e.header("l5d-proxy-error")
    ]
    marked = [
        k
        for k in view.of(KubeObject)
        if MARK in k.annotations
        or MARK in mapping(k.spec, "template", "metadata", "annotations")
        or any(MARK in str(v) for v in k.raw)
    ]
    failed = [e for e in view.of(HttpExchange) if e.status in (404, 502, 503, 504) and e not in lost]
    denied = said(view.of(Message), "unauthorized", emitter="linkerd")
    if not lost and not (marked and failed):
        return
    yield Hypothesis(
        subject=marked[0].ref if marked else "the server's inbound proxy",
        title="HTTP arrives at a port that one side treats as opaque: the inbound proxy has no HTTP route for it.",
        checks=(
            shown("the inbound proxy has no route for the request", lost or failed, weight=2.0 if lost else 0.8, required=True, decide="kubectl logs SERVER-POD -c linkerd-proxy | grep 'no route found'"),
            shown("a pod or Service is marked opaque", marked, weight=1.1, decide="kubectl get svc,pod -A -o yaml | grep -B6 opaque-ports"),
            judged("no policy denied it", False if denied else None, denied, weight=1.0, required=bool(denied)),
        ),
        explains=("callers outside the mesh succeed",),
        fixes=(Fix(title="Mark both sides, or neither", artifact="kubectl -n NAMESPACE annotate svc SERVICE config.linkerd.io/opaque-ports=PORT\n# or remove the mark from the pod template where the port speaks HTTP\n"),),
        prior=-1.3,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="A port is marked opaque on one side while HTTP-aware traffic arrives there.",
    inputs=(
        Message,
        HttpExchange,
        KubeObject,
    ),
    needs=(
        Message,
        HttpExchange,
    ),
    rivals=(
        "authz-no-allow-rule-matches",
        "headless-pod-ip-host-no-route",
        "port-name-protocol-misdeclared",
    ),
    check=check,
)
