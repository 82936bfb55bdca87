"""What stands at a workload's inbound port: the filter chain for what arrives, and how it treats it.

Reference: istio ``pilot/pkg/networking/core/listener_inbound.go`` (``getFilterChainMatchOptions``,
``buildInboundListeners``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from deadhop.hops.mesh.context import Context
from deadhop.hops.mesh.farend import Arrival
from deadhop.hops.mesh.mesh import Mesh, target_port
from deadhop.hops.mesh.mtls_server import Mode
from deadhop.hops.mesh.protocol import AUTO, Family, Protocol
from deadhop.hops.mesh.workload import Workload
from deadhop.model.record import Source

Chain = Literal["http", "tcp", "none", "rejects"]


class InboundPort(msgspec.Struct, frozen=True):
    """What the sidecar takes a container port to be, and the object that says so."""

    protocol: Protocol
    decided_by: str
    declared: bool


class Front(msgspec.Struct, frozen=True):
    """The inbound chain for one connection.

    ``rejects``: the chain ends the TLS but the sender has no client certificate. ``ends_tls``: the chain decrypts.
    ``inspects``: a TLS inspector waits for a whole hello. ``unfinished``: what a TCP chain has behind a handshake that
    fails. ``mode`` is for people. ``rules``: the RBAC filters of a real configuration, None where policies decide.
    """

    chain: Chain
    ends_tls: bool
    inspects: bool
    tcp: bool
    mode: str
    http2: bool
    follows: bool
    http10: bool
    retries: bool
    rules: tuple[Mapping[str, Any], ...] | None = None
    sources: tuple[Source, ...] = ()


def inbound_port(mesh: Mesh, pod: Workload, port: int) -> InboundPort:
    """The protocol of a container port: a Sidecar's ingress, else the oldest Service that targets it, else sniffed."""
    sidecar = mesh.sidecars.of(pod.namespace, pod.labels)
    if sidecar is not None and sidecar.ingress and sidecar.meta.namespace == pod.namespace:
        for listener in sidecar.ingress:
            if listener.port == port:
                return InboundPort(listener.protocol, str(sidecar.meta), True)
        if not mesh.config.merge_ingress_listeners:
            return InboundPort(AUTO, f"no ingress of {sidecar.meta}", False)
    for service in mesh.by_pod.get(pod.key, ()):
        for service_port in service.ports:
            if target_port(service_port, pod) == port and service_port.protocol.family is not Family.UDP:
                return InboundPort(service_port.protocol, f"{service.meta} port {service_port.number}", True)
    return InboundPort(AUTO, "no Service targets the port (InboundPassthroughCluster)", False)


def pick_chain(mode: Mode, family: Family, arrival: Arrival, http10: bool) -> Chain:
    """The inbound filter chain that istiod's configuration has for a connection."""
    sniffed_http = arrival.payload in ("http/1.1", "http/2") or (arrival.payload == "http/1.0" and http10)
    if arrival.tls == "none" and arrival.payload not in ("tls", "partial-tls"):
        if mode is Mode.STRICT:
            return "none"
        if family is Family.AUTO:
            return "http" if sniffed_http else "tcp"
        return "http" if family is Family.HTTP else "tcp"
    foreign = arrival.tls != "istio"
    if mode is Mode.DISABLE:
        return "http" if family is Family.HTTP else "tcp"
    if foreign:
        if mode is Mode.STRICT:
            return "rejects"
        return "none" if family is Family.HTTP else "tcp"
    if family is Family.AUTO:
        return "http" if arrival.http else "tcp"
    return "http" if family is Family.HTTP else "tcp"


def front_of_objects(ctx: Context, arrival: Arrival, pod: Workload, port: int) -> Front:
    """The chain that PeerAuthentication and the port's protocol imply."""
    found = inbound_port(ctx.mesh, pod, port)
    server = ctx.mesh.peer.mode(pod.namespace, pod.labels, port)
    protocol = found.protocol
    ctx.say(
        server.decided_by or "PeerAuthentication default",
        f"mode {server.mode} on port {port} ({server.level} level)",
        function="ComposePeerAuthentication",
        mode=server.mode.value,
    )
    ctx.say(found.decided_by, f"inbound port {port} is {protocol.name}", function="buildInboundListeners")
    chain = pick_chain(server.mode, protocol.family, arrival, pod.http10)
    return Front(
        chain=chain,
        ends_tls=chain == "rejects" or (arrival.tls == "istio" and server.mode is not Mode.DISABLE),
        # Only listeners with a chain that terminates TLS inspect for it.
        inspects=server.mode is not Mode.DISABLE,
        tcp=protocol.family is not Family.HTTP,
        mode=f"mode {server.mode}",
        http2=protocol.http2,
        follows=protocol.family is Family.AUTO,
        http10=pod.http10,
        retries=ctx.mesh.config.inbound_retries and protocol.name not in ("grpc", "grpc-web"),
    )
