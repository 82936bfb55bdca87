"""A client, route or ingress names a port that the Service does not expose.

What happens
------------
The port that is dialled or referenced is not in the Service's port list. Without a mesh the ClusterIP has no rule for
it and the connection is refused or times out. In a mesh the sidecar answers instead: 503 with a failed connection where
another Service uses that port for HTTP, else a reset.

How to tell it from its neighbours
----------------------------------
The Service has endpoints, and its pods listen on the targetPort; only the number (or name) that the caller uses is not
among the Service's ports. A wrong targetPort is the other side: there the caller's port is right.

Fix
---
Use a port that the Service exposes, or add the port to the Service.

References
----------
Kubernetes, Service ports; Gateway API, BackendRef port; Envoy response flag UF.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.evidence.fields import integer, is_ip
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.finding import Check
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.firewall import FirewallRule
from deadhop.model.observed.http import DialFailure, HttpExchange, LocalReply
from deadhop.model.observed.kube import (
    Endpoints,
    HTTPRoute,
    Ingress,
    Service,
    VirtualService,
    mapping,
    mappings,
)
from deadhop.model.observed.mesh import EnvoyAccess
from deadhop.model.observed.node import Frontend
from deadhop.model.observed.shell import CommandRun
from deadhop.model.record import Record
from deadhop.snapshot.firewall import rules
from deadhop.snapshot.istio import destinations
from deadhop.snapshot.names import service_name
from deadhop.snapshot.replies import replies, with_flag
from deadhop.snapshot.services import served

SLUG = "service-port-mismatch"


def check(view: View) -> Iterator[Hypothesis]:
    for caller, host, port in _callers(view):
        name = service_name(host)
        services = [
            s
            for s in view.of(Service)
            if s.ports
            and (
                (
                    name
                    and s.name == name.service
                    and (not name.namespace or s.namespace in ("", name.namespace))
                )
                or (is_ip(host) and s.cluster_ip == host)
            )
        ]
        failed = isinstance(caller, (HttpExchange, DialFailure)) or bool(
            view.of(LocalReply) or view.of(EnvoyAccess) or view.of(DialFailure)
        )
        rows = rules(view.of(IptablesTable), view.of(FirewallRule))
        held = [] if services or _cut_down(view, port) else served(host, view.of(Frontend), rows)
        if held:
            yield _from_proxy(caller, host, port, held)
        elif services or (name and failed and isinstance(caller, HttpExchange)):
            yield _hypothesis(view, caller, host, port, services[0] if services else None)
    refused = [
        r
        for r in view.of(LocalReply)
        if r.reset_reason == "remote connection failure" and "refused" in r.transport_failure.lower()
    ]
    if refused and not view.of(Service):
        yield _refused(view, refused)


def _cut_down(view: View, port: int) -> bool:
    """Whether a listing was asked for single ports: then it does not show the others."""
    ports = re.compile(rf":\d{{2,5}}\b|\b{port}\b|port")
    return any(ports.search(f) for c in view.of(CommandRun) for f in c.filters)


def _from_proxy(caller: Record, address: str, port: int, held: list[tuple[int, Record]]) -> Hypothesis:
    """The node's proxy holds the address with other ports: nothing there answers for the one that is dialled."""
    ports = sorted({number for number, _record in held})
    behind = [r for _number, r in held if isinstance(r, Frontend) and r.backends]
    return Hypothesis(
        subject=f"{address}:{port}",
        title=f"Port {port} of {address} is dialled, and the node's proxy serves {', '.join(map(str, ports))} there.",
        checks=(
            Check(text=f"{address}:{port} is what the caller uses", holds=True, weight=0.8, required=True, records=(caller,)),
            judged(f"the proxy serves other ports of that address and not {port}", port not in ports, [r for _number, r in held][:4], weight=2.2, required=True, decide="kubectl get svc -A -o wide | grep " + address),
            shown("it has backends behind them", behind[:3], weight=0.4),
        ),
        explains=("nothing answers on a port that the Service does not have",),
        fixes=(Fix(title="Use a port that the Service exposes", artifact=f"# {address} serves: {', '.join(map(str, ports))}\n"),),
        prior=-1.2,
    )  # fmt: skip


def _refused(view: View, refused: list[LocalReply]) -> Hypothesis:
    """A gateway that reached an address and was refused there: a port on which nothing listens."""
    missing = [e for e in view.of(Endpoints) if not e.ready]
    return Hypothesis(
        subject="the upstream of the gateway's route",
        title="The gateway's connection is refused by the backend's address: the route's port is likely not one that the Service and its pods serve.",
        checks=(
            Check(text="the upstream address refuses the connection at once", holds=True, weight=1.6, required=True, records=tuple(refused)),
            judged("the Service has ready endpoints", False if missing else None, missing, weight=0.8, required=False),
            judged("the referenced port is not in the Service's port list", None, weight=1.5, decide="kubectl get svc,endpointslices,httproute,ingress -o yaml   # the port referenced against the ports exposed"),
        ),
        explains=("a missing endpoint would give no healthy upstream, a policy a timeout; a refusal means a live address without a listener",),
        fixes=(Fix(title="Use the port that the Service exposes", artifact="kubectl get svc SERVICE -o jsonpath='{.spec.ports}'\n"),),
        prior=-1.3,
    )  # fmt: skip


