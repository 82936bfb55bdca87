"""A proxy still runs an older configuration than its control plane holds.

What happens
------------
The control plane's push has not arrived, or the proxy rejected it. A rejected update leaves the whole resource type
as it was, so later changes have no effect on that proxy either.

How to tell it from its neighbours
----------------------------------
The sync status says STALE or NOT SENT, a log or the proxy's own configuration dump shows a rejected update, or the
dump differs from what the objects imply: a route to another destination, a port, a cluster or an endpoint that is
missing, another mutual-TLS mode. A difference proves nothing where the objects changed after the newest time in the
dump, where the dump was narrowed by a mask or a filter, where a Sidecar or an exportTo hides the service, or where an
EnvoyFilter changes that kind of resource. Other proxies with the same objects behave differently; a restart changes the
outcome without any object changing. A duplicate on a reserved port, or unknown fields after an upgrade, are causes of
their own.

Fix
---
Remove what makes the proxy reject the update, or restore its connection to the control plane.

References
----------
istioctl proxy-status; Envoy gRPC subscription (rejected updates); envoy/admin/v3/config_dump_shared.proto
(UpdateFailureState); Cilium xDS NACK.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.evidence.fields import integer
from deadhop.hops.mesh_drift import Drifted, drifted
from deadhop.hops.mesh_world import walk
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.kube import Absent, KubeObject
from deadhop.model.observed.mesh import ProxySync
from deadhop.model.observed.message import Message
from deadhop.model.observed.proxy import ProxyDump, ProxyResource
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "proxy-config-push-stale-or-rejected"
OPEN = "{kinds} -A -o yaml; istioctl proxy-status {pod}   # then once more: istioctl proxy-config all {pod} -o json"
FIX = Fix(
    title="Find what the proxy rejects",
    artifact="kubectl logs POD -c istio-proxy | grep -E 'rejected|Error adding'   # the object that it names\nistioctl proxy-status POD   # the difference\nkubectl -n istio-system logs deploy/istiod | grep -E 'ACK ERROR|NACK'\n",
    apply=lambda world: world.pushed(),
    changed=("the proxy runs what the objects imply",),
)
EXPLAINS = (
    "other proxies with the same objects behave differently",
    "a restart changes the outcome without any object changing",
)

MALFORMED = re.compile(
    r"[Ff]ailed to load (?:incomplete )?(?:private key|certificate)|NO_START_LINE|PEM routines"
)
RESERVED = re.compile(r"duplicate address '[\d.]+[:_]150\d\d'")


def check(view: View) -> Iterator[Hypothesis]:
    for proxy in drifted(view.of(KubeObject), view.of(ProxyDump), view.of(ProxyResource), _listed(view)):
        yield _from_difference(view, proxy)
    yield from _from_status(view)


def _listed(view: View) -> frozenset[str]:
    """The kinds of which the evidence says that there are none at all."""
    return frozenset(a.kind for a in view.of(Absent) if not (a.name or a.namespace or a.selector))


def _from_difference(view: View, proxy: Drifted) -> Hypothesis:
    """The proxy's own configuration beside what the objects imply."""
    name = proxy.state.owner
    pod = ".".join(reversed(name.split("/", 1)))
    sure = proxy.certain
    first = (sure or proxy.drifts)[0]
    told: dict[int, Record] = {}
    for drift in sure:
        told |= {id(r): r for r in (*drift.difference.resources, *drift.objects)}
    none_at_all = [a for a in view.of(Absent) if a.kind in first.difference.presumes] if sure else []
    refused = [r for r in proxy.state.resources if r.state == "rejected"]
    own = [s for s in view.of(ProxySync) if s.proxy in (pod, name.replace("/", "."), name.rpartition("/")[2])]
    behind = [s for s in own if any(v != "SYNCED" and v != "IGNORED" for _k, v in s.states)]
    level = [s for s in own if s not in behind]
    more = f" (and {len(sure) - 1} more differences)" if len(sure) > 1 else ""
    kinds = "kubectl get virtualservice,destinationrule,sidecar,peerauthentication,envoyfilter"
    return Hypothesis(
        subject=f"proxy {name}",
        title=f"The proxy of {name} does not run what the objects imply: {first.difference}.",
        checks=(
            judged(f"{first.difference}{more}", True if sure else None, told.values(), weight=2.2, required=True, decide=OPEN.format(kinds=kinds, pod=pod)),
            judged("nothing else explains the difference" + (f": {first.doubt}" if first.doubt else ""), True if sure else None, none_at_all, weight=0.4, required=True, inferred=not none_at_all),
            shown("the proxy's dump holds an update that it rejected", refused, weight=1.2, decide=f"kubectl logs {pod.partition('.')[0]} -c istio-proxy | grep rejected"),
            judged("the sync status says that this proxy is behind", True if behind else False if level else None, behind or level, weight=1.0, decide=f"istioctl proxy-status {pod}"),
        ),
        explains=EXPLAINS,
        world=proxy.world if sure else None,
        walk=walk if sure and proxy.world is not None else None,
        fixes=(FIX,),
        prior=-1.2,
        notes=tuple(f"also: {d.difference}" for d in sure[1:6]),
    )  # fmt: skip


