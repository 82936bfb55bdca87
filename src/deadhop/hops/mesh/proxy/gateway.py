"""A gateway's own proxy: its listeners are bound, and what it answers is what the caller meets.

Reference: istio ``pilot/pkg/networking/core/gateway.go`` (``buildGatewayListeners``: listeners ``0.0.0.0_<port>``, route
configurations ``http.<port>`` and ``https.<port>.<name>…``).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from deadhop.hops.mesh.context import Context
from deadhop.hops.mesh.farend import Arrival, FarEnd
from deadhop.hops.mesh.proxy.config import ProxyConfig
from deadhop.hops.mesh.proxy.filters import in_tls, outlet, sniffed
from deadhop.hops.mesh.proxy.outbound import by_chain, by_listener
from deadhop.hops.mesh.proxy.sockets import server_socket
from deadhop.hops.mesh.workload import Workload
from deadhop.model.mesh import MeshOutcome, MeshRequest

#: Gateways that one request may pass before it is taken to go in a circle.
DEPTH = 6
_KINDS: dict[str, Literal["response", "closed", "silent"]] = {
    "response": "response",
    "reset": "closed",
    "closed": "closed",
    "timeout": "silent",
}


def at_gateway(
    ctx: Context, proxy: ProxyConfig, arrival: Arrival, pod: Workload, ip: str, port: int
) -> FarEnd | None:
    """What a caller meets at a gateway's port; None where the dump does not tell."""
    if ctx.depth >= DEPTH:
        ctx.say(
            f"proxy {proxy.owner}", "the request has passed too many gateways: it goes in a circle", False
        )
        return FarEnd(kind="closed", server=pod.key)
    ctx = ctx.deeper()
    listener = proxy.by_address.get((ip, port)) or proxy.by_address.get(
        ("::" if ":" in ip else "0.0.0.0", port)
    )
    if listener is None:
        if "listener" not in proxy.whole:
            return None
        ctx.say(f"proxy {proxy.owner}", f"has no listener on port {port}: the kernel refuses", False)
        return FarEnd(kind="refused", server=pod.key)
    inner = arrival
    try:
        found = outlet(listener, sniffed(listener.raw, arrival, ip, port))
    except LookupError:
        found = None
    if found is not None and in_tls(arrival) and (socket := server_socket(found.chain)).terminates:
        if socket.demands and arrival.tls != "istio":
            ctx.lacks(f"whether the caller has the certificate that {listener.name} of {proxy.owner} demands")
        ctx.say(
            f"listener {listener.name} of proxy {proxy.owner}",
            "ends the caller's TLS",
            sources=(listener.source,),
        )
        inner = msgspec.structs.replace(
            arrival, payload="http/1.1" if arrival.tls == "none" else arrival.payload
        )
    request = MeshRequest(
        client=pod.key, dst_ip=ip, dst_port=port, host=arrival.host, method=arrival.method, path=arrival.path,
        headers=tuple(arrival.headers.items()), scheme="https" if inner is not arrival else "http", sni=arrival.sni,
    )  # fmt: skip
    sent = msgspec.structs.replace(inner, source=pod, source_ip=arrival.source_ip)
    if inner is not arrival and found is not None:
        opened = msgspec.structs.replace(sent, tls="none")
        outcome = by_chain(ctx, pod, proxy, found, request, opened)
    else:
        outcome = by_listener(ctx, pod, proxy, listener, request, sent)
    return None if outcome is None else _far(outcome, pod)


def _far(outcome: MeshOutcome, pod: Workload) -> FarEnd | None:
    kind = _KINDS.get(outcome.ending)
    if kind is None:
        return None
    return FarEnd(
        kind=kind,
        status=outcome.status,
        body=outcome.body,
        cut=outcome.ending == "reset",
        log=outcome.client_log,
        mtls=outcome.mtls,
        server=outcome.server or pod.key,
        reached_app=outcome.disposition.arrives,
    )
