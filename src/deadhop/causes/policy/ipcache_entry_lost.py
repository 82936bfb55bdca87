"""After an agent restart an address loses its identity and is treated as world.

What happens
------------
The agent restores its address-to-identity map, and the clean-up of restored state removes an entry that is still
needed. The address had a special identity (host, API server, a CIDR or a name); now it has none, so rules on that
identity no longer match.

How to tell it from its neighbours
----------------------------------
The same address shows a special identity before and world, or nothing, after. The policy is unchanged. Drops that end
once all endpoints are regenerated are a transient mismatch instead.

Fix
---
Use a release that keeps restored entries; meanwhile allow the address by CIDR as well.

References
----------
Cilium pkg/ipcache/ipcache.go, daemon/restore; bpf/lib/eps.h ipcache_lookup.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.kube import Pod
from deadhop.model.observed.policy import CiliumIdentity, Flow, FqdnCacheEntry
from deadhop.model.record import Record
from deadhop.snapshot.entities import NODE, RESERVED, WORLD, prefixes
from deadhop.snapshot.learned import learned

SLUG = "ipcache-entry-lost-after-agent-restart"


def check(view: View) -> Iterator[Hypothesis]:
    seen: dict[str, list[tuple[str, Record, bool]]] = {}
    for prefix, identities in prefixes(view.of(CiliumIdentity)).items():
        seen.setdefault(prefix.partition("/")[0], []).extend(
            (i.identity, i, False) for i in identities if not i.labels
        )
    for flow in view.of(Flow):
        if flow.dst.ip and flow.dst.identity and "/" not in flow.dst.name:
            seen.setdefault(flow.dst.ip, []).append((flow.dst.identity, flow, flow.denied))
    agents = [p for p in view.of(Pod) if p.name.startswith("cilium-") and "operator" not in p.name]
    for address, history in seen.items():
        special = [(i, record) for i, record, denied in history if i not in WORLD and not denied]
        last = [(i, record, denied) for i, record, denied in history if i in WORLD]
        if not special or not last or history[-1][0] not in WORLD:
            continue
        was = special[0][0]
        taught = [k.record for k in learned(view.of(FqdnCacheEntry), view.of(Flow)) if address in k.addresses]
        lost = [record for _i, record, _d in last]
        yield Hypothesis(
            subject=address,
            title=f"{address} had identity {RESERVED[was] if was in NODE and was in RESERVED else was} and is now treated as world.",
            checks=(
                shown("the address had a special identity", [record for _i, record in special][:3], weight=1.2, required=True),
                shown("later it is world", lost[:3], weight=1.4, required=True, decide=f"cilium-dbg bpf ipcache get {address}"),
                judged("no DNS answer taught the identity, which would age", False if taught else None, taught[:2], weight=1.0, required=bool(taught)),
                judged("connections to it are denied", True if any(d for _i, _r, d in last) else None, [r for _i, r, d in last if d][:3], weight=0.8),
                shown("the agent's pods are shown", agents, weight=0.2, decide="kubectl -n kube-system get pods -l k8s-app=cilium   # restarts and age"),
            ),
            explains=("rules on the old identity stop matching, and the policy is unchanged",),
            fixes=(Fix(title="Allow the address by CIDR as well", artifact=f"egress:\n- toCIDR: [{address}/{128 if ':' in address else 32}]\n", changed=(f"{address} is allowed whatever identity it has",)),),
            prior=-1.4,
        )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="After an agent restart an address loses its identity and is treated as world.",
    inputs=(CiliumIdentity, Flow, FqdnCacheEntry, Pod),
    needs=(CiliumIdentity, Flow),
    rivals=("transient-identity-mismatch-on-agent-restart", "tofqdns-entry-expired", "stale-global-cidr-identity-leaves-ipcache-empty"),
    check=check,
)  # fmt: skip
