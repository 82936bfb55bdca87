"""The namespace selector asks for a label that the namespace does not carry, so the rule selects nothing.

What happens
------------
A rule selects peers by their namespace's labels. People write ``name: x`` and believe that it means the namespace x; but
only ``kubernetes.io/metadata.name`` is set by itself. The selector matches no namespace and the rule allows nobody.

How to tell it from its neighbours
----------------------------------
None of the namespaces carries the key and value. Port and direction of the rule are right, and a denial shows the peer
as an ordinary pod with its own identity.

Fix
---
Select by ``kubernetes.io/metadata.name``, or add the label to the namespace.

References
----------
NetworkPolicy v1 namespaceSelector; NamespaceDefaultLabelName (Kubernetes 1.21).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deadhop.hops.policy.peers import matches
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.finding import Check
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.kube import Namespace, NetworkPolicy, listing, mapping, mappings
from deadhop.model.observed.policy import Flow
from deadhop.model.record import Record

SLUG = "namespace-selector-label-missing"
AUTOMATIC = "kubernetes.io/metadata.name"


def check(view: View) -> Iterator[Hypothesis]:
    namespaces = {n.name: n for n in view.of(Namespace) if n.name}
    labels = {name: {AUTOMATIC: name, **dict(n.labels)} for name, n in namespaces.items()}
    for policy in view.of(NetworkPolicy):
        for direction, key in (("ingress", "from"), ("egress", "to")):
            for rule in mappings(policy.spec, direction):
                for peer in mappings(rule, key):
                    wanted = peer.get("namespaceSelector")
                    if isinstance(wanted, dict) and _asks(wanted):
                        shown_ = [n for n in namespaces.values() if _tells(n, wanted)]
                        matching = [namespaces[n] for n, found in labels.items() if matches(wanted, found)]
                        yield _hypothesis(
                            view, policy, direction, wanted, shown_, matching, _failing(view, rule)
                        )  # fmt: skip


def _tells(namespace: Namespace, wanted: dict[str, Any]) -> bool:
    """Whether a record shows the labels that are asked for, so that their absence is a fact: a manifest does, a table with
    LABELS or with a column for each key; a bare row does not."""
    cells = namespace.raw.get("cells")
    if not isinstance(cells, dict):
        # Every namespace has the automatic label since 1.21: a list without it is a part of one.
        whole = {AUTOMATIC, "projectcalico.org/name"} & {k for k, _v in namespace.labels}
        return bool(whole or namespace.api_version)
    keys = [
        *mapping(wanted, "matchLabels"),
        *(str(e.get("key")) for e in mappings(wanted, "matchExpressions")),
    ]
    automatic = all(k == AUTOMATIC for k in keys)
    return "LABELS" in cells or automatic or all(k.rpartition("/")[2].upper() in cells for k in keys)


def _asks(selector: dict[str, Any]) -> list[str]:
    return [
        *(f"{k}={v}" for k, v in mapping(selector, "matchLabels").items()),
        *(
            f"{e.get('key')} {e.get('operator')} {listing(e, 'values')}"
            for e in mappings(selector, "matchExpressions")
        ),
    ]


def _failing(view: View, rule: dict[str, Any]) -> list[Record]:
    """Connections that hang on their way to a port of the rule: what no rule allows is dropped without an answer."""
    ports = {p.get("port") for p in mappings(rule, "ports")}
    dials = [d for d in view.of(DialFailure) if d.error == "timeout" and d.port in ports]
    return [*dials, *(e for e in view.of(HttpExchange) if e.error == "timeout" and e.port in ports)]


def _hypothesis(
    view: View,
    policy: NetworkPolicy,
    direction: str,
    wanted: dict[str, Any],
    namespaces: list[Namespace],
    matching: list[Namespace],
    failing: list[Record],
) -> Hypothesis:
    text = ", ".join(_asks(wanted))
    denied = [f for f in view.of(Flow) if f.denied and direction.upper() in (f.event + f.direction)]
    named = [n for n in namespaces if n.name in [str(v) for v in mapping(wanted, "matchLabels").values()]]
    value = named[0].name if named else "NAMESPACE"
    return Hypothesis(
        subject=f"{policy.ref}, {direction}",
        title=f"{policy.ref} selects namespaces with {text}; no namespace that is shown carries it.",
        checks=(
            Check(text=f"a rule of {policy.ref} selects namespaces by {text}", holds=True, weight=0.4, required=True, records=(policy,)),
            judged("no namespace carries the label", not matching if namespaces else None, matching or namespaces, weight=1.7, required=True, decide="kubectl get ns --show-labels"),
            shown("a namespace has the label's value as its name", named, weight=0.8),
            shown("connections to a port of the rule time out", failing[:4], weight=0.5),
            shown("connections are denied in this direction", denied[:4], weight=0.6, decide="hubble observe --verdict DROPPED"),
        ),
        explains=("the rule is there and allows nobody",),
        fixes=(
            Fix(title="Select by the automatic label", artifact=f"namespaceSelector:\n  matchLabels: {{{AUTOMATIC}: {value}}}\n", changed=(f"pods of {value} are selected",)),
            Fix(title="Or label the namespace", artifact="".join(f"kubectl label namespace {value} {k}={v}\n" for k, v in mapping(wanted, "matchLabels").items()) or f"kubectl label namespace {value} KEY=VALUE\n"),
        ),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="A namespace selector asks for a label that the namespace does not carry.",
    inputs=(NetworkPolicy, Namespace, Flow, DialFailure, HttpExchange),
    needs=(NetworkPolicy,),
    rivals=("destination-ingress-policy-missing-client", "hostnetwork-source-not-matched-by-pod-selectors"),
    check=check,
)
