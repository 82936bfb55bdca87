"""Requests are rejected by limits that were set tight on purpose.

What happens
------------
A test sets connection or pending limits of one or a few and sends more than that at once. The proxy rejects the rest
with an overflow: that is what the limits are for.

How to tell it from its neighbours
----------------------------------
The limits are tiny and the load is a load generator's; the rejected share fits them. With limits of everyday size and
users as callers it is a fault.

Fix
---
None needed.

References
----------
Istio, Circuit Breaking task; fortio.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Hypothesis, View, shown
from deadhop.model.observed.http import LocalReply
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.kube import KubeObject
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.shell import CommandRun
from deadhop.model.record import Record
from deadhop.snapshot.limits import breaker_limits
from deadhop.snapshot.replies import replies, with_flag

SLUG = "benign-intended-circuit-breaking"

TIGHT = 10
GENERATORS = (
    *("fortio", "wrk", "wrk2", "hey", "k6", "siege", "apachebench", "ab", "vegeta", "locust", "jmeter"),
    *("oha", "h2load", "bombardier", "nighthawk_client"),
)
#: Codes that a report of theirs can give to what an overflow refused.
REFUSED = ("load.code.503", "load.code.5xx", "load.code.other")


def check(view: View) -> Iterator[Hypothesis]:
    answers = replies(view.of(LocalReply), view.of(EnvoyAccess))
    counted = [c for c in view.of(Counter) if "overflow" in c.name and c.value > 0]
    flagged = with_flag(answers, "UO")
    coded = _refused(view.of(Counter))
    over = [*flagged, *counted, *coded]
    tight = [o for o in view.of(KubeObject) if (bounds := breaker_limits(o)) and min(bounds) <= TIGHT]
    load: list[Record] = [
        c for c in view.of(CommandRun) if any(w.rsplit("/", 1)[-1] in GENERATORS for w in c.argv)
    ]
    load += [
        a
        for a in view.of(EnvoyAccess)
        if a.user_agent.lower().split("/")[0].split(".")[0] in GENERATORS and "UO" in a.flags
    ]
    load += [c for c in view.of(Counter) if c.name.startswith("load.") and c.name not in REFUSED]
    if not over or not (tight or load):
        return
    yield Hypothesis(
        subject=tight[0].ref if tight else "the load test",
        title="The limits are tight on purpose and the load generator exceeds them: rejections are expected.",
        checks=(
            shown("requests are rejected by overflow", over, weight=1.2, required=True),
            shown("the limits are tiny", tight, weight=1.6, required=not (coded and (flagged or counted)), decide="kubectl get destinationrules,backendtrafficpolicies -A -o yaml | grep -A8 -e connectionPool -e circuitBreaker"),
            shown("the load comes from a load generator", load, weight=1.5, required=True),
        ),
        explains=("the rejected share fits the limits",),
        prior=-1.2,
    )  # fmt: skip


def _refused(counters: list[Counter]) -> list[Counter]:
    """What a load generator counted as refused, where it was served as well: all refused is no overflow."""
    told = {c.name: c.value for c in counters if c.name.startswith("load.") and c.value > 0}
    served = "load.code.200" in told or "load.code.2xx" in told
    some = told.get("load.code.other", 0) < told.get("load.requests", 0)
    return [c for c in counters if c.name in REFUSED and c.value > 0 and (some if c.name == "load.code.other" else served)]  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="Requests are rejected because limits were set tight on purpose.",
    severity="benign",
    inputs=(
        LocalReply,
        EnvoyAccess,
        Counter,
        KubeObject,
        CommandRun,
    ),
    needs=(
        LocalReply,
        EnvoyAccess,
        Counter,
    ),
    rivals=("circuit-breaker-overflow",),
    check=check,
)
