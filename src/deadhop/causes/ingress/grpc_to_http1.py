"""The proxy speaks gRPC (HTTP/2) to a backend that answers HTTP/1.1.

What happens
------------
With a gRPC backend protocol the proxy sends an HTTP/2 preface. An HTTP/1.1 server answers in text, and the proxy
reads the letters HTTP as a frame header: an impossible length.

How to tell it from its neighbours
----------------------------------
The length or bytes of the frame decode to HTTP (0x485454 is 4740180). Only paths that end at the HTTP/1.1 backend
fail; raising buffer or message limits changes nothing.

Fix
---
Give that backend the HTTP protocol, or an ingress of its own.

References
----------
RFC 9113 §4.1 (frame header); nginx ngx_http_grpc_module.c; Go x/net/http2 (frame header looked like an HTTP/1.1
header).
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.evidence.fields import integer
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import LocalReply, NginxProxy
from deadhop.model.observed.kube import Ingress, Service
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "grpc-proxy-to-http1-backend"

#: The first three bytes of "HTTP" read as a frame length (RFC 9113 §4.1).
LETTERS = int.from_bytes(b"HTT", "big")


def check(view: View) -> Iterator[Hypothesis]:
    framed = [
        m for m in said(view.of(Message), "http2-frame-too-large") if integer(m.field("size")) == LETTERS
    ]
    large = [
        m for m in said(view.of(Message), "http2-frame-too-large") if integer(m.field("size")) != LETTERS
    ]
    framed += said(view.of(Message), "frame-too-large")
    typed = [
        m
        for m in said(view.of(Message), "grpc-bad-content-type")
        if "text/html" in m.text or "text/plain" in m.text
    ]
    passed: list[Record] = [p for p in view.of(NginxProxy) if p.setting("pass") == "grpc_pass"]
    passed += [
        i
        for i in view.of(Ingress)
        if any(
            "backend-protocol" in a and str(v).upper().startswith("GRPC") for a, v in i.annotations.items()
        )
    ]
    passed += [
        s
        for s in view.of(Service)
        if any(
            p.name.startswith(("grpc", "http2", "h2c")) or p.app_protocol in ("grpc", "kubernetes.io/h2c")
            for p in s.ports
        )
    ]
    broken: list[Record] = [
        a for a in view.of(EnvoyAccess) if "UPE" in a.flags or "protocol_error" in a.details
    ]
    broken += [r for r in view.of(LocalReply) if r.reset_reason == "protocol error"]
    broken += said(view.of(Message), "http2-upstream-error")
    if not framed and not large and not (passed and (broken or typed)):
        return
    yield Hypothesis(
        subject="the HTTP/1.1 backend behind a gRPC route",
        title="The proxy sends HTTP/2 to a backend that answers HTTP/1.1: the answer's letters are read as a frame.",
        checks=(
            judged("the answer of the backend is text where a frame should be", bool(framed or (passed and (broken or typed))), framed or broken or typed or large, weight=2.3 if framed else 1.2, required=True, decide="curl -sv --http2-prior-knowledge http://POD-IP:PORT/"),
            shown("the route declares gRPC or HTTP/2 for the backend", passed, weight=0.8, required=not framed, decide="kubectl get ingress -A -o yaml | grep backend-protocol"),
        ),
        explains=("only paths that end at the HTTP/1.1 backend fail", "larger buffers change nothing"),
        fixes=(Fix(title="Give that backend an ingress with HTTP", artifact="metadata:\n  annotations:\n    nginx.ingress.kubernetes.io/backend-protocol: HTTP\n"),),
        prior=-1.1,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="ingress",
    title="The proxy speaks gRPC (HTTP/2) to a backend that answers HTTP/1.1.",
    inputs=(
        Message,
        NginxProxy,
        Ingress,
        Service,
        EnvoyAccess,
        LocalReply,
    ),
    needs=(
        Message,
        EnvoyAccess,
        LocalReply,
    ),
    rivals=(
        "port-name-protocol-misdeclared",
        "plain-http-sent-to-tls-backend",
        "response-header-exceeds-proxy-buffer",
    ),
    check=check,
)