def _callers(view: View) -> Iterator[tuple[Record, str, int]]:
    """Who names which Service and port: failed calls, and references in routes."""
    for exchange in view.of(HttpExchange):
        if exchange.port and (
            (exchange.status or 0) in (502, 503, 504)
            or exchange.error in ("refused", "timeout", "empty", "reset")
        ):
            yield exchange, exchange.host if service_name(exchange.host) else exchange.dialled, exchange.port
    for dial in view.of(DialFailure):
        if dial.port and dial.error in ("refused", "timeout"):
            yield dial, dial.host or dial.ip, dial.port
    for line in view.of(EnvoyAccess):
        # What the application dialled, as its sidecar saw it; a connection that failed, not one that was cut.
        address, _, dialled = (line.downstream_local or line.upstream_host).rpartition(":")
        if "UF" in line.flags and is_ip(address) and dialled.isdigit():
            yield line, address, int(dialled)
    for route in view.of(HTTPRoute):
        for rule in mappings(route.spec, "rules"):
            for backend in mappings(rule, "backendRefs"):
                if port := integer(str(backend.get("port", ""))):
                    namespace = backend.get("namespace") or route.namespace or "default"
                    yield route, f"{backend.get('name')}.{namespace}.svc.cluster.local", port
    for virtual in view.of(VirtualService):
        for to in destinations(virtual):
            if to.port and (name := service_name(to.host)):
                space = name.namespace or virtual.namespace or "default"
                yield virtual, f"{name.service}.{space}.svc.cluster.local", to.port
    for ingress in view.of(Ingress):
        for rule in mappings(ingress.spec, "rules"):
            for path in mappings(rule, "http", "paths"):
                service = mapping(path, "backend", "service")
                number = integer(str(mapping(service, "port").get("number", "")))
                if service.get("name") and number:
                    namespace = ingress.namespace or "default"
                    yield ingress, f"{service['name']}.{namespace}.svc.cluster.local", number


def _hypothesis(view: View, caller: Record, host: str, port: int, service: Service | None) -> Hypothesis:
    exposed = [p.port for p in service.ports] if service else []
    missing = port not in exposed if service else None
    ready = [e for e in view.of(Endpoints) if service and e.service == service.name and e.ready]
    failed = with_flag(replies(view.of(LocalReply), view.of(EnvoyAccess)), "UF")
    name = service_name(host)
    shown_name = f"{service.name}" if service else host
    namespace = f" -n {name.namespace}" if name and name.namespace else ""
    return Hypothesis(
        subject=f"{host}:{port}",
        title=f"Port {port} of {shown_name} is dialled, and the Service exposes {', '.join(map(str, exposed)) or 'other ports'}.",
        checks=(
            Check(text=f"{host}:{port} is what the caller uses", holds=True, weight=0.8, required=True, records=(caller,)),
            judged(
                f"port {port} is not among the Service's ports", missing, [service] if service else [], weight=2.6, required=True,
                decide=f"kubectl get svc {name.service if name else host}{namespace} -o wide",
            ),
            shown("the Service has ready endpoints", ready, weight=0.5, decide=f"kubectl get endpointslices{namespace} -l kubernetes.io/service-name={name.service if name else shown_name}"),
            shown("the proxy's connection failed", failed, weight=0.4),
        ),
        explains=("nothing answers on a port that the Service does not have; a sidecar turns that into a 503",),
        fixes=(
            Fix(
                title="Use a port that the Service exposes",
                artifact=f"# {shown_name} exposes: {', '.join(f'{p.name or p.protocol} {p.port}' for p in service.ports) if service else '?'}\n",
            ),
        ),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="service",
    title="The port that is dialled or referenced is not one that the Service exposes.",
    inputs=(
        Service,
        Endpoints,
        HttpExchange,
        DialFailure,
        LocalReply,
        EnvoyAccess,
        HTTPRoute,
        Ingress,
        VirtualService,
        Frontend,
        IptablesTable,
        FirewallRule,
        CommandRun,
    ),
    needs=(HttpExchange, DialFailure, LocalReply, HTTPRoute, Ingress, VirtualService),
    rivals=("service-targetport-mismatch", "service-selector-matches-no-pods", "app-not-listening"),
    check=check,
)
