"""Some Service declares port 443 with an HTTP-type name.

What happens
------------
For every port that any visible Service declares as HTTP each sidecar builds one listener on the wildcard address.
With a Service whose port 443 is named http, that listener takes all traffic to port 443: outside TLS and proxy
traffic meets an HTTP parser and finds no route.

How to tell it from its neighbours
----------------------------------
Outside hosts on 443 answer 404 or a protocol error from the local proxy; the listener list shows HTTP on 0.0.0.0:443;
renaming that one port cures the whole mesh. A TCP or headless Service with a wildcard listener is the neighbour with
another protocol.

Fix
---
Name the port after its real protocol: https, tls or tcp.

References
----------
Istio, Protocol Selection; pilot/pkg/networking/core/listener.go (wildcard HTTP listeners).
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.http import HttpExchange
from deadhop.model.observed.kube import Service
from deadhop.model.observed.mesh import EnvoyAccess, EnvoyListener
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.istio import HTTP_PROTOCOLS, protocol_of
from deadhop.snapshot.said import said

SLUG = "http-named-443-service-hijacks-egress"


def check(view: View) -> Iterator[Hypothesis]:
    named = [
        s for s in view.of(Service) for p in s.ports if p.port == 443 and protocol_of(p) in HTTP_PROTOCOLS
    ]
    listeners = [
        x
        for x in view.of(EnvoyListener)
        if x.port == 443
        and x.address in ("0.0.0.0", "")
        and (x.http or "Route: 443" in x.destination or "443" in x.chains)
    ]
    lost: list[Record] = [
        a
        for a in view.of(EnvoyAccess)
        if (
            a.downstream_local.endswith(":443")
            and ("NR" in a.flags or "DPE" in a.flags or a.status in (400, 404))
        )
        or (a.method == "CONNECT" and a.status == 404)
    ]
    lost += [
        e
        for e in view.of(HttpExchange)
        if e.port in (443, None)
        and (e.error == "tls" or (e.status == 404 and "envoy" in e.header("server").lower()))
    ]
    lost += said(view.of(Message), "answer-is-not-tls")
    if not (named or listeners):
        return
    first = named[0].ref if named else "a Service"
    yield Hypothesis(
        subject=first,
        title=f"{first} declares port 443 as HTTP: every sidecar parses traffic to any address on 443 as HTTP.",
        checks=(
            shown("a Service's port 443 has an HTTP-type name, or the proxy has an HTTP listener on 0.0.0.0:443", [*named, *listeners], weight=2.1 if listeners else 1.8, required=True, decide="kubectl get svc -A -o json | jq -r '.items[]|select(.spec.ports[]?|.port==443 and (.name//\"\"|test(\"^(http|grpc|http2)(-|$)\")))|.metadata.namespace+\"/\"+.metadata.name'"),
            shown("outside hosts on 443 answer 404 or a protocol error from the local proxy", lost, weight=1.1, decide="istioctl proxy-config listeners POD --port 443"),
        ),
        explains=("TLS to any outside host fails mesh-wide since that Service exists",),
        fixes=(Fix(title="Name the port after its real protocol", artifact="ports:\n- name: https\n  port: 443\n"),),
        prior=-1.4,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="A Service declares port 443 with an HTTP-type name, so proxies catch unrelated TLS traffic on that port.",
    inputs=(
        Service,
        EnvoyListener,
        EnvoyAccess,
        HttpExchange,
        Message,
    ),
    needs=(
        Service,
        EnvoyListener,
    ),
    rivals=(
        "wildcard-listener-captures-traffic",
        "port-name-protocol-misdeclared",
        "registry-only-no-serviceentry",
    ),
    check=check,
)
