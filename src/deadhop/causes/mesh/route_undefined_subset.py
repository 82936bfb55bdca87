"""A route points to a subset that no destination rule defines.

What happens
------------
The VirtualService sends requests to a subset; istiod builds the route to that subset's cluster, and no
DestinationRule makes the cluster. Envoy answers 503 with NC, at once.

How to tell it from its neighbours
----------------------------------
NC (no cluster), not UH (no healthy upstream): the cluster is absent, not empty. The failures start with the route and
concern all of its calls.

Fix
---
Define the subset in a DestinationRule, or remove it from the route.

References
----------
Istio, 503 errors after setting destination rule; istioctl analyze IST0101; Envoy response flag NC.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.kube import DestinationRule, VirtualService
from deadhop.model.observed.mesh import EnvoyAccess, EnvoyCluster
from deadhop.model.observed.message import Message
from deadhop.model.observed.proxy import ProxyResource
from deadhop.model.record import Record
from deadhop.snapshot.istio import ClusterName, cluster_parts, destinations, subsets
from deadhop.snapshot.names import same_service
from deadhop.snapshot.said import said

SLUG = "route-names-undefined-subset"


def check(view: View) -> Iterator[Hypothesis]:
    missing: list[Record] = [
        *(a for a in view.of(EnvoyAccess) if "NC" in a.flags or "cluster_not_found" in a.details),
        *said(view.of(Message), "route-unknown-cluster"),
    ]
    analyzed = [m for m in said(view.of(Message), "IST0101") if "subset" in m.field("text").lower()]
    rules = view.of(DestinationRule)
    undefined: list[Record] = []
    defined: list[Record] = []
    name = ""
    for service in view.of(VirtualService):
        for to in destinations(service):
            if not to.subset:
                continue
            own = [r for r in rules if same_service(str(r.spec.get("host", "")), to.host)]
            if any(to.subset in subsets(r) for r in own):
                defined += [service, *own]
            elif own or missing or analyzed or not rules:
                undefined += [service, *own]
                name = f"{to.subset} of {to.host}"
    for part, sources in _without_cluster(view).items():
        undefined += sources
        name = name or f"{part.subset} of {part.host}"
    named = [
        m for m in missing if isinstance(m, EnvoyAccess) and (p := cluster_parts(m.cluster)) and p.subset
    ]
    named_too = [
        m for m in missing if isinstance(m, Message) and (p := cluster_parts(m.field("cluster"))) and p.subset
    ]
    if not (undefined or analyzed or missing):
        return
    known = bool(rules) or bool(analyzed) or any(isinstance(r, ProxyResource) for r in undefined)
    yield Hypothesis(
        subject=f"subset {name}" if name else "the route's subset",
        title=f"The route names {'subset ' + name if name else 'a subset'}, and no destination rule defines it: its cluster does not exist.",
        checks=(
            judged(
                "the route names a subset that no rule defines", True if (undefined and known) or analyzed else (False if defined and not undefined else None if not (named or named_too or undefined) else True),
                [*undefined, *analyzed] or named or named_too or defined, weight=1.9 if known else 1.3, required=True, decide="istioctl analyze -A; kubectl get destinationrule -A -o yaml | grep -A20 subsets",
            ),
            shown("the proxy finds no such cluster (NC)", [m for m in missing if undefined or analyzed or m not in [*named, *named_too]] or (missing if undefined or analyzed else []), weight=1.4, decide="kubectl logs POD -c istio-proxy --tail=50   # 503 NC"),
            shown("istioctl analyze reports the reference", analyzed if undefined else [], weight=0.5),
        ),
        explains=("every call of that route fails at once, other routes to the same Service work",),
        fixes=(Fix(title="Define the subset", artifact="apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: NAME, namespace: NAMESPACE}\nspec:\n  host: HOST\n  subsets:\n  - name: SUBSET\n    labels: {version: VERSION}\n"),),
        prior=-1.2,
    )  # fmt: skip


def _without_cluster(view: View) -> dict[ClusterName, list[Record]]:
    """Subsets to which the proxy's own routes lead and that are not among the clusters which it has for that host, each
    with the records that show both."""
    have = [(p, c) for c in view.of(EnvoyCluster) if (p := cluster_parts(c.name))]
    found: dict[ClusterName, list[Record]] = {}
    for route in view.of(ProxyResource):
        if route.kind != "route" or route.state != "active":
            continue
        for part in (cluster_parts(text) for text in _texts(route.raw)):
            if part is None or not part.subset:
                continue
            beside = [c for p, c in have if same_service(p.host, part.host)]
            if beside and not any(p.subset == part.subset and p.port == part.port for p, c in have if c in beside):  # fmt: skip
                found.setdefault(part, []).extend(r for r in (route, *beside) if r not in found[part])
    return found


def _texts(value: Any) -> Iterator[str]:
    """Every string of a resource; its nesting is bounded by the readers."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="A route points to a subset that no destination rule defines, so the target cluster does not exist.",
    inputs=(
        EnvoyAccess,
        Message,
        VirtualService,
        DestinationRule,
        EnvoyCluster,
        ProxyResource,
    ),
    rivals=(
        "subset-selects-no-endpoints",
        "control-plane-data-plane-skew",
        "proxy-config-push-stale-or-rejected",
    ),
    check=check,
)
