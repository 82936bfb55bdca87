"""A CIDR identity left over in the shared store keeps the agents from creating a local one.

What happens
------------
CIDR identities are node-local. One that an old release wrote to the cluster's store has a number of the global range;
an agent finds it, creates no local identity, and the address stays without an entry in the map: it is world.

How to tell it from its neighbours
----------------------------------
The identity of the prefix is numbered from the cluster's range. The address has no entry in the datapath map, while the
policy that names it is well formed.

Fix
---
Delete the stale identity from the store and restart the agents.

References
----------
Cilium pkg/identity/numericidentity.go (local identities have bit 24); CiliumIdentity custom resources.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.policy import CiliumIdentity, Flow
from deadhop.snapshot.entities import CLUSTER, LOCAL, WORLD, denied_to, number

SLUG = "stale-global-cidr-identity-leaves-ipcache-empty"


def check(view: View) -> Iterator[Hypothesis]:
    identities = view.of(CiliumIdentity)
    for stale in identities:
        cidr = [label for label in stale.labels if label.startswith("cidr:")]
        if not cidr:
            continue
        prefix = stale.prefix or cidr[0].partition(":")[2]
        address = prefix.partition("/")[0]
        mapped = [i for i in identities if not i.labels and i.prefix == prefix and i.identity not in WORLD]
        listed = [i for i in identities if not i.labels and i.prefix and i not in mapped]
        local = [i for i in identities if number(i.identity) >= LOCAL and prefix in (i.prefix, *i.labels)]
        denied = denied_to(view.of(Flow), address)
        yield Hypothesis(
            subject=f"{prefix}, identity {stale.identity}",
            title=f"{prefix} has the cluster-wide identity {stale.identity}, and the agents create no local one.",
            checks=(
                judged("the prefix' identity is numbered from the cluster's range", number(stale.identity) in CLUSTER, [stale], weight=1.9, required=True),
                judged("the datapath map has no entry for it", not mapped if (mapped or listed) else None, mapped or listed[:3], weight=0.9, required=bool(mapped), decide=f"cilium-dbg bpf ipcache get {address}"),
                judged("no local identity exists for it", not local, local, weight=0.4),
                shown("connections to it are denied", denied[:3], weight=0.6),
            ),
            explains=("rules by CIDR and by name for the address are well formed and do not match",),
            fixes=(Fix(title="Delete the stale identity, then restart the agents", artifact=f"kubectl delete ciliumidentity {stale.identity}\nkubectl -n kube-system rollout restart ds/cilium\n"),),
            prior=-1.2,
        )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="A stale cluster-wide CIDR identity leaves the address without an entry in the map.",
    inputs=(CiliumIdentity, Flow),
    needs=(CiliumIdentity,),
    rivals=("ipcache-entry-lost-after-agent-restart", "cidr-rule-does-not-select-pods"),
    check=check,
)
