"""The application or an early container calls out before the sidecar listens.

What happens
------------
Interception rules are in place from the init container on, and the proxy needs a moment longer to start and to get
its configuration. Connections in that moment are redirected to a port where nobody listens yet, and are refused.

How to tell it from its neighbours
----------------------------------
The error occurs only in the first moments of the pod and a later retry from the same pod works; the target has
endpoints. A wrong port or a dead server refuses for good.

Fix
---
Hold the application until the proxy has started, use native sidecars, or retry.

References
----------
Istio holdApplicationUntilProxyStarts; Kubernetes sidecar containers; Linkerd await.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.kube import Event, Pod, ProbeFailure, Workload, mapping, mappings
from deadhop.model.observed.message import Message
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.record import Record
from deadhop.snapshot.names import service_name
from deadhop.snapshot.said import said

SLUG = "sidecar-not-ready-at-app-start"

READY_PORTS = (15020, 15021, 4191)


def check(view: View) -> Iterator[Hypothesis]:
    refused = [d for d in view.of(DialFailure) if d.error == "refused" and d.port not in READY_PORTS]
    late: list[Record] = [*said(view.of(Message), "proxy-not-ready")]
    late += [
        p
        for p in view.of(ProbeFailure)
        if p.port in READY_PORTS and p.error in ("refused", "status", "timeout")
    ]
    ready = said(view.of(Message), "proxy-ready")
    hold: list[Record] = [
        o
        for o in view.of(CiliumOption)
        if o.key.endswith("holdApplicationUntilProxyStarts") and o.value == "false"
    ]
    first = _starts(view.of(Event))
    init = [
        k
        for k in (*view.of(Pod), *view.of(Workload))
        if _interception(k.spec) or _interception(mapping(k.spec, "template", "spec"))
    ]
    works = [
        e
        for e in view.of(HttpExchange)
        if (e.status or 500) < 400
        and any((d.host and d.host == e.host) or (d.ip and d.ip == e.dialled) for d in refused)
    ]

    named = [d for d in refused if d.host and service_name(d.host)]
    signs = [*late, *ready, *first, *init, *hold]
    if not refused or not (signs or works or named):
        return
    for_good = [
        d
        for d in refused
        if d.time is not None and refused[0].time is not None and d.time - refused[0].time > 120
    ]
    yield Hypothesis(
        subject=refused[0].host or refused[0].target,
        title="Calls made while the sidecar is not ready yet are redirected to it and refused.",
        checks=(
            shown("an outbound connection is refused", refused, weight=0.7, required=True),
            shown("the proxy was not ready at that time, or started after the application", [*late, *first, *ready], weight=1.3, decide="kubectl get pod POD -o jsonpath='{range .status.containerStatuses[*]}{.name} {.state.running.startedAt}{\"\\n\"}{end}'"),
            shown("the pod's traffic is intercepted while early containers run", init, weight=0.9),
            shown("the same call works later from there", works, weight=1.0, decide="kubectl exec POD -- curl -sv URL   # a minute later"),
            shown("the application is not held until the proxy has started", hold, weight=0.6, decide="kubectl get pod POD -o yaml | grep -i holdApplication"),
            judged("it fails in the first moments only", False if for_good else None, for_good, weight=1.5, required=bool(for_good)),
        ),
        explains=("the target has endpoints, and a retry a moment later works",),
        fixes=(Fix(title="Hold the application until the proxy has started", artifact="metadata:\n  annotations:\n    proxy.istio.io/config: |\n      holdApplicationUntilProxyStarts: true\n"),),
        prior=-1.3,
    )  # fmt: skip


def _starts(events: list[Event]) -> list[Record]:
    """The start events of an application container that come before those of its proxy."""
    started = [e for e in events if e.reason == "Started" and "container" in e.message]
    at = next(
        (i for i, e in enumerate(started) if "istio-proxy" in e.message or "linkerd-proxy" in e.message), None
    )
    before = [e for e in started[:at] if at and "init" not in e.message]
    return [*before, started[at]] if at and before else []


def _interception(spec: Any) -> bool:
    """Whether an init container calls out behind the one that sets the interception up."""
    names = [str(c.get("name")) for c in mappings(spec, "initContainers")]
    return any(
        n in names and names.index(n) < len(names) - 1
        for n in ("istio-init", "linkerd-init", "istio-validation")
    )


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="The application calls out before the sidecar listens, so redirected connections are refused.",
    inputs=(
        DialFailure,
        Message,
        ProbeFailure,
        CiliumOption,
        Event,
        Pod,
        Workload,
        HttpExchange,
    ),
    needs=(DialFailure,),
    rivals=(
        "app-not-listening",
        "service-selector-matches-no-pods",
        "proxy-config-push-stale-or-rejected",
    ),
    check=check,
)
