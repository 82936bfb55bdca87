"""The port's name or protocol field declares another protocol than the application speaks.

What happens
------------
Istio takes the protocol from appProtocol or from the prefix of the port's name. A name that puts the protocol last
declares nothing; tcp for an HTTP service turns HTTP routing off; http for gRPC or for a database makes the proxy
break the stream.

How to tell it from its neighbours
----------------------------------
HTTP routing has no effect, or the proxy resets gRPC or database streams, while the same calls work without a sidecar.
A wrong number is another fault; here the port is right and only its protocol is not.

Fix
---
Name the port after its protocol, prefix first, or set appProtocol.

References
----------
Istio, Protocol Selection; istioctl analyze IST0118.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.http import LocalReply
from deadhop.model.observed.kube import Service, VirtualService
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.istio import HTTP_PROTOCOLS, destinations, protocol_of
from deadhop.snapshot.said import said

SLUG = "port-name-protocol-misdeclared"

DATABASES = {
    3306: "mysql",
    5432: "tcp",
    6379: "redis",
    27017: "mongo",
    9092: "tcp",
    5672: "tcp",
    9042: "tcp",
    1433: "tcp",
    61616: "tcp",
}
GRPC_PORTS = (50051, 50052)
SUFFIX = re.compile(r"[-_.](http|http2|grpc)$|^(http|grpc|http2)[_.\d]*[_.]", re.I)


def check(view: View) -> Iterator[Hypothesis]:
    analyzed = said(view.of(Message), "IST0118")
    routed = {
        str(d.host).split(".")[0]
        for v in view.of(VirtualService)
        if v.spec.get("http")
        for d in destinations(v)
    }
    grpc: list[Record] = [
        a for a in view.of(EnvoyAccess) if a.flags & {"UPE"} or "protocol_error" in a.details
    ]
    # An HTTP/2 connection begins with PRI *; a listener that expects HTTP/1.1 reads it as a method.
    preface = [a for a in view.of(EnvoyAccess) if a.method == "PRI" and "DPE" in a.flags]
    grpc += preface
    grpc += said(view.of(Message), "grpc-no-status", "grpc-bad-content-type", "frame-too-large")
    # The server speaks HTTP/2 only and was sent HTTP/1.1: what a proxy makes of a port that is declared http.
    spoken = said(view.of(Message), "http1-on-http2-server")
    grpc += [r for r in view.of(LocalReply) if r.reset_reason in ("protocol error",)]
    wrong: list[tuple[Service, str, float]] = []
    for each in view.of(Service):
        for port in each.ports:
            declared = protocol_of(port)
            if not port.name and not port.app_protocol:
                continue
            if declared in HTTP_PROTOCOLS and port.port in DATABASES:
                wrong.append((each, f"port {port.port} is named {port.name} and carries no HTTP", 2.0))
            elif declared in ("tcp",) and each.name in routed:
                wrong.append((each, f"port {port.port} is declared {declared} and has HTTP routes", 2.2))
            elif declared in ("http", "tcp") and port.port in GRPC_PORTS:
                wrong.append((each, f"port {port.port} is declared {declared} and carries gRPC", 1.9))
            elif declared == "http" and spoken:
                named = 2.2 if "grpc" in port.name.lower() else 1.9
                wrong.append((each, f"port {port.port} is declared {declared} and the server speaks HTTP/2 only", named))  # fmt: skip
            elif declared in HTTP_PROTOCOLS and grpc:
                wrong.append(
                    (
                        each,
                        f"port {port.port} is declared {declared} and the stream breaks in the proxy",
                        1.9,
                    )
                )
            elif not declared and SUFFIX.search(port.name):
                wrong.append((each, f"the name {port.name} does not begin with a protocol", 1.9))
            elif not declared and each.name in routed:
                wrong.append(
                    (
                        each,
                        f"the name {port.name} declares no protocol and the Service has HTTP routes",
                        1.6,
                    )
                )
    if not wrong and not analyzed:
        return
    wrong.sort(key=lambda w: -w[2])
    first = wrong[0] if wrong else None
    service, why, weight = first if first else (None, "", 0.0)
    yield Hypothesis(
        subject=service.ref if service else "a Service's port",
        title=f"{service.ref}: {why}." if service else "A Service's port does not declare its protocol by name.",
        checks=(
            shown(why or "istioctl analyze reports the port's name", [service] if service else analyzed, weight=weight or 2.0, required=True, decide="kubectl get svc SERVICE -o yaml   # ports[].name, appProtocol; istioctl analyze"),
            shown("istioctl analyze reports the port's name", analyzed if service else [], weight=0.6),
            shown("the proxy breaks the stream, or speaks HTTP/1.1 to the server", [*grpc, *spoken], weight=1.0 if preface or spoken else 0.6),
        ),
        explains=("the same calls work without a sidecar", "HTTP routing rules have no effect on a port that is not HTTP"),
        fixes=(Fix(title="Name the port after its protocol", artifact="ports:\n- name: grpc-api   # protocol first: http, http2, grpc, https, tls, tcp, mongo, mysql, redis\n  port: PORT\n  appProtocol: grpc\n"),),
        prior=-1.4,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="The port declares another protocol than the application speaks, so the mesh treats the traffic wrongly.",
    inputs=(
        Service,
        VirtualService,
        Message,
        EnvoyAccess,
        LocalReply,
    ),
    needs=(
        Service,
        Message,
    ),
    rivals=(
        "http-named-443-service-hijacks-egress",
        "wildcard-listener-captures-traffic",
        "grpc-proxy-to-http1-backend",
    ),
    check=check,
)
