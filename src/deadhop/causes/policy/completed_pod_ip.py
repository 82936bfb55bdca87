"""The policy engine enforces rules for a finished pod whose address a new pod has.

What happens
------------
A completed pod keeps its object, and the object keeps the address that the CNI has given to another pod since. An
engine that does not skip finished pods keeps their rules, which then hit the new pod.

How to tell it from its neighbours
----------------------------------
Two pod objects list the same address, one of them is finished, and the other is the one that suffers. Deleting the
finished pod cures it. A policy that selects the new pod itself would be named by its labels.

Fix
---
Delete finished pods; use a controller release that skips them.

References
----------
kube-router pkg/controllers/netpol/pod.go; PodPhase Succeeded and Failed; CNI address reuse after sandbox deletion.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.kube import Pod
from deadhop.model.observed.policy import CiliumEvent, Flow
from deadhop.model.record import Record

SLUG = "policy-enforced-for-completed-pod-with-reused-ip"
FINISHED = ("Completed", "Succeeded", "Failed", "Error", "Evicted")


def check(view: View) -> Iterator[Hypothesis]:
    pods = [p for p in view.of(Pod) if p.ip]
    for gone in (p for p in pods if p.phase in FINISHED):
        for live in (p for p in pods if p.ip == gone.ip and p.phase == "Running" and p.ref != gone.ref):
            rules = [
                t
                for t in view.of(IptablesTable)
                if any(r.option("-d", "-s").partition("/")[0] == gone.ip for r in t.rules)
            ]
            denied: list[Record] = [f for f in view.of(Flow) if f.denied and gone.ip in (f.dst.ip, f.src.ip)]
            denied += [
                e for e in view.of(CiliumEvent) if e.verdict == "DROPPED" and gone.ip in (e.dst, e.src)
            ]
            yield Hypothesis(
                subject=f"{gone.ip}: {gone.ref} and {live.ref}",
                title=f"{live.ref} has the address of the finished {gone.ref}, whose rules are still enforced.",
                checks=(
                    shown("a finished and a running pod list one address", [gone, live], weight=1.4, required=True),
                    shown("rules for the address are in the kernel, or it is denied", [*rules, *denied], weight=1.4, required=True, decide=f"iptables-save | grep {gone.ip}"),
                ),
                explains=("the new pod has no policy of its own and is denied",),
                fixes=(Fix(title="Delete the finished pod", artifact=f"kubectl -n {gone.namespace or 'NAMESPACE'} delete pod {gone.name}\n"),),
                prior=-1.2,
            )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="Rules for a finished pod hit the pod that has its address now.",
    inputs=(Pod, IptablesTable, Flow, CiliumEvent),
    needs=(Pod,),
    rivals=("stale-netpol-iptables-rules", "destination-ingress-policy-missing-client"),
    check=check,
)
