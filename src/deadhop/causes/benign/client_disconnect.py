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
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "benign-client-disconnect"

UPSTREAM = frozenset({"UF", "UC", "UH", "UT", "UR", "UO", "NR", "NC", "UPE", "URX"})


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
    blamed: list[Record] = [a for a in lines if a.flags & UPSTREAM]
    blamed += [m for m in said(view.of(Message), "access") if m.field("status") in ("502", "503", "504")]
    blamed += [e for e in view.of(HttpExchange) if e.error or (e.status or 0) >= 500]
    blamed += [r for r in view.of(LocalReply) if r.reset_reason]
    flagged = [a for a in lines if a.flags & {"DC", "DR"} or "downstream_remote_disconnect" in a.details]
    served: list[Record] = [a for a in lines if 0 < a.status < 400]
    served += [m for m in said(view.of(Message), "access") if m.field("status").startswith(("2", "3"))]
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
    ),
    needs=(
        EnvoyAccess,
        Message,
    ),
    rivals=(
        "keepalive-idle-timeout-race",
        "benign-tcp-healthcheck-noise",
    ),
    check=check,
)
