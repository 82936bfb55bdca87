"""A proxy still runs an older configuration than its control plane holds.

What happens
------------
The control plane's push has not arrived, or the proxy rejected it. A rejected update leaves the whole resource type
as it was, so later changes have no effect on that proxy either.

How to tell it from its neighbours
----------------------------------
The sync status says STALE or NOT SENT, or a log shows a rejected update. Other proxies with the same objects behave
differently; a restart changes the outcome without any object changing. A duplicate on a reserved port, or unknown
fields after an upgrade, are causes of their own.

Fix
---
Remove what makes the proxy reject the update, or restore its connection to the control plane.

References
----------
istioctl proxy-status; Envoy gRPC subscription (rejected updates); Cilium xDS NACK.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.evidence.fields import integer
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.mesh import ProxySync
from deadhop.model.observed.message import Message
from deadhop.snapshot.said import said

SLUG = "proxy-config-push-stale-or-rejected"

MALFORMED = re.compile(
    r"[Ff]ailed to load (?:incomplete )?(?:private key|certificate)|NO_START_LINE|PEM routines"
)
RESERVED = re.compile(r"duplicate address '[\d.]+[:_]150\d\d'")


def check(view: View) -> Iterator[Hypothesis]:
    stale = [
        s
        for s in view.of(ProxySync)
        if any(v in ("STALE", "ERROR", "NACKED") or v.startswith("STALE") for _k, v in s.states)
    ]
    unsent = [
        s for s in view.of(ProxySync) if any(v == "NOT SENT" for k, v in s.states if k in ("CDS", "LDS"))
    ]
    synced = [s for s in view.of(ProxySync) if s not in stale and s not in unsent]
    rejected = [
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
    counted = [
        c
        for c in view.of(Counter)
        if c.name.endswith(("update_rejected", "update_failure")) and c.value > 0 and "envoy." in c.name
    ]
    waiting = [m for m in said(view.of(Message), "proxy-not-ready", "xds-timeout") if m not in rejected]
    unknown = said(view.of(Message), "xds-unknown-field")
    newest = max((_minor(s.version) for s in synced), default=0)
    older = [s for s in stale if 0 < _minor(s.version) < newest - 1]
    shown_ = [*stale, *rejected, *counted, *unsent]
    if not shown_ and not (waiting and synced):
        return
    yield Hypothesis(
        subject=stale[0].proxy if stale else "the proxy's configuration",
        title="The proxy runs an older configuration than its control plane holds: the push was rejected or has not arrived.",
        checks=(
            shown("an update was rejected, or the sync status says stale", shown_, weight=2.0, required=True, decide="istioctl proxy-status; kubectl logs POD -c istio-proxy | grep rejected"),
            shown("other proxies are in sync", synced, weight=0.4),
            shown("the proxy waits for configuration", waiting, weight=0.5),
            judged("the stale proxies are not several releases behind the others", False if stale and len(older) == len(stale) else None, older, weight=1.0),
            judged("the proxy knows every field of the update", False if unknown else None, unknown, weight=0.9),
        ),
        explains=("other proxies with the same objects behave differently", "a restart changes the outcome without any object changing"),
        fixes=(Fix(title="Find what the proxy rejects", artifact="kubectl logs POD -c istio-proxy | grep -E 'rejected|Error adding'   # the object that it names\nistioctl proxy-status POD   # the difference\nkubectl -n istio-system logs deploy/istiod | grep -E 'ACK ERROR|NACK'\n"),),
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
    inputs=(
        ProxySync,
        Message,
        Counter,
    ),
    rivals=(
        "control-plane-data-plane-skew",
        "service-uses-mesh-reserved-port",
        "route-names-undefined-subset",
    ),
    check=check,
)
