"""Where a connection to an address really goes: kube-proxy's translation of ClusterIPs, else the address itself."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from deadhop.hops.service.registry import MeshService


class Landing(msgspec.Struct, frozen=True):
    """What stands behind ``ip:port``: several backends, a refusal (``refused``), or nothing known (``unknown``)."""

    backends: tuple[tuple[str, int], ...]
    kind: str
    text: str


def translate(by_vip: Mapping[str, MeshService], ip: str, port: int) -> Landing:
    """Follow kube-proxy for one destination.

    A Service port without ready endpoints is rejected (ICMP port unreachable, which the caller reads as
    refused). For a port that the Service does not have, kube-proxy in iptables mode has no rule, so nothing
    answers; in IPVS mode, or with reject rules, it is refused: the objects cannot say which.
    """
    service = by_vip.get(ip)
    if service is None:
        return Landing(((ip, port),), "direct", f"{ip} is no Service address")
    found = service.port(port)
    if found is None:
        return Landing((), "undefined-port", f"{service.meta} does not expose port {port}")
    backends = tuple((e.address, n) for e, n in service.ready_endpoints(found))
    if not backends:
        return Landing((), "refused", f"{service.meta} has no ready endpoints")
    return Landing(backends, "service", f"{service.meta} port {port}")
