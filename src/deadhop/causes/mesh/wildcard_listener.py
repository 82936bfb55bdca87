"""A headless or external-name Service makes a listener on the wildcard address, which takes traffic meant for other Services.

What happens
------------
A Service without a cluster address and with a port of undeclared or TCP protocol gives sidecars a listener on 0.0.0.0
for that port (ExternalName and address-less service entries in general, headless ones in several releases). It
swallows connections to any address on that port.

How to tell it from its neighbours
----------------------------------
The listener dump shows the wildcard address with a chain or cluster of an unrelated Service; the victim shares only
the port number. An HTTP listener on 443 is its own cause.

Fix
---
Declare the port's protocol, move the port, or replace the Service by a service entry with addresses.

References
----------
Istio issues on ExternalName and headless listeners; istioctl analyze IST0150; pilot/pkg/networking/core/listener.go.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.kube import KubeObject, Service, ServiceEntry, mappings
from deadhop.model.observed.mesh import EnvoyAccess, EnvoyListener
from deadhop.model.observed.message import Message
from deadhop.model.record import Record
from deadhop.snapshot.istio import HTTP_PROTOCOLS, cluster_parts, protocol_of
from deadhop.snapshot.names import same_service, service_name
from deadhop.snapshot.said import said

SLUG = "wildcard-listener-captures-traffic"


def check(view: View) -> Iterator[Hypothesis]:
    open_ports = {
        p.port: s
        for s in view.of(Service)
        for p in s.ports
        if (s.headless or s.type == "ExternalName") and protocol_of(p) not in HTTP_PROTOCOLS
    }
    entries: dict[int, KubeObject] = {
        p["number"]: e
        for e in view.of(ServiceEntry)
        if not e.spec.get("addresses")
        for p in mappings(e.spec, "ports")
        if isinstance(p.get("number"), int)
        and str(p.get("protocol", "")).upper() in ("TCP", "TLS", "HTTPS", "MONGO")
    }
    wide = [
        x
        for x in view.of(EnvoyListener)
        if x.address in ("0.0.0.0", "::") and x.port not in (15001, 15006, 15021, 15090)
    ]
    caught: list[Record] = [
        x for x in wide if x.port in open_ports or (x.port in entries and x.http is not True)
    ]
    strange: list[Record] = []
    for line in view.of(EnvoyAccess):
        parts = cluster_parts(line.cluster)
        other = service_name(line.authority) if line.authority else None
        if (
            parts
            and parts.direction == "outbound"
            and other
            and other.namespace
            and not same_service(parts.host, line.authority)
        ):
            strange.append(line)
    foreign = [
        x
        for x in wide
        if (p := cluster_parts(x.destination.removeprefix("Cluster: ")))
        and p.direction == "outbound"
        and p.host
        and x.http is not True
    ]
    analyzed = said(view.of(Message), "IST0150")
    owners: list[Record] = [
        open_ports[p]
        for p in dict.fromkeys(x.port for x in caught if isinstance(x, EnvoyListener))
        if p in open_ports
    ]
    external = [s for s in open_ports.values() if s.type == "ExternalName" and s not in owners]
    if not (caught or strange or analyzed or foreign or (external and view.of(EnvoyAccess))):
        return
    failing = [a for a in view.of(EnvoyAccess) if a not in strange and a.flags & {"UF", "UH", "NR", "UC"}]
    yield Hypothesis(
        subject=owners[0].ref if owners and isinstance(owners[0], Service) else "a wildcard listener",
        title="A Service without a cluster address makes a listener on the wildcard address and takes traffic meant for other Services on its port.",
        checks=(
            shown("a listener on the wildcard address belongs to such a Service, or a connection went to an unrelated Service's cluster", [*caught, *strange, *foreign, *analyzed] or external, weight=1.9 if caught or strange or foreign or analyzed else 1.0, required=True, decide="istioctl proxy-config listeners POD --address 0.0.0.0 --port PORT -o json"),
            shown("that Service has no cluster address and declares no HTTP protocol on the port", owners, weight=1.0, decide="kubectl get svc -A | grep -E 'None|ExternalName'"),
            shown("calls on that port fail", failing, weight=0.3),
        ),
        explains=("the victim has no connection to that Service except the port number",),
        fixes=(Fix(title="Declare the protocol or move the port", artifact="ports:\n- name: http-api   # the real protocol first\n  port: PORT\n"),),
        prior=-1.3,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mesh",
    title="A headless or external-name Service makes a wildcard listener that takes traffic meant for others on the port.",
    inputs=(
        Service,
        ServiceEntry,
        EnvoyListener,
        EnvoyAccess,
        Message,
        KubeObject,
    ),
    needs=(
        EnvoyListener,
        EnvoyAccess,
        Message,
    ),
    rivals=(
        "http-named-443-service-hijacks-egress",
        "port-name-protocol-misdeclared",
        "same-service-port-two-targets-conflict",
    ),
    check=check,
)
