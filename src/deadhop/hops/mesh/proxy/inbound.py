"""The server's sidecar as it is configured: ``virtualInbound``'s chain for what arrives, and what it demands.

Reference: istio ``pilot/pkg/networking/core/listener_inbound.go`` (``buildInboundListeners``: one ``virtualInbound``
with a set of chains for each port).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from deadhop.hops.mesh.context import Context
from deadhop.hops.mesh.farend import Arrival
from deadhop.hops.mesh.front import Chain, Front
from deadhop.hops.mesh.proxy.chains import inspects
from deadhop.hops.mesh.proxy.clusters import http_version
from deadhop.hops.mesh.proxy.config import ProxyConfig
from deadhop.hops.mesh.proxy.filters import Outlet, in_tls, outlet, route_config, sniffed, strange
from deadhop.hops.mesh.proxy.routes import take, target_of
from deadhop.hops.mesh.proxy.sockets import server_socket
from deadhop.model.proto_json import flag, get, message, messages, type_of

NOTHING = Front(
    chain="none",
    ends_tls=False,
    inspects=False,
    tcp=False,
    mode="the proxy's own configuration",
    http2=False,
    follows=False,
    http10=False,
    retries=False,
)


def front_of_proxy(ctx: Context, proxy: ProxyConfig, arrival: Arrival, ip: str, port: int) -> Front | None:
    """The inbound chain of the proxy's configuration, None where the dump does not tell."""
    listener = proxy.captured(ip, port, outbound=False)
    if listener is None:
        return None
    seen = sniffed(listener.raw, arrival, ip, port)
    looks = inspects(listener.raw, "tls_inspector", port)
    sources = (listener.source,)
    try:
        found = outlet(listener, seen)
    except LookupError as error:
        ctx.lacks(f"what the {error.args[0]} of listener {listener.name} decides")
        return None
    me = f"listener {listener.name} of proxy {proxy.owner}"
    if found is None:
        ctx.say(me, f"no chain for port {port}, {seen.protocol}", function="findFilterChain", sources=sources)
        return _replace(inspects=looks, sources=sources)
    ctx.say(
        me,
        f"filter chain {found.name.partition(' ')[2]} takes port {port}, {seen.protocol}",
        function="findFilterChain",
        sources=sources,
    )
    socket = server_socket(found.chain)
    if socket.terminates and not socket.mesh:
        ctx.lacks(f"whether the sender trusts and is trusted by the certificates of {me}")
    chain: Chain = "http" if found.manager is not None else "tcp"
    if socket.terminates and socket.demands and arrival.tls != "istio" and in_tls(arrival):
        chain = "rejects"
    strange(ctx, {"filters": list(found.before)}, "filters", me)
    if found.manager is not None:
        strange(ctx, found.manager, "http_filters", me)
    return _front(proxy, found, chain, socket.terminates, looks)


def _replace(**fields: Any) -> Front:
    return msgspec.structs.replace(NOTHING, **fields)


def _front(proxy: ProxyConfig, found: Outlet, chain: Chain, ends_tls: bool, looks: bool) -> Front:
    rules = tuple(_rules(found))
    if found.manager is None:
        return _replace(
            chain=chain,
            ends_tls=ends_tls,
            inspects=looks,
            tcp=True,
            rules=rules,
            sources=(found.listener.source,),
        )
    cluster, retries = _upstream(proxy, found.manager)
    spoken = http_version(cluster)
    return _replace(
        chain=chain,
        ends_tls=ends_tls,
        inspects=looks,
        http2=spoken == "http2",
        follows=spoken == "downstream",
        http10=flag(found.manager, "http_protocol_options", "accept_http_10"),
        retries=retries,
        rules=rules,
        sources=(found.listener.source,),
    )


def _upstream(proxy: ProxyConfig, manager: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """The inbound cluster behind a manager, and whether its route retries."""
    _, config, _ = route_config(proxy, manager)
    for vhost in messages(config, "virtual_hosts"):
        taken = take(vhost, {":authority": "", ":method": "GET", ":path": "/", ":scheme": "http"}, "/")
        if taken.route is None:
            continue
        target = target_of(taken.route, vhost, "/")
        name = target.clusters[0][0] if target.clusters else ""
        resource = proxy.clusters.get(name)
        return (resource.raw if resource is not None else {}), bool(target.retries.attempts)
    return {}, False


def _rules(found: Outlet) -> list[Mapping[str, Any]]:
    """The RBAC filters of the chain, in their order."""
    filters = [*found.before, *(messages(found.manager, "http_filters") if found.manager is not None else ())]
    configs = [message(f, "typed_config") for f in filters if not flag(f, "disabled")]
    return [c for c in configs if type_of(c) == "RBAC" and get(c, "rules") is not None]
