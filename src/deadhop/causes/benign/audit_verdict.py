"""Audit mode logs a packet that no policy matches and lets it pass.

What happens
------------
With policy audit mode (for the host firewall, an endpoint or all of them) the engine reports what enforcement would
deny and forwards it.

How to tell it from its neighbours
----------------------------------
The action is audit and not deny, and the same flow is forwarded or answered. Enforcement would deny it.

Fix
---
None needed; add the missing rules before enforcing.

References
----------
Cilium policy-audit-mode; pkg/monitor/datapath_policy.go.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Hypothesis, View, judged, shown
from deadhop.model.observed.policy import CiliumEvent, CiliumOption, Flow
from deadhop.model.record import Record

SLUG = "benign-policy-audit-mode-verdict"


def check(view: View) -> Iterator[Hypothesis]:
    audited: list[Record] = [f for f in view.of(Flow) if f.verdict.startswith("AUDIT")]
    audited += [e for e in view.of(CiliumEvent) if e.verdict.startswith("AUDIT")]
    if not audited:
        return
    denied: list[Record] = [f for f in view.of(Flow) if f.denied]
    denied += [e for e in view.of(CiliumEvent) if e.verdict == "DROPPED"]
    forwarded = [f for f in view.of(Flow) if f.verdict == "FORWARDED"]
    mode = [
        o for o in view.of(CiliumOption) if o.key.lower().endswith(("policy-audit-mode", "policyauditmode"))
    ]
    yield Hypothesis(
        subject="audited flows",
        title="The verdict is audit: the flow was reported and let through.",
        checks=(
            shown("the action is audit", audited[:4], weight=2.0, required=True),
            judged("nothing is denied", not denied, denied[:4], weight=1.0, required=True),
            shown("flows are forwarded", forwarded[:2], weight=0.4),
            judged("audit mode is on", True if any(o.value.lower() in ("true", "enabled") for o in mode) else None, mode, weight=0.4),
        ),
        explains=("enforcement would deny it; it does not yet",),
        prior=-1.0,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="Audit mode reports a flow and lets it pass.",
    severity="benign",
    inputs=(Flow, CiliumEvent, CiliumOption),
    needs=(Flow, CiliumEvent),
    rivals=("destination-ingress-policy-missing-client",),
    check=check,
)
