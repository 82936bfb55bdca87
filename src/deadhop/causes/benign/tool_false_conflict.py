"""A checker reports a conflict that does not exist.

What happens
------------
istioctl authn tls-check, analyzers and consoles look at a part of the configuration: they ignore subset or port
policies, other namespaces, or settings of newer releases, and report a conflict or an error for a consistent setup.

How to tell it from its neighbours
----------------------------------
Requests succeed, and the effective settings, for example per subset, are consistent. A conflict with failing requests
is a fault of its own.

Fix
---
None needed.

References
----------
istioctl authn tls-check (removed in 1.5); istioctl analyze; Kiali validations.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Hypothesis, View, judged, shown
from deadhop.model.observed.http import HttpExchange, LocalReply
from deadhop.model.observed.kube import DestinationRule, mapping, mappings
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "benign-tool-false-conflict"


def check(view: View) -> Iterator[Hypothesis]:
    conflicts: list[Record] = [
        m for m in said(view.of(Message), "tls-check") if m.field("status").upper() in ("CONFLICT",)
    ]
    conflicts += [
        m
        for m in view.of(Message)
        if m.emitter == "istioctl-analyze" and m.field("level") in ("Error", "Warning")
    ]
    conflicts += said(view.of(Message), "checker-conflict")
    served: list[Record] = [e for e in view.of(HttpExchange) if e.status and e.status < 400]
    served += [a for a in view.of(EnvoyAccess) if 0 < a.status < 400]
    failing: list[Record] = [e for e in view.of(HttpExchange) if e.error or (e.status or 0) >= 400]
    failing += [a for a in view.of(EnvoyAccess) if a.status >= 400 or (a.status == 0 and a.flags)]
    failing += list(view.of(LocalReply))
    checked = [m for m in said(view.of(Message), "tls-check") if m.field("status").upper() == "CONFLICT"]
    consistent = []
    for rule in view.of(DestinationRule):
        modes = [
            str(mapping(s, "trafficPolicy", "tls").get("mode", "")) for s in mappings(rule.spec, "subsets")
        ]
        if modes and all(m == "ISTIO_MUTUAL" for m in modes):
            consistent.append(rule)
    if not conflicts or not (served or failing or consistent or checked):
        return
    yield Hypothesis(
        subject="the reported conflict",
        title="The checker reports a conflict that does not exist: requests succeed and the effective settings agree.",
        checks=(
            shown("a checker reports a conflict", conflicts, weight=0.9, required=True),
            judged("requests succeed", True if served and not failing else (False if failing else None), failing or served, weight=1.2, required=bool(failing) or not consistent, decide="curl -sv http://SERVICE.NAMESPACE:PORT/ from a pod in the mesh"),
            shown("the settings per subset agree", consistent, weight=1.0, decide="kubectl get destinationrule -A -o yaml"),
        ),
        explains=("the checker ignores part of the configuration",),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="A checker reports a conflict that does not exist because it ignores part of the configuration.",
    severity="benign",
    inputs=(
        Message,
        HttpExchange,
        EnvoyAccess,
        LocalReply,
        DestinationRule,
    ),
    needs=(Message,),
    rivals=(
        "destinationrule-drops-mtls-under-strict",
        "port-name-protocol-misdeclared",
    ),
    check=check,
)