def _from_status(view: View) -> Iterator[Hypothesis]:
    """The sync status, rejected updates in logs, counters and dumps."""
    stale = [
        s
        for s in view.of(ProxySync)
        if any(v in ("STALE", "ERROR", "NACKED") or v.startswith("STALE") for _k, v in s.states)
    ]
    unsent = [
        s for s in view.of(ProxySync) if any(v == "NOT SENT" for k, v in s.states if k in ("CDS", "LDS"))
    ]
    synced = [s for s in view.of(ProxySync) if s not in stale and s not in unsent]
    rejected: list[Record] = [
        m
        for m in said(view.of(Message), "xds-rejected", "listener-filter-chains-clash")
        if not RESERVED.search(m.text) and not MALFORMED.search(m.text)
    ]
    rejected += [
        m
        for m in said(view.of(Message), "listener-duplicate-address")
        if not RESERVED.search(m.text) and not MALFORMED.search(m.text)
    ]
    rejected += [
        m
        for m in said(view.of(Message), "proxy-not-ready")
        if (integer(m.field("cds_rejected"), 0) or 0) + (integer(m.field("lds_rejected"), 0) or 0) > 0
    ]
    refused = [
        r
        for r in view.of(ProxyResource)
        if r.state == "rejected" and not RESERVED.search(r.details) and not MALFORMED.search(r.details)
    ]
    counted = [
        c
        for c in view.of(Counter)
        if c.name.endswith(("update_rejected", "update_failure")) and c.value > 0 and "envoy." in c.name
    ]
    waiting = [m for m in said(view.of(Message), "proxy-not-ready", "xds-timeout") if m not in rejected]
    unknown = said(view.of(Message), "xds-unknown-field")
    newest = max((_minor(s.version) for s in synced), default=0)
    older = [s for s in stale if 0 < _minor(s.version) < newest - 1]
    shown_ = [*stale, *rejected, *refused, *counted, *unsent]
    if not shown_ and not (waiting and synced):
        return
    named = next((r for r in refused if r.details), None)
    because = f": {named.kind} {named.name}: {named.details[:200]}" if named else "."
    yield Hypothesis(
        subject=stale[0].proxy if stale else "the proxy's configuration",
        title=f"The proxy runs an older configuration than its control plane holds: the push was rejected or has not arrived{because}",
        checks=(
            shown("an update was rejected, or the sync status says stale", shown_, weight=2.0, required=True, decide="istioctl proxy-status; kubectl logs POD -c istio-proxy | grep rejected"),
            shown("other proxies are in sync", synced, weight=0.4),
            shown("the proxy waits for configuration", waiting, weight=0.5),
            judged("the stale proxies are not several releases behind the others", False if stale and len(older) == len(stale) else None, older, weight=1.0),
            judged("the proxy knows every field of the update", False if unknown else None, unknown, weight=0.9),
        ),
        explains=EXPLAINS,
        fixes=(Fix(title=FIX.title, artifact=FIX.artifact),),
        prior=-1.2,
    )  # fmt: skip


def _minor(version: str) -> int:
    """The minor number of ``1.20.3``; 0 where there is none."""
    parts = version.lstrip("v").split(".")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="A proxy still runs an older configuration than its control plane holds.",
    inputs=(ProxySync, Message, Counter, ProxyDump, ProxyResource, KubeObject, Absent),
    needs=(ProxySync, Message, Counter, ProxyDump),
    rivals=(
        "control-plane-data-plane-skew",
        "service-uses-mesh-reserved-port",
        "route-names-undefined-subset",
    ),
    check=check,
)
