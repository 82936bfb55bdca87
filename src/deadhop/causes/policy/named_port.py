"""Several pods use one port name for different numbers, and the engine cannot resolve a named egress port.

What happens
------------
A named port is resolved per destination pod. At the client the engine keeps one number for a name (or drops a name with
several), so a rule by name allows the wrong number for some destinations, or none.

How to tell it from its neighbours
----------------------------------
The egress rule uses a name, and at least two pods define it with different numbers. With the number it works. Selectors
match; only the port does not.

Fix
---
Use numbers, or unique port names, in egress rules.

References
----------
Cilium pkg/types/portmap.go NamedPortMultiMap (ErrDuplicateNamedPorts); NetworkPolicy v1 port.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.kube import (
    CiliumNetworkPolicy,
    KubeObject,
    NetworkPolicy,
    Pod,
    Workload,
    mappings,
)
from deadhop.model.observed.policy import Flow

SLUG = "named-port-ambiguous-across-pods"


def _named(policy: KubeObject) -> set[str]:
    """The port names in the egress rules of a policy."""
    found: set[str] = set()
    for rule in mappings(policy.spec, "egress"):
        items = [rule, *mappings(rule, "toPorts")]
        found |= {
            str(port["port"])
            for item in items
            for port in mappings(item, "ports")
            if isinstance(port.get("port"), str) and not str(port["port"]).isdigit()
        }
    return found


def _containers(obj: KubeObject) -> list[dict[str, object]]:
    template = ("spec", "containers") if obj.kind == "Pod" else ("spec", "template", "spec", "containers")
    return mappings(obj.raw, *template)


def check(view: View) -> Iterator[Hypothesis]:
    numbers: dict[str, dict[int, KubeObject]] = {}
    for obj in (*view.of(Pod), *view.of(Workload)):
        for container in _containers(obj):
            for port in mappings(container, "ports"):
                if port.get("name") and isinstance(port.get("containerPort"), int):
                    numbers.setdefault(str(port["name"]), {}).setdefault(port["containerPort"], obj)
    for policy in (*view.of(NetworkPolicy), *view.of(CiliumNetworkPolicy)):
        for name in sorted(_named(policy)):
            owners = numbers.get(name, {})
            if len(owners) < 2:
                continue
            denied = [
                f for f in view.of(Flow) if f.denied and f.dst.port in owners and "INGRESS" not in f.event
            ]
            known = ", ".join(str(n) for n in sorted(owners))
            yield Hypothesis(
                subject=f"{policy.ref}, port {name}",
                title=f"{policy.ref} allows the port name {name}, which means {known} for different pods.",
                checks=(
                    shown(f"an egress rule uses the port name {name}", [policy], weight=0.8, required=True),
                    shown(f"pods define it as {known}", list(owners.values())[:4], weight=1.5, required=True),
                    shown("a connection to one of the numbers is denied", denied[:3], weight=1.0, decide="hubble observe --verdict DROPPED"),
                ),
                explains=("with the number instead of the name it works",),
                fixes=(Fix(title="Use the number", artifact=f"egress:\n- ports:\n  - {{port: {min(owners)}, protocol: TCP}}\n"),),
                prior=-1.2,
            )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="A named egress port has different numbers on different pods.",
    inputs=(NetworkPolicy, CiliumNetworkPolicy, Pod, Workload, Flow),
    needs=(NetworkPolicy, CiliumNetworkPolicy),
    rivals=("egress-policy-service-port-not-pod-port",),
    check=check,
)
