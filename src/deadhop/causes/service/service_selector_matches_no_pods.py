"""A Service's selector matches no ready pod, so it has no endpoints.

What happens
------------
The selector names labels that no pod carries (or none that is ready), the endpoint list stays empty, and whoever
calls the Service is refused: kube-proxy rejects, an ingress answers 503, Envoy says "no healthy upstream" (UH).

How to tell it from its neighbours
----------------------------------
The endpoints are empty although pods run. Unready pods would be listed as not ready. A wrong port leaves endpoints in
place; a reset or a TLS failure means that an address was reached.

Fix
---
Correct the selector or the pods' labels.

References
----------
Kubernetes, Services without endpoints; Envoy response flag UH.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.finding import Check
from deadhop.model.observed.http import HttpExchange, LocalReply
from deadhop.model.observed.kube import Absent, Endpoints, Pod, Service
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.snapshot.replies import Reply, replies, with_flag, without_flag
from deadhop.snapshot.said import said

SLUG = "service-selector-matches-no-pods"


def check(view: View) -> Iterator[Hypothesis]:
    answers = replies(view.of(LocalReply), view.of(EnvoyAccess), view.of(HttpExchange))
    empty = {e.service: e for e in view.of(Endpoints) if not e.ready and not e.not_ready}
    full = {e.service for e in view.of(Endpoints) if e.ready}
    for service in view.of(Service):
        if not service.selector or (service.name and service.name in full):
            continue
        pods = [p for p in view.of(Pod) if p.labels and p.namespace in ("", service.namespace)]
        wanted = set(service.selector)
        matching = [p for p in pods if wanted <= set(p.labels)]
        none = empty.get(service.name)
        searched = view.where(Absent, lambda a, s=service: a.kind == "Pod" and bool(a.selector) and set(a.selector) == set(s.selector or ()) and a.namespace in ("", s.namespace))  # type: ignore[misc]  # fmt: skip
        if searched and not matching:
            yield _hypothesis(service, none, [], matching, answers, searched)
            continue
        if none is None and not pods:
            continue
        near = [p for p in pods if wanted & set(p.labels) or p.name.startswith(service.name)]
        if none is not None or (near and not matching):
            yield _hypothesis(service, none, near, matching, answers)
    told = said(view.of(Message), "no-active-endpoint", "no-live-upstreams")
    named = [m for m in told if m.kind == "no-active-endpoint"]
    if named and not any(e.ready or e.not_ready for e in view.of(Endpoints)):
        yield _told(named, [p for p in view.of(Pod) if p.ready and p.ready[0] == 0])
    if not view.of(Service) and answers:
        yield _from_answers(answers)


def _hypothesis(
    service: Service,
    none: Endpoints | None,
    near: list[Pod],
    matching: list[Pod],
    answers: list[Reply],
    searched: tuple[Absent, ...] = (),
) -> Hypothesis:
    wanted = ", ".join(f"{k}={v}" for k, v in service.selector or ())
    return Hypothesis(
        subject=service.ref,
        title=f"The selector of {service.ref} ({wanted}) matches no ready pod.",
        checks=(
            Check(text=f"{service.ref} selects {wanted}", holds=True, weight=0.4, required=True, records=(service,)),
            judged("no pod carries these labels", (not matching) if (near or matching or searched) else None, near or matching or searched, weight=1.6, decide=f"kubectl get pods -n {service.namespace or 'default'} -l '{wanted.replace(', ', ',')}'"),
            shown("its endpoints are empty", [none] if none else [], weight=1.8, decide=f"kubectl get endpointslices -n {service.namespace or 'default'} -l kubernetes.io/service-name={service.name}"),
            shown("a proxy found no healthy upstream", with_flag(answers, "UH"), weight=0.8),
        ),
        explains=("the Service has an address and nobody behind it",),
        fixes=(Fix(title="Make selector and labels agree", artifact=f"kubectl -n {service.namespace or 'default'} get pods --show-labels\nkubectl -n {service.namespace or 'default'} edit service {service.name}   # spec.selector\n"),),
        prior=-1.4,
    )  # fmt: skip


def _told(messages: list[Message], unready: list[Pod]) -> Hypothesis:
    """An ingress controller that finds a Service without an endpoint."""
    return Hypothesis(
        subject=f"Service {messages[0].field('service')}",
        title=f"Service {messages[0].field('service')} has no endpoint: its selector matches no ready pod.",
        checks=(
            shown("the ingress controller finds no active endpoint", messages, weight=1.7, required=True),
            judged("its pods are not merely unready", False if unready else None, unready, weight=1.0, decide="kubectl get pods --show-labels; kubectl get svc NAME -o jsonpath='{.spec.selector}'"),
        ),
        explains=("the Service has an address and nobody behind it",),
        prior=-1.3,
    )  # fmt: skip


def _from_answers(answers: list[Reply]) -> Hypothesis:
    without = without_flag(answers, "UH")
    found = with_flag(answers, "UH")
    return Hypothesis(
        subject="the upstream",
        title="The upstream has no healthy endpoint.",
        checks=(
            judged("the proxy found no healthy upstream (UH)", True if found else (False if without else None), found or without, weight=1.4, required=True, decide="kubectl get endpointslices -A"),
            judged("its Service's endpoints are empty", None, weight=1.5, required=True, decide="kubectl get svc,endpointslices -A -o yaml"),
        ),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="service",
    title="The Service's selector matches no ready pod, so it has no endpoints.",
    inputs=(Service, Endpoints, Pod, Absent, LocalReply, EnvoyAccess, HttpExchange, Message),
    needs=(Service, Endpoints, LocalReply, EnvoyAccess, Message),
    rivals=("service-port-mismatch", "service-targetport-mismatch", "app-not-listening"),
    check=check,
)
