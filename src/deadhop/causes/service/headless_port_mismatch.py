"""A headless Service's port differs from its targetPort, and nothing translates it.

What happens
------------
A headless Service has no cluster address: DNS gives the pods' addresses, and the client connects to them with the
Service's port. Only the targetPort is open there, so the connection is refused.

How to tell it from its neighbours
----------------------------------
The cluster IP is None and the endpoint port differs from the Service port. With a cluster IP the same Service would
work; a targetPort on which nobody listens fails with one too.

Fix
---
Use the container's port, or make port and targetPort equal.

References
----------
Kubernetes, Headless Services; DNS SRV records carry the target port.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import DialFailure, HttpExchange, LocalReply
from deadhop.model.observed.kube import Endpoints, Service
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.said import said
from deadhop.snapshot.services import together

SLUG = "headless-port-targetport-mismatch"


def check(view: View) -> Iterator[Hypothesis]:
    refused: list[Record] = [d for d in view.of(DialFailure) if d.error in ("refused", "timeout")]
    refused += [e for e in view.of(HttpExchange) if e.error in ("refused", "timeout")]
    refused += [r for r in view.of(LocalReply) if r.reset_reason.endswith("connection failure")]
    refused += said(view.of(Message), "upstream-connect-failed", "connect-failed")
    for service, records in together(view.of(Service)):
        if not service.headless:
            continue
        ends = [e for e in view.of(Endpoints) if e.service == service.name and e.ports]
        differing = [p for p in service.ports if isinstance(p.target, int) and p.target not in (0, p.port)]
        shown_elsewhere = [
            e for e in ends if service.ports and not any(p.port in e.ports for p in service.ports)
        ]
        named = [
            p
            for p in service.ports
            if isinstance(p.target, str)
            and p.target
            and not p.target.isdigit()
            and ends
            and p.port not in {n for e in ends for n in e.ports}
        ]
        ports = differing or named or ([service.ports[0]] if shown_elsewhere else [])
        if not ports and not (refused and service.ports):
            continue
        wrong = ports[0].port if ports else service.ports[0].port
        used = [r for r in refused if getattr(r, "port", None) in (wrong, None)]
        yield Hypothesis(
            subject=f"{service.ref} port {wrong}",
            title=f"{service.ref} is headless: nothing translates port {wrong} to the port that the pods open.",
            checks=(
                judged("the Service is headless and its port differs from the pods'", bool(ports), [*records, *shown_elsewhere], weight=1.9, required=True, decide=f"kubectl get svc,endpointslices -n {service.namespace or 'NAMESPACE'} -o yaml"),
                shown(f"connections to port {wrong} fail", used, weight=1.0, decide=f"nc -vz POD-IP {wrong}"),
            ),
            explains=("DNS returns pod addresses and the connection is refused there", "the same Service with a cluster IP would work"),
            fixes=(Fix(title="Make port and targetPort equal", artifact="spec:\n  clusterIP: None\n  ports:\n  - {port: CONTAINER-PORT, targetPort: CONTAINER-PORT}\n"),),
            prior=-1.2,
        )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="service",
    title="A headless Service has a port that differs from its targetPort; nothing translates it.",
    inputs=(
        Service,
        Endpoints,
        DialFailure,
        HttpExchange,
        LocalReply,
        Message,
    ),
    needs=(Service,),
    rivals=(
        "service-targetport-mismatch",
        "service-port-mismatch",
        "app-not-listening",
    ),
    check=check,
)
