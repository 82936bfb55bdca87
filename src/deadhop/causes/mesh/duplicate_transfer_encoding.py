"""The application's response carries Transfer-Encoding twice, which a strict proxy rejects.

What happens
------------
Application code copies an upstream's Transfer-Encoding into its own response, and its server adds another. Strict
HTTP parsers reject two chunked codings (request smuggling); lenient clients do not notice.

How to tell it from its neighbours
----------------------------------
The trace shows the header completed twice in one response; the application logs success. A keep-alive race gives a
termination without a protocol error and hits any endpoint; this one concerns certain endpoints, always.

Fix
---
Remove the duplicate header in the application.

References
----------
RFC 9112 §6.1; Envoy http1 codec (INVALID_TRANSFER_ENCODING); Go net/http, too many transfer encodings.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.http import HttpExchange, LocalReply
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.observed.shell import LineCount
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "duplicate-transfer-encoding-header"

CHUNKED = "transfer-encoding"


def check(view: View) -> Iterator[Hypothesis]:
    twice: list[Record] = []
    seen: dict[str, list[Message]] = {}
    for message in said(view.of(Message), "message-begin", "header-completed"):
        rows = seen.setdefault(message.field("conn"), [])
        if message.kind == "message-begin":
            rows.clear()
        elif message.field("name").lower() == CHUNKED:
            rows.append(message)
            twice = [*twice, *rows] if len(rows) == 2 else twice
    twice += [
        e
        for e in view.of(HttpExchange)
        if sum(k == CHUNKED for k, _v in e.headers) > 1
        or "chunked, chunked" in e.header(CHUNKED).lower().replace(",c", ", c")
    ]
    twice += [
        m for m in said(view.of(Message), "upstream-duplicate-header") if m.field("name").lower() == CHUNKED
    ]
    twice += said(view.of(Message), "duplicate-transfer-encoding")
    twice += [
        m for m in said(view.of(Message), "proxy-error") if "too many transfer encodings" in m.field("why")
    ]
    twice += [n for n in view.of(LineCount) if n.count > 1 and _counts_headers(n)]
    errors: list[Record] = [
        m
        for m in said(view.of(Message), "codec-error")
        if "TRANSFER_ENCODING" in m.field("error").upper().replace(" ", "_")
    ]
    errors += [a for a in view.of(EnvoyAccess) if "UPE" in a.flags or "protocol_error" in a.details]
    errors += [r for r in view.of(LocalReply) if r.reset_reason == "protocol error"]
    coded = [e for e in errors if isinstance(e, Message)]
    if not twice and not coded:
        return
    yield Hypothesis(
        subject="the application's response headers",
        title="The application sends Transfer-Encoding twice; the proxy takes that as a protocol error and answers in its place.",
        checks=(
            shown("one response carries Transfer-Encoding twice", twice or coded, weight=2.6, required=True, decide="curl -sv --http1.1 http://POD-IP:PORT/PATH -o /dev/null 2>&1 | grep -i transfer-encoding"),
            shown("the proxy reports a protocol error", [e for e in errors if e not in (twice or coded)], weight=0.7),
        ),
        explains=("the application logs 200 and lenient clients are served", "only the endpoints that copy headers are affected"),
        fixes=(Fix(title="Do not copy hop-by-hop headers", artifact="# drop Transfer-Encoding (and Connection, Keep-Alive, TE, Trailer, Upgrade) from a copied response before returning it\n"),),
        prior=-1.2,
    )  # fmt: skip


def _counts_headers(counted: LineCount) -> bool:
    """Whether curl's headers of one response were counted: it follows no redirects, and the pattern is the header alone."""
    words = counted.command.partition("|")[0].split()
    return (
        counted.program == "curl"
        and CHUNKED in counted.pattern.lower()
        and "|" not in counted.pattern
        and sum("://" in w for w in words) <= 1
        and not any(w == "--location" or (w[:1] == "-" and w[1:2] != "-" and "L" in w) for w in words)
    )


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="The application's response carries Transfer-Encoding twice, which a strict proxy treats as a protocol error.",
    inputs=(
        Message,
        HttpExchange,
        EnvoyAccess,
        LocalReply,
        LineCount,
    ),
    rivals=(
        "keepalive-idle-timeout-race",
        "port-name-protocol-misdeclared",
        "response-header-exceeds-proxy-buffer",
    ),
    check=check,
)
