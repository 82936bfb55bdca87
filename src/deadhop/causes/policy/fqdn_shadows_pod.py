"""A name pattern matched an in-cluster name, so a pod's address has a name-derived identity that hides the pod's own.

What happens
------------
A pattern such as ``*`` or ``*.local`` matches cluster names. The proxy learns a pod's address (a headless Service) as if
it were outside and gives it a local identity, so rules on the pod's labels no longer match.

How to tell it from its neighbours
----------------------------------
The FQDN cache holds a name of the cluster with a pod's address, and the denied flow to a pod carries a local identity
(16777216 and above). Labels are right.

Fix
---
Do not match cluster names with FQDN rules; select pods by label.

References
----------
Cilium pkg/fqdn/namemanager; pkg/identity/numericidentity.go IdentityScopeLocal.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.kube import Pod
from deadhop.model.observed.policy import CiliumEvent, CiliumIdentity, Flow, FqdnCacheEntry
from deadhop.snapshot.entities import LOCAL, number

SLUG = "fqdn-identity-shadows-pod-ip"
CLUSTER_NAMES = (".svc.cluster.local", ".cluster.local", ".svc")


def check(view: View) -> Iterator[Hypothesis]:
    pods = {p.ip: p for p in view.of(Pod) if p.ip}
    internal: dict[str, tuple[str, FqdnCacheEntry | CiliumIdentity]] = {
        ip: (e.fqdn, e)
        for e in view.of(FqdnCacheEntry)
        for ip in e.ips
        if ip in pods or e.fqdn.rstrip(".").endswith(CLUSTER_NAMES)
    }
    named = {i.identity: i for i in view.of(CiliumIdentity) if any(x.startswith("fqdn:") for x in i.labels)}
    for identity in view.of(CiliumIdentity):
        address = identity.prefix.partition("/")[0]
        if identity.identity not in named:
            continue
        label = next(x for x in named[identity.identity].labels if x.startswith("fqdn:"))
        if address in pods or (address and label.rstrip(".").endswith(CLUSTER_NAMES)):
            internal.setdefault(address, (label.removeprefix("fqdn:"), named[identity.identity]))
    for address, (learned_name, entry) in internal.items():
        denied: list[Flow | CiliumEvent] = [
            f for f in view.of(Flow) if f.denied and any(e.ip == address and number(e.identity) >= LOCAL for e in (f.src, f.dst))
        ]  # fmt: skip
        denied += [
            e
            for e in view.of(CiliumEvent)
            if e.verdict == "DROPPED"
            and any(
                ip == address and number(identity) >= LOCAL
                for ip, identity in ((e.src, e.src_identity), (e.dst, e.dst_identity))
            )
        ]
        mapped = [
            i
            for i in view.of(CiliumIdentity)
            if i.prefix.partition("/")[0] == address and number(i.identity) >= LOCAL
        ]
        pod = pods.get(address)
        if not (denied or mapped):
            continue
        yield Hypothesis(
            subject=f"{address} ({learned_name})",
            title=f"{address} is {pod.ref if pod else 'an address of the cluster'}, but carries an identity learned from the name {learned_name}.",
            checks=(
                shown("a name of the cluster has this address in the FQDN cache, or gave it its identity", [entry], weight=1.2, required=True),
                shown("the address carries a local (name-derived) identity", [*denied, *mapped][:4], weight=1.6, required=True),
                shown("it belongs to a pod", [pod] if pod else [], weight=0.6, decide=f"kubectl get pods -A -o wide | grep {address}"),
                shown("connections from or to it are denied", denied[:3], weight=0.4),
            ),
            explains=("labels are right, and rules by label do not match",),
            fixes=(Fix(title="Keep cluster names out of FQDN rules", artifact='egress:\n- toEndpoints:\n  - matchLabels: {app: TARGET}\n- toFQDNs:\n  - matchPattern: "*.example.com"   # not "*"\n'),),
            prior=-1.2,
        )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="A name-derived identity hides the identity of a pod.",
    inputs=(FqdnCacheEntry, Pod, Flow, CiliumEvent, CiliumIdentity),
    needs=(FqdnCacheEntry, CiliumIdentity),
    rivals=("cidr-rule-does-not-select-pods", "tofqdns-entry-expired"),
    check=check,
)
