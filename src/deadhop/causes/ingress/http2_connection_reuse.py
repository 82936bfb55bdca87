"""Browsers reuse one HTTP/2 connection for hosts that share a certificate and an address.

What happens
------------
A browser may send requests for a second host on an open HTTP/2 connection if the certificate covers it and the
address is the same (connection coalescing). With a Gateway per host, the connection belongs to the first host's
listener or routes, which do not know the second: 404.

How to tell it from its neighbours
----------------------------------
The host opened second gets 404 in the same browser, while curl and a private window work. The SNI of the connection
is another host than the authority. A missing route fails for everybody.

Fix
---
Serve the hosts from one Gateway, use separate certificates, or answer misdirected requests with 421.

References
----------
Istio, 404 errors occur when multiple gateways configured with same TLS certificate; RFC 9113 §9.1.1, §9.1.2.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.evidence.fields import host_port
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import HttpExchange
from deadhop.model.observed.kube import Gateway, KubeObject, mapping, mappings
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.record import Record

SLUG = "http2-connection-reuse-shared-cert"


def check(view: View) -> Iterator[Hypothesis]:
    servers: dict[str, list[tuple[KubeObject, set[str]]]] = {}
    for gateway in view.of(Gateway):
        for server in [*mappings(gateway.spec, "servers"), *mappings(gateway.spec, "listeners")]:
            tls = mapping(server, "tls")
            refs = (
                [str(tls["credentialName"])]
                if tls.get("credentialName")
                else [str(r.get("name")) for r in mappings(tls, "certificateRefs")]
            )
            refs += [str(tls["serverCertificate"])] if tls.get("serverCertificate") else []
            hosts = (
                {str(h) for h in server.get("hosts") or ()}
                if isinstance(server.get("hosts"), list)
                else {str(server.get("hostname"))}
            )
            for ref in refs:
                servers.setdefault(ref, []).append((gateway, hosts))
    shared = {
        ref: rows
        for ref, rows in servers.items()
        if len({frozenset(h) for _g, h in rows}) > 1 and len({g.ref for g, _h in rows}) > 1
    }
    listeners = {
        ref: rows
        for ref, rows in servers.items()
        if len({frozenset(h) for _g, h in rows}) > 1 and ref not in shared
    }
    strayed = [
        a
        for a in view.of(EnvoyAccess)
        if a.sni
        and a.authority
        and host_port(a.authority)[0] != a.sni
        and not a.sni.startswith("outbound")
        and a.protocol in ("HTTP/2", "HTTP/3", "")
    ]
    lost = [a for a in strayed if a.status in (404, 421)]
    misdirected = [e for e in view.of(HttpExchange) if e.status == 421]
    unknown = [e for e in view.of(HttpExchange) if e.status == 404 and "envoy" in e.header("server").lower()]
    h2 = [a for a in view.of(EnvoyAccess) if a.protocol.startswith("HTTP/2") and a not in strayed]
    records: list[Record] = [g for rows in (shared or listeners).values() for g, _h in rows]
    if not (shared or lost or (listeners and (h2 or misdirected or strayed or unknown)) or misdirected):
        return
    yield Hypothesis(
        subject=f"certificate {next(iter(shared or listeners))}" if shared or listeners else "a shared certificate",
        title="Hosts of several listeners share a certificate: browsers send requests for the second host on the first one's HTTP/2 connection.",
        checks=(
            judged("several listeners or gateways use one certificate, or a request's host differs from its connection's", True, [*records, *lost] or misdirected, weight=1.7 if shared or lost else 1.2, required=True, decide="kubectl get gateway -A -o yaml | grep -E 'credentialName|hosts|certificateRefs' -A2"),
            shown("the connection's SNI is another host than the request's", lost if records else strayed, weight=1.0, decide="kubectl -n istio-system logs deploy/istio-ingressgateway | grep ' 404 NR '   # requested_server_name against authority"),
            shown("a host is answered 404 by the gateway", unknown, weight=0.3),
            shown("requests come over HTTP/2", h2, weight=0.4),
        ),
        explains=("curl and a private window work, as they open a new connection",),
        fixes=(
            Fix(title="Serve the hosts from one Gateway", artifact="spec:\n  servers:\n  - port: {number: 443, name: https, protocol: HTTPS}\n    tls: {mode: SIMPLE, credentialName: SHARED}\n    hosts: [\"*.ZONE\"]\n"),
            Fix(title="Use a certificate per host", artifact="# one credentialName per host, each certificate naming that host only\n"),
        ),
        prior=-1.1,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="ingress",
    title="Browsers reuse one HTTP/2 connection for hosts that share a certificate, and the first listener has no route for the second.",
    inputs=(
        Gateway,
        EnvoyAccess,
        HttpExchange,
        KubeObject,
    ),
    needs=(
        Gateway,
        EnvoyAccess,
        HttpExchange,
    ),
    rivals=(
        "host-header-forwarded-breaks-mesh-routing",
        "tls-secret-wrong-namespace",
    ),
    check=check,
)
