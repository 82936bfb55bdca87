"""A subset exists, and its labels select no endpoint.

What happens
------------
The DestinationRule's subset asks for labels that no pod of the Service carries, or the endpoints are static or
external and carry none. The subset's cluster is there and empty: Envoy answers 503 with UH.

How to tell it from its neighbours
----------------------------------
UH for a cluster with a subset in its name, while the Service without a subset has endpoints. An absent subset gives
NC. A Service without any endpoint fails without a subset too.

Fix
---
Label the endpoints to match, or use a traffic policy without subsets.

References
----------
istioctl analyze IST0173; Envoy response flag UH; Istio ServiceEntry endpoints labels.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import LocalReply
from deadhop.model.observed.kube import DestinationRule, Pod, ServiceEntry, mapping, mappings
from deadhop.model.observed.mesh import EnvoyAccess, EnvoyCluster, EnvoyEndpoint
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.istio import cluster_parts, subsets
from deadhop.snapshot.replies import replies, with_flag, without_flag
from deadhop.snapshot.said import said

SLUG = "subset-selects-no-endpoints"


def check(view: View) -> Iterator[Hypothesis]:
    answers = replies(view.of(LocalReply), view.of(EnvoyAccess))
    unhealthy = with_flag(answers, "UH")
    other = without_flag(answers, "UH")
    named = [
        a for a in view.of(EnvoyAccess) if "UH" in a.flags and (p := cluster_parts(a.cluster)) and p.subset
    ]
    analyzed = said(view.of(Message), "IST0173")
    rules = [r for r in view.of(DestinationRule) if subsets(r)]
    pods = [p for p in view.of(Pod) if p.labels]
    empty: list[Record] = []
    fitting: set[int] = set()
    for rule in rules:
        entries = [e for e in view.of(ServiceEntry) if rule.spec.get("host") in (e.spec.get("hosts") or [])]
        for labels in subsets(rule).values():
            wanted = set(labels.items())
            if not wanted:
                continue
            targets = (
                [set(p.labels) for p in pods]
                if not entries
                else [
                    {(str(k), str(v)) for k, v in mapping(end, "labels").items()}
                    for e in entries
                    for end in mappings(e.spec, "endpoints")
                ]
            )
            if any(wanted <= t for t in targets):
                fitting.add(id(rule))
            elif targets or entries:
                empty += [rule, *(entries or pods)]
    rules = [r for r in rules if id(r) not in fitting or r in empty]
    listed = {e.cluster for e in view.of(EnvoyEndpoint) if e.status in ("", "HEALTHY")}
    bare = [
        c
        for c in view.of(EnvoyCluster)
        if (p := cluster_parts(c.name))
        and p.subset
        and ((listed and c.name not in listed) or c.endpoints == ())
    ]
    if not (named or analyzed or empty or bare or (unhealthy and rules)):
        return
    seen = [*named, *analyzed, *empty, *bare]
    yield Hypothesis(
        subject=rules[0].ref if rules else (named[0].cluster if named else "the subset"),
        title="The subset's labels select no endpoint: its cluster is empty.",
        checks=(
            shown("a subset's cluster has no endpoint", seen or (rules if unhealthy else []), weight=2.2 if seen else 1.4, required=True, decide="istioctl proxy-config endpoints POD --cluster 'outbound|PORT|SUBSET|HOST'"),
            judged("the proxy finds no healthy upstream (UH)", True if unhealthy and not (named and not empty) else (False if other and not unhealthy else None), [u for u in unhealthy if u not in named] or ([] if unhealthy else other), weight=0.8, required=bool(other) and not unhealthy),
            shown("a destination rule defines subsets", [r for r in rules if r not in empty] if seen else [], weight=0.3),
        ),
        explains=("the Service without a subset has endpoints; only routes to the subset fail",),
        fixes=(Fix(title="Make labels and subset agree", artifact="kubectl get pods -n NAMESPACE --show-labels\nkubectl -n NAMESPACE edit destinationrule NAME   # spec.subsets[].labels\n# ServiceEntry: spec.endpoints[].labels\n"),),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="The subset exists, but its labels select no endpoint, so its cluster is empty.",
    inputs=(
        LocalReply,
        EnvoyAccess,
        Message,
        DestinationRule,
        ServiceEntry,
        Pod,
        EnvoyEndpoint,
        EnvoyCluster,
    ),
    needs=(
        LocalReply,
        EnvoyAccess,
        Message,
        DestinationRule,
        EnvoyCluster,
    ),
    rivals=(
        "route-names-undefined-subset",
        "service-selector-matches-no-pods",
        "registry-only-no-serviceentry",
    ),
    check=check,
)
