"""A decision as a trace: the DNS proxy's part and the policy's part of one connection."""

from __future__ import annotations

from deadhop.hops.fqdn.replay import Decision
from deadhop.model.trace import Disposition, Hop, Step, Trace

POLICY_DENIED = "POLICY_DENIED"


def trace_of(decision: Decision) -> Trace:
    """The trace of the connection. An open decision ends ``unknown``; what is allowed leaves the node."""
    connect = decision.connect
    if decision.names:
        learned = Step(
            decided_by="FQDN cache",
            text=f"{connect.ip} is known as {', '.join(decision.names)}",
            ok=True if decision.allowed else None,
            sources=decision.sources,
        )
    else:
        learned = Step(decided_by="FQDN cache", text=f"{connect.ip} is known under no name", ok=None)
    decided_by = decision.selector.label if decision.selector else decision.cidr or "toFQDNs"
    judged = Step(decided_by=decided_by, text=decision.because, ok=decision.allowed, sources=connect.sources)
    disposition = {True: Disposition.FORWARDED, False: Disposition.DROPPED, None: Disposition.UNKNOWN}[
        decision.allowed
    ]
    return Trace(
        flow=f"{connect.endpoint} -> {connect.name or connect.ip} ({connect.ip}:{connect.port})",
        disposition=disposition,
        hops=(
            Hop(kind="fqdn", name="DNS proxy", steps=(learned,)),
            Hop(kind="policy", name=f"egress of {connect.endpoint}", steps=(judged,)),
        ),
        reason=POLICY_DENIED if decision.allowed is False else "",
        says=decision.because,
    )
