"""Error lines in a proxy's log come from bare TCP health checks.

What happens
------------
A load balancer or kubelet checks a port by opening and closing a connection. The proxy, which waits for a PROXY
header, a TLS hello or a request, logs an error for each.

How to tell it from its neighbours
----------------------------------
The header or request in the error is empty and the lines are periodic; the source is a node's or load balancer's
address, and user requests succeed. A header that contains a request is a client without a PROXY header.

Fix
---
None needed; use a separate health port or an HTTP check to silence it.

References
----------
nginx ngx_proxy_protocol.c; Go net/http (TLS handshake error … EOF).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from deadhop.model.cause import Cause, Hypothesis, View, judged, shown
from deadhop.model.observed.http import HttpExchange
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.said import private, prober, public, said

SLUG = "benign-tcp-healthcheck-noise"


def check(view: View) -> Iterator[Hypothesis]:
    empty = [m for m in said(view.of(Message), "broken-proxy-header") if not m.field("header").strip()]
    full = [m for m in said(view.of(Message), "broken-proxy-header") if m.field("header").strip()]
    eof = [
        m
        for m in said(view.of(Message), "tls-handshake-eof")
        if m.field("why") == "EOF" or any(w in m.field("why") for w in ("reset by peer", "onnection closed"))
    ]
    eof += said(view.of(Message), "peer-closed-in-handshake")
    blank = [
        m
        for m in said(view.of(Message), "access")
        if not m.field("request") and m.field("status") in ("400", "499", "000")
    ]
    bare = [
        a
        for a in view.of(EnvoyAccess)
        if a.status == 0 and not a.method and not a.flags and a.received == 0 and a.sent == 0
    ]
    found: list[Record] = [*empty, *eof, *blank, *bare]
    clients = [m for m in (*empty, *eof, *blank) if m.field("client")]
    inside = [m for m in clients if private(m.field("client")) or prober(m.field("client"))]
    public_ones = [m for m in clients if public(m.field("client")) and not prober(m.field("client"))]
    served = [
        m for m in said(view.of(Message), "access", "haproxy-log") if m.field("status").startswith(("2", "3"))
    ]
    periodic = _periodic(found)
    failing: list[Record] = [e for e in view.of(HttpExchange) if e.error or (e.status or 0) >= 500]
    if not found:
        return
    yield Hypothesis(
        subject="health checks of the port",
        title="The error lines are bare TCP health checks: a connection is opened and closed without data.",
        checks=(
            shown("the connections carry no data at all", found, weight=1.6 if empty or len(found) > 1 else 0.9, required=True),
            judged("they come from nodes or load balancers", True if inside else None, inside, weight=0.7),
            shown("the lines come at a fixed interval", periodic, weight=0.6),
            judged("no request stands in the error", False if full else None, full, weight=1.6, required=bool(full)),
            shown("user requests are served", served, weight=0.5),
            judged("nobody sees a failure", False if failing else None, failing, weight=1.2),
            judged("outside clients are not concerned", False if public_ones and not inside else None, public_ones if not inside else [], weight=0.4),
        ),
        explains=("the lines are periodic and users notice nothing",),
        prior=-1.2,
    )  # fmt: skip


def _periodic(found: list[Record]) -> list[Record]:
    """The lines, where the same time lies between all of them, give or take a second."""
    times = sorted({_clock(r) for r in found} - {None})  # type: ignore[type-var]
    gaps = [b - a for a, b in pairwise(times) if a is not None and b is not None]
    return found if len(gaps) > 2 and min(gaps) > 0 and max(gaps) - min(gaps) <= 1.1 else []


def _clock(record: Record) -> float | None:
    """The second of the day that a line shows, or its time."""
    shown_at = re.search(r"(?<!\d)(\d\d):(\d\d):(\d\d(?:\.\d+)?)", getattr(record, "text", ""))
    return int(shown_at[1]) * 3600 + int(shown_at[2]) * 60 + float(shown_at[3]) if shown_at else record.time


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="Errors in the proxy log are bare TCP health checks that open and close a connection without data.",
    severity="benign",
    inputs=(
        Message,
        EnvoyAccess,
        HttpExchange,
    ),
    needs=(
        Message,
        EnvoyAccess,
    ),
    rivals=(
        "proxy-protocol-hairpin-bypasses-lb",
        "lb-annotation-not-honoured-proxy-protocol-off",
        "benign-client-disconnect",
    ),
    check=check,
)
