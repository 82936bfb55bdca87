"""A TLS client talks to a port that serves plain HTTP.

What happens
------------
The client's hello meets a server that speaks HTTP. Its answer, or an error page, is read as a TLS record, whose
version and length are nonsense.

How to tell it from its neighbours
----------------------------------
The client reports a record or version error right after its hello; plain HTTP on the same port is answered; the port
mapping leads to the HTTP port. A wrong certificate or protocol version is told after a real handshake.

Fix
---
Map to or dial the TLS port.

References
----------
RFC 8446 §5.1; OpenSSL wrong version number; Go tls: first record does not look like a TLS handshake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import DialFailure, HttpExchange, LocalReply, NginxProxy
from deadhop.model.observed.kube import Service
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.istio import HTTP_PROTOCOLS, protocol_of
from deadhop.snapshot.said import said

SLUG = "tls-client-to-plaintext-port"

WORDS = re.compile(
    r"wrong version number|exceeded the maximum permissible length|packet length too long|unknown protocol|http request|unexpected TLS packet|unsupported or unrecognized|received a record that|WRONG_VERSION",
    re.I,
)


def check(view: View) -> Iterator[Hypothesis]:
    records: list[Record] = [
        e for e in view.of(HttpExchange) if e.error in ("tls", "other") and WORDS.search(e.error_text)
    ]
    records += list(
        said(view.of(Message), "answer-is-not-tls", "upstream-not-tls", "tls-request-on-http-port")
    )
    records += [
        d
        for d in view.of(DialFailure)
        if d.error == "tls"
        and re.search(r"gave HTTP response to HTTPS client|first record does not look", d.text)
    ]
    records += [r for r in view.of(LocalReply) if "WRONG_VERSION_NUMBER" in r.transport_failure.upper()]
    records += [a for a in view.of(EnvoyAccess) if "WRONG_VERSION_NUMBER" in a.transport_failure.upper()]
    records += [
        m
        for m in said(view.of(Message), "tls-error", "envoy-body")
        if "WRONG_VERSION_NUMBER" in m.text.upper()
    ]
    records += [m for m in said(view.of(Message), "access") if m.field("request").startswith("\\x16\\x03")]
    if not records:
        return
    ports = {e.port for e in records if isinstance(e, HttpExchange)}
    mapped = [
        s
        for s in view.of(Service)
        for p in s.ports
        if ports - {None}
        and (p.node_port in ports or p.port in ports)
        and (
            p.port in (80, 8080)
            or (p.port != 443 and p.name.startswith("http") and not p.name.startswith("https"))
        )
    ]
    hijacked = [
        s for s in view.of(Service) for p in s.ports if p.port == 443 and protocol_of(p) in HTTP_PROTOCOLS
    ]
    crossed = [
        s for s in view.of(Service) for p in s.ports if p.port == 443 and p.target in (80, 8080, "http")
    ]
    plain = [e for e in view.of(HttpExchange) if e.status and e.url.startswith("http://") and e.port in ports]
    proxies = [p for p in view.of(NginxProxy) if p.proxy_pass.startswith("https://")]
    yield Hypothesis(
        subject=f"port {next(iter(ports - {None}), '')}".strip() if ports - {None} else "the TLS client's target",
        title="A TLS client talks to a port that serves plain text.",
        checks=(
            shown("the answer to the hello is no TLS record", records, weight=2.1, required=True, decide="curl -sv http://HOST:PORT/   # plain HTTP on the same port"),
            shown("the port leads to the plain HTTP port", [*mapped, *crossed], weight=1.2, decide="kubectl get svc -A -o wide   # which port the node port or 443 leads to"),
            shown("plain HTTP on that port is answered", plain, weight=0.9),
            judged("no Service makes the mesh treat port 443 as HTTP", False if hijacked else None, hijacked, weight=1.2),
            shown("the proxy is told to speak TLS to the backend", proxies, weight=0.4),
        ),
        explains=("the failure is immediate and independent of certificates",),
        fixes=(Fix(title="Use the TLS port", artifact="kubectl get svc -A   # PORT(S): 443:NODEPORT/TCP is the TLS one\n# ports: - {name: https, port: 443, targetPort: https}\n"),),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="ingress",
    title="A TLS client talks to a port that serves plain HTTP.",
    inputs=(
        HttpExchange,
        Message,
        DialFailure,
        LocalReply,
        EnvoyAccess,
        Service,
        NginxProxy,
    ),
    rivals=(
        "plain-http-sent-to-tls-backend",
        "http-named-443-service-hijacks-egress",
        "destinationrule-drops-mtls-under-strict",
    ),
    check=check,
)
