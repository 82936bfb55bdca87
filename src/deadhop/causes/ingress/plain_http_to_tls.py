"""The ingress or gateway speaks plain HTTP to a backend port that expects TLS.

What happens
------------
The proxy ends the client's TLS and connects to the backend without it, as nothing declares the backend's protocol.
The backend's TLS port answers 400 in plain text, or closes.

How to tell it from its neighbours
----------------------------------
The 400 says that a plain HTTP request was sent to an HTTPS port, although the client used HTTPS; a direct TLS request
to the backend works. The opposite, TLS towards a plain port, fails with a version error.

Fix
---
Declare the backend protocol as HTTPS.

References
----------
nginx status 497; Go net/http (Client sent an HTTP request to an HTTPS server); ingress-nginx backend-protocol;
Service appProtocol.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.evidence.fields import host_port, integer
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import ErrorPage, HttpExchange
from deadhop.model.observed.kube import Ingress, Service, mapping, mappings
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.message import Message
from deadhop.model.observed.shell import CommandRun
from deadhop.model.record import Record
from deadhop.snapshot.said import said

SLUG = "plain-http-sent-to-tls-backend"

SAID = re.compile(
    r"plain HTTP request was sent to HTTPS port|HTTP request to an HTTPS server|plain HTTP to an SSL-enabled",
    re.I,
)
TLS_PORTS = (443, 8443, 6443, 9443, 4443, 10443)

GO_ANSWER = len("Client sent an HTTP request to an HTTPS server.\n")


def check(view: View) -> Iterator[Hypothesis]:
    told: list[Record] = [p for p in view.of(ErrorPage) if SAID.search(p.text)]
    told += said(view.of(Message), "plain-http-to-https-port", "answer-is-tls")
    told += [e for e in view.of(HttpExchange) if SAID.search(e.body)]
    odd: list[Record] = [
        m
        for m in said(view.of(Message), "upstream-no-valid-header", "upstream-closed-early")
        if m.field("upstream").startswith("http://") and _port(m) in TLS_PORTS
    ]
    reset = [
        a
        for a in view.of(EnvoyAccess)
        if a.flags & {"UC", "UPE", "UR"} and host_port(a.upstream_host)[1] in TLS_PORTS
    ]
    refused = _refused(view)
    measured = [r for r in refused if _is_go(r)]
    secure: list[Record] = [e for e in view.of(HttpExchange) if e.url.startswith("https")]
    secure += [
        c
        for c in view.of(CommandRun)
        if c.program in ("curl", "wget") and any(w.startswith("https://") for w in c.argv)
    ]
    plain: list[Record] = [
        c
        for c in view.of(CommandRun)
        if c.program in ("curl", "wget") and any(w.startswith("http://") for w in c.argv)
    ]
    ports = [
        s
        for s in view.of(Service)
        if any(p.port in TLS_PORTS or p.target in TLS_PORTS or p.name.startswith("https") for p in s.ports)
    ]
    declared = [
        k
        for k in (*view.of(Ingress), *view.of(Service))
        if any("backend-protocol" in a and str(v).upper() == "HTTPS" for a, v in k.annotations.items())
    ]
    # Annotations that are shown and name no protocol: ingress-nginx speaks HTTP then.
    silent = [
        i
        for i in view.of(Ingress)
        if i.annotations and not any("backend-protocol" in a for a in i.annotations)
    ]
    silent = [i for i in silent if any(n in TLS_PORTS for n in _ports(i))]
    if (silent or ports) and not declared:
        odd += [r for r in refused if r not in measured and _upstream_port(r) in TLS_PORTS]
    fine = [
        m
        for m in said(view.of(Message), "access")
        if m.field("upstream_status").startswith("2") and m.field("upstream") in {_upstream(r) for r in refused}
    ]  # fmt: skip
    if not told and not odd and not measured and not (reset and ports):
        return
    yield Hypothesis(
        subject="the backend's TLS port",
        title="The proxy speaks plain HTTP to a backend port that expects TLS.",
        checks=(
            shown("the backend says that it got plain HTTP on its TLS port, or cannot be understood there", told or measured or odd or reset, weight=2.2 if told else 1.8 if measured else 1.4, required=True, decide="curl -sk https://POD-IP:PORT/ -o /dev/null -w '%{http_code}'"),
            shown("the client used HTTPS", secure if told else [], weight=0.7),
            judged("the client itself did not ask for plain HTTP", False if plain and told and not secure else None, plain, weight=0.8),
            shown("the port is a TLS port by number or name", ports, weight=0.5),
            judged("the backend protocol is not declared as HTTPS", False if declared else True if silent else None, declared or silent, weight=1.2),
            judged("no request succeeds there", False if fine else None, fine[:2], weight=1.5, required=bool(fine)),
        ),
        explains=("the client's own TLS to the gateway is fine", "the same path works with TLS towards the pod"),
        fixes=(Fix(title="Declare the backend protocol", artifact="# ingress-nginx\nnginx.ingress.kubernetes.io/backend-protocol: HTTPS\n# Kong: konghq.com/protocol: https on the Service; Traefik: traefik.ingress.kubernetes.io/service.serversscheme: https\n# Istio: DestinationRule trafficPolicy.tls.mode: SIMPLE, port name https-…; Gateway API: BackendTLSPolicy\n"),),
        prior=-1.2,
    )  # fmt: skip


def _refused(view: View) -> list[Message | EnvoyAccess | HttpExchange]:
    """Ordinary requests to which the backend itself answered 400."""
    found: list[Message | EnvoyAccess | HttpExchange] = [
        m for m in said(view.of(Message), "access") if m.field("upstream_status") == "400"
    ]
    found += [a for a in view.of(EnvoyAccess) if a.status == 400 and not a.flags and a.upstream_host]
    found += [e for e in view.of(HttpExchange) if e.status == 400 and e.url.startswith("https")]
    return found


def _is_go(record: Message | EnvoyAccess | HttpExchange) -> bool:
    """Whether the answer has the length of net/http's to a plain request on its TLS port."""
    if isinstance(record, Message):
        return record.field("sent") == str(GO_ANSWER)
    if isinstance(record, EnvoyAccess):
        return record.sent == GO_ANSWER
    return record.header("content-length") == str(GO_ANSWER)


def _upstream(record: Message | EnvoyAccess | HttpExchange) -> str:
    if isinstance(record, Message):
        return record.field("upstream")
    return record.upstream_host if isinstance(record, EnvoyAccess) else ""


def _upstream_port(record: Message | EnvoyAccess | HttpExchange) -> int | None:
    return host_port(_upstream(record))[1]


def _ports(ingress: Ingress) -> list[int | None]:
    return [
        integer(str(mapping(path, "backend", "service", "port").get("number", "")))
        for rule in mappings(ingress.spec, "rules")
        for path in mappings(rule, "http", "paths")
    ]


def _port(message: Message) -> int | None:
    return host_port(message.field("upstream").partition("://")[2].partition("/")[0])[1]


CAUSE = Cause(
    slug=SLUG,
    family="ingress",
    title="The ingress or gateway speaks plain HTTP to a backend port that expects TLS.",
    inputs=(
        ErrorPage,
        Message,
        HttpExchange,
        EnvoyAccess,
        CommandRun,
        Service,
        Ingress,
    ),
    needs=(
        ErrorPage,
        Message,
        HttpExchange,
        EnvoyAccess,
    ),
    rivals=(
        "tls-client-to-plaintext-port",
        "port-name-protocol-misdeclared",
        "grpc-proxy-to-http1-backend",
    ),
    check=check,
)
