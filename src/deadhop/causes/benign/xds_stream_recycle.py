"""The configuration stream to the control plane is closed at its maximum age and opened again.

What happens
------------
istiod closes every stream after about half an hour, so that proxies spread over its replicas
(keepaliveMaxServerConnectionAge). The proxy logs a warning (code 13 or 0) and connects again.

How to tell it from its neighbours
----------------------------------
The message recurs at a regular interval and a reconnect follows; configuration stays in sync. Code 14 again and again
means that the control plane is not reached; a rejected update is another message.

Fix
---
None needed.

References
----------
istio pilot keepalive options; Envoy grpc_stream.h.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Hypothesis, View, judged, shown
from deadhop.model.observed.mesh import ProxySync
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "benign-xds-stream-recycle"

#: gRPC status codes by which a server ends a stream in order: OK, CANCELLED and INTERNAL (RST_STREAM NO_ERROR).
ORDERLY = ("0", "1", "13", "OK", "Canceled", "Internal")
REFUSAL = re.compile(
    r"connection refused|no healthy upstream|i/o timeout|certificate|x509|authent|delayed connect|UNAUTHENTICATED",
    re.I,
)


def check(view: View) -> Iterator[Hypothesis]:
    closed = said(view.of(Message), "xds-stream-closed")
    orderly = [
        m
        for m in closed
        if (
            m.field("code") in ORDERLY or (not m.field("code") and m.field("why") and "age" in m.field("why"))
        )
        and not REFUSAL.search(m.text)
    ]
    hard = [
        m
        for m in closed
        if m.field("code")
        in ("2", "4", "7", "14", "16", "Unavailable", "DeadlineExceeded", "Unauthenticated")
        or REFUSAL.search(m.text)
    ]
    again = said(view.of(Message), "xds-stream-open")
    synced = [
        s
        for s in view.of(ProxySync)
        if all(v.startswith(("SYNCED", "NOT SENT", "IGNORED")) for _k, v in s.states)
    ]
    broken: list[Record] = [*said(view.of(Message), "xds-rejected", "proxy-not-ready")]
    broken += [s for s in view.of(ProxySync) if s not in synced]
    if not closed:
        return
    aged = _aged(closed, again)
    orderly += [m for m in aged if m not in orderly]
    hard = [m for m in hard if m not in aged]
    yield Hypothesis(
        subject="the stream to the control plane",
        title="The configuration stream is closed at its maximum age and opened again: nothing is wrong.",
        checks=(
            judged("the server ended the stream in order, or at its maximum age", bool(orderly), orderly or closed, weight=1.8, required=True),
            judged("the control plane is reached", False if hard else None, hard, weight=1.2, required=len(hard) > len(orderly)),
            shown("a new stream follows", again, weight=0.7),
            shown("configuration is in sync", synced, weight=0.7, decide="istioctl proxy-status"),
            judged("no update was rejected or is missing", False if broken else None, broken, weight=1.8, required=bool(broken)),
        ),
        explains=("the message recurs about every half hour",),
        prior=-1.0,
    )  # fmt: skip


def _aged(closed: list[Message], again: list[Message]) -> list[Message]:
    """Streams that ended at about the age at which istiod ends them (30 minutes, with up to a tenth more or less by
    grpc-go's jitter), and were open again within seconds."""
    opened = [m.time for m in again if m.time is not None]
    ends = [m for m in closed if m.time is not None and not REFUSAL.search(m.text)]
    found = []
    for end in ends:
        assert end.time is not None
        before = max((t for t in opened if t < end.time), default=None)
        age = (
            float(end.field("age"))
            if end.field("age").isdigit()
            else end.time - before
            if before is not None
            else 0.0
        )
        if 1500 <= age <= 2400 and any(0 <= t - end.time <= 15 for t in opened):
            found.append(end)
    return found


CAUSE = Cause(
    slug=SLUG,
    family="benign",
    title="The configuration stream to the control plane is closed at its maximum age and opened again.",
    severity="benign",
    inputs=(
        Message,
        ProxySync,
    ),
    needs=(Message,),
    rivals=(
        "proxy-config-push-stale-or-rejected",
        "control-plane-data-plane-skew",
    ),
    check=check,
)
