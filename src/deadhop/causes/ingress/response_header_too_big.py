"""The upstream's response headers are larger than the proxy's buffer.

What happens
------------
nginx reads a response's header into one buffer (proxy_buffer_size, 4 or 8 kB by default), Envoy and others have
limits of their own. Many or large cookies and tokens exceed it and the proxy answers 502.

How to tell it from its neighbours
----------------------------------
The proxy logs that the upstream sent too big a header; only responses with large cookies or headers fail; the
upstream logs success. Too large a request header is the client's and gives 400, 414 or 431.

Fix
---
Raise the proxy's header buffer, or reduce the headers.

References
----------
nginx proxy_buffer_size; HAProxy tune.bufsize, tune.maxrewrite, 8.5 session state PH; Envoy max_response_headers_kb; Go Transport.MaxResponseHeaderBytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.http import ErrorPage, HttpExchange, NginxProxy
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.observed.shell import LineCount
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "response-header-exceeds-proxy-buffer"


def check(view: View) -> Iterator[Hypothesis]:
    big = said(view.of(Message), "upstream-header-too-big", "header-too-large")
    coded: list[Record] = [
        a
        for a in view.of(EnvoyAccess)
        if any(words in a.details for words in TOO_BIG) or "response_headers_too_large" in a.termination
    ]
    coded += [
        m
        for m in said(view.of(Message), "codec-error", "local-reply")
        if re.search(r"headers (?:size|count) exceeds limit|too_large", m.text)
    ]
    cookies = [
        e
        for e in view.of(HttpExchange)
        if sum(len(k) + len(v) for k, v in e.headers) > 4000
        or sum(k == "set-cookie" for k, _v in e.headers) > 8
    ]
    failed: list[Record] = [e for e in view.of(HttpExchange) if e.status == 502]
    failed += [p for p in view.of(ErrorPage) if p.status == 502]
    failed += [m for m in said(view.of(Message), "access") if m.field("status") == "502"]
    # HAProxy answers 502 with the state P, H where it blocks a response while it reads the header.
    blocked = [
        m
        for m in said(view.of(Message), "haproxy-log")
        if m.field("state").startswith("PH") and m.field("status") == "502"
    ]
    failed += blocked
    limits: list[Record] = [p for p in view.of(NginxProxy) if p.setting("proxy_buffer_size")]
    room = min(
        [size for p in view.of(NginxProxy) if (size := _bytes(p.setting("proxy_buffer_size") or ""))],
        default=0,
    )
    tuned = {m.field("name"): m for m in said(view.of(Message), "proxy-setting", emitter="haproxy")}
    if buffer := tuned.get("tune.bufsize"):
        reserve = tuned.get("tune.maxrewrite")
        limits += [buffer, *([reserve] if reserve else [])]
        room = int(buffer.field("value")) - (int(reserve.field("value")) if reserve else 0)
    elif blocked:
        room = room or HAPROXY
    counted: list[Record] = [
        c
        for c in view.of(LineCount)
        if c.unit == "bytes"
        and c.program == "curl"
        and _HEAD.search(c.command)
        and c.count > (room or DEFAULT)
    ]
    sized: list[Record] = [*cookies, *counted]
    if not big and not coded and not (sized and failed):
        return
    yield Hypothesis(
        subject="the upstream's response headers",
        title="The upstream's response headers do not fit into the proxy's buffer.",
        checks=(
            shown("the proxy says that the header is too big, or the response's headers are", [*big, *coded] or sized, weight=2.4 if big or coded else 1.2, required=True, decide="curl -sI http://POD-IP:PORT/PATH | wc -c"),
            shown("the proxy answers 502", failed, weight=0.5),
            shown("HAProxy blocked the response while it read its header", blocked if sized else [], weight=0.8),
            shown("a limit is configured", limits, weight=0.7 if counted and room else 0.1),
        ),
        explains=("only responses with many or large cookies fail, and the upstream logs success",),
        fixes=(Fix(title="Raise the buffer", artifact="# ingress-nginx\nnginx.ingress.kubernetes.io/proxy-buffer-size: 16k\nnginx.ingress.kubernetes.io/proxy-buffers-number: \"8\"\n# nginx\nproxy_buffer_size 16k;\nproxy_buffers 8 16k;\nproxy_busy_buffers_size 32k;\n# HAProxy, section global\ntune.bufsize 32768\n"),),
        prior=-1.2,
    )  # fmt: skip


#: Envoy's response code details where the codec refuses the header of a response.
TOO_BIG = (
    "headers_too_large",
    "too_many_headers",
    "headers_count_exceeds_limit",
    "headers_size_exceeds_limit",
)
#: A curl that prints or keeps the head of a response and nothing else.
_HEAD = re.compile(
    r"\s-\w*I\b|\s--head\b|-D ?-(?=\s)|--dump-header ?-|(?:-D ?|--dump-header[ =])[\w./-]+\s.*\bwc -c\b"
)
#: tune.bufsize less tune.maxrewrite where neither is set (HAProxy configuration manual 3.2).
HAPROXY = 16384 - 1024
#: proxy_buffer_size where none is set: one memory page, and two on some platforms (ngx_http_proxy_module).
DEFAULT = 8192


def _bytes(text: str) -> int:
    """A size of nginx's configuration in bytes; 0 where it is none."""
    match = re.fullmatch(r"(\d+)([kKmM]?)", text.strip())
    return int(match[1]) * {"": 1, "k": 1024, "m": 1024**2}[match[2].lower()] if match else 0


CAUSE = Cause(
    slug=SLUG,
    family="ingress",
    title="The upstream's response headers are larger than the proxy's buffer.",
    inputs=(
        Message,
        EnvoyAccess,
        HttpExchange,
        ErrorPage,
        NginxProxy,
        LineCount,
    ),
    needs=(
        Message,
        EnvoyAccess,
        HttpExchange,
    ),
    rivals=(
        "duplicate-transfer-encoding-header",
        "proxy-caches-stale-upstream-address",
    ),
    check=check,
)
