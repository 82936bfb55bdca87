"""From a cluster's host to the far end: names are resolved, ClusterIPs translated, then the connection arrives."""

from __future__ import annotations

import ipaddress

from deadhop.hops.mesh.clusters import Host
from deadhop.hops.mesh.context import Context
from deadhop.hops.mesh.farend import Arrival, FarEnd, reach
from deadhop.hops.mesh.inbound import arrive
from deadhop.hops.service.kubeproxy import translate


def dial(ctx: Context, arrival: Arrival, host: Host) -> FarEnd:
    """Connect to an upstream host."""
    address = host.address
    try:
        ipaddress.ip_address(address)
    except ValueError:
        services = ctx.mesh.by_host.get(address.rstrip(".").lower(), [])
        vip = next((v for s in services for v in s.vips), None)
        if vip is None:
            failed = reach(ctx, address, host.port)
            if failed is not None:
                return failed
            ctx.lacks(f"the address of {address}")
            ctx.say("DNS", f"{address} is outside the evidence", None)
            return FarEnd(kind="response", status=200, mtls=False)
        ctx.say("DNS", f"{address} is {vip}")
        address = vip
    return connect(ctx, arrival, address, host.port)


def connect(ctx: Context, arrival: Arrival, ip: str, port: int) -> FarEnd:
    """Connect to an address, which may be a Service's."""
    failed = reach(ctx, ip, port)
    if failed is not None:
        return failed
    landing = translate(ctx.mesh.by_vip, ip, port)
    if landing.kind == "refused":
        ctx.say("kube-proxy", landing.text, False)
        return FarEnd(kind="refused")
    if landing.kind == "undefined-port":
        ctx.say("kube-proxy", landing.text, False)
        ctx.lacks(f"whether the node drops or rejects {ip}:{port}, which no Service port covers")
        return FarEnd(kind="dropped")
    if landing.kind == "service":
        ctx.say(
            "kube-proxy", f"{landing.text} goes to {', '.join(f'{a}:{p}' for a, p in landing.backends[:4])}"
        )
        if len(landing.backends) > 1:
            return _any_backend(ctx, arrival, landing.backends)
    return arrive(ctx, arrival, *landing.backends[0])


def _any_backend(ctx: Context, arrival: Arrival, backends: tuple[tuple[str, int], ...]) -> FarEnd:
    """kube-proxy picks at random: the first backend stands for all, unless they differ."""
    results = []
    for address, number in backends[:16]:
        fork = ctx.fork()
        results.append((arrive(fork, arrival, address, number), fork))
    far, fork = results[0]
    if any(other.kind != far.kind or other.status != far.status for other, _ in results):
        ctx.lacks(f"which of {len(backends)} endpoints the connection meets; they differ")
    ctx.join(fork)
    return far
