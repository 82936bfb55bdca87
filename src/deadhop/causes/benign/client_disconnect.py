"""Log lines without a status are clients that went away before the response.

What happens
------------
A caller closes the connection before the answer: a timeout of its own, a navigation, a cancelled request. The proxy
logs status 0 with DC, or 499, and the server has no fault.

How to tell it from its neighbours
----------------------------------
Status 0 without an upstream failure flag, or with the downstream-termination flag; no error is seen by clients that
wait. UF, UC, UH or UT blame the upstream; a duration that ends at a fixed limit is a caller's timeout and the server
may be slow.

Fix
---
None needed.

References
----------
Envoy response flag DC; nginx status 499.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Hypothesis, View, judged, shown
from deadhop.model.observed.http import HttpExchange, LocalReply
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "benign-client-disconnect"

UPSTREAM = frozenset({"UF", "UC", "UH", "UT", "UR", "UO", "NR", "NC", "UPE", "URX"})

#: HAProxy's states of a session that its client ended: in the queue, while connecting, before or within the response.
ABORTED = frozenset({"CQ", "CC", "CH", "CD", "CL"})


def check(view: View) -> Iterator[Hypothesis]:
    lines = view.of(EnvoyAccess)
    gone: list[Record] = [
        a
        for a in lines
        if (a.status in (0, 499) and a.method and not a.flags & UPSTREAM)
        or (a.flags and a.flags <= {"DC", "DR"})
        or "downstream_remote_disconnect" in a.details
    ]
    gone += [m for m in said(view.of(Message), "access") if m.field("status") == "499"]
    gone += [m for m in said(view.of(Message), "client-closed") if m.field("how") != ""]
    haproxy = said(view.of(Message), "haproxy-log")
    gone += [m for m in haproxy if m.field("state")[:2] in ABORTED]
    counted = [
        (dict(c.labels), c) for c in view.of(Counter) if c.value > 0 and "response_flags" in dict(c.labels)
    ]
    gone += [c for labels, c in counted if labels["response_flags"] in ("DC", "DR")]
    blamed: list[Record] = [a for a in lines if a.flags & UPSTREAM]
    blamed += [m for m in said(view.of(Message), "access") if m.field("status") in ("502", "503", "504")]
    blamed += [e for e in view.of(HttpExchange) if e.error or (e.status or 0) >= 500]
    blamed += [r for r in view.of(LocalReply) if r.reset_reason]
    blamed += [
        m
        for m in haproxy
        if m.field("state")[:1] in ("S", "s", "P", "R") or m.field("status").startswith("5")
    ]
    blamed += [
        c
        for labels, c in counted
        if set(labels["response_flags"].split(",")) & UPSTREAM
        or labels.get("response_code", "").startswith("5")
    ]
    flagged: list[Record] = [c for c in gone if isinstance(c, Counter)]
    flagged += [a for a in lines if a.flags & {"DC", "DR"} or "downstream_remote_disconnect" in a.details]
    served: list[Record] = [a for a in lines if 0 < a.status < 400]
    served += [m for m in said(view.of(Message), "access") if m.field("status").startswith(("2", "3"))]
    served += [
        m for m in haproxy if m.field("state").startswith("--") and m.field("status").startswith(("2", "3"))
    ]
    served += [
        c
        for labels, c in counted
        if labels.get("response_code", "").startswith(("2", "3")) and labels["response_flags"] == "-"
    ]
    if not gone:
        return
    yield Hypothesis(
        subject="callers that went away",
        title="The callers closed their connections before the response; the server has no fault.",
        checks=(
            shown("the request ended by its caller, without a status", gone, weight=1.6, required=True),
            shown("the downstream-termination flag says so", flagged, weight=0.6),
            judged("no upstream failure is logged", False if blamed else None, blamed, weight=1.8, required=bool(blamed)),
            shown("callers that wait are served", served, weight=0.5),
        ),
        explains=("no error is seen by waiting clients",),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="Log lines with no status are clients that went away before the response.",
    severity="benign",
    inputs=(
        EnvoyAccess,
        Message,
        HttpExchange,
        LocalReply,
        Counter,
    ),
    needs=(
        EnvoyAccess,
        Message,
        Counter,
    ),
    rivals=(
        "keepalive-idle-timeout-race",
        "benign-tcp-healthcheck-noise",
    ),
    check=check,
)
