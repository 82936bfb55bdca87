"""A reverse proxy on the way rewrites the Upgrade header, so the backend rejects the websocket handshake.

What happens
------------
Upgrade is a hop-by-hop header: a proxy sends it on only if told to, and with the value it is told. A fixed or
misspelt value, or the Connection value in its place, makes the backend answer 400 at once.

How to tell it from its neighbours
----------------------------------
The Upgrade header that is sent upstream is not the client's value; ordinary requests work and handshakes fail
immediately, so timeouts play no part. A proxy that refuses an upgrade type itself answers 403.

Fix
---
Pass the client's Upgrade header through unchanged.

References
----------
RFC 6455 §4.2.1; nginx, WebSocket proxying; RFC 9110 §7.6.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import HttpExchange, NginxProxy
from deadhop.model.observed.kube import KubeObject, mapping
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "websocket-upgrade-header-mangled"


def check(view: View) -> Iterator[Hypothesis]:
    mangled: list[NginxProxy] = []
    passed: list[NginxProxy] = []
    for conf in view.of(NginxProxy):
        upgrade, connection = conf.header("upgrade"), conf.header("connection")
        if upgrade is None:
            if connection is not None and "upgrade" in connection.lower():
                mangled.append(conf)
            continue
        sound = upgrade in ("$http_upgrade", "${http_upgrade}") or upgrade.lower() == "websocket"
        (passed if sound else mangled).append(conf)
    rewritten: list[Record] = [k for k in view.of(KubeObject) if _middleware(k)]
    seen = [e for e in view.of(HttpExchange) if e.tool == "capture" and _wrong(e)]
    complaints = said(view.of(Message), "websocket-bad-upgrade")
    failed: list[Record] = [
        m for m in said(view.of(Message), "websocket-handshake-failed") if "400" in m.text or "426" in m.text
    ]
    failed += [
        e
        for e in view.of(HttpExchange)
        if e.status in (400, 426) and any(k == "upgrade" for k, _v in e.request_headers)
    ]
    failed += [
        m
        for m in said(view.of(Message), "access")
        if m.field("status") == "400"
        and re.search(r"/(?:ws|websocket|socket\.io|signalr|cable)\b", m.field("path"))
    ]
    if not mangled and not rewritten and not complaints and not seen and not (passed and failed):
        return
    wrong: list[Record] = [*mangled, *rewritten, *seen]
    yield Hypothesis(
        subject="the Upgrade header towards the backend",
        title="The proxy does not pass the client's Upgrade header through: the backend rejects the websocket handshake.",
        checks=(
            judged("the proxy sends another Upgrade value than the client's", bool(wrong or complaints), wrong or complaints or passed, weight=1.9, required=True, decide="nginx -T | grep -in 'upgrade'"),
            shown("the backend rejects handshakes at once", [*failed, *(complaints if wrong else [])], weight=0.9, decide="curl -sv -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==' http://HOST/PATH"),
        ),
        explains=("ordinary requests to the same host work",),
        fixes=(Fix(title="Pass the header through", artifact="proxy_http_version 1.1;\nproxy_set_header Upgrade $http_upgrade;\nproxy_set_header Connection $connection_upgrade;\n# in http {}: map $http_upgrade $connection_upgrade { default upgrade; '' close; }\n"),),
        prior=-1.2,
    )  # fmt: skip


def _wrong(exchange: HttpExchange) -> bool:
    """A handshake on the wire (RFC 6455 §4.1: a key and a version) whose Upgrade names no websocket."""
    asked = dict(exchange.request_headers)
    handshake = "sec-websocket-key" in asked or "sec-websocket-version" in asked
    return handshake and "websocket" not in asked.get("upgrade", "").lower()


def _middleware(item: KubeObject) -> bool:
    """A Traefik middleware or a route filter that sets Upgrade to a fixed value other than websocket."""
    headers = mapping(item.spec, "headers", "customRequestHeaders")
    told = next((str(v) for k, v in headers.items() if str(k).lower() == "upgrade"), "")
    return bool(told) and told.lower() != "websocket"


CAUSE = Cause(
    slug=SLUG,
    family="ingress",
    title="The reverse proxy rewrites the Upgrade header with a wrong value, so the backend rejects the websocket handshake.",
    inputs=(
        NginxProxy,
        KubeObject,
        Message,
        HttpExchange,
    ),
    needs=(
        NginxProxy,
        KubeObject,
        Message,
        HttpExchange,
    ),
    rivals=(
        "upgrade-type-not-allowed",
        "http10-client-rejected-by-proxy",
    ),
    check=check,
)
