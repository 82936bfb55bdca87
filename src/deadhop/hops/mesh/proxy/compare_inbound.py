"""The server's side: the mutual-TLS mode that PeerAuthentication implies beside what ``virtualInbound`` takes."""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.hops.mesh.farend import Arrival
from deadhop.hops.mesh.mesh import Mesh, target_port
from deadhop.hops.mesh.mtls_server import Mode
from deadhop.hops.mesh.protocol import Family
from deadhop.hops.mesh.proxy.config import ProxyConfig
from deadhop.hops.mesh.proxy.difference import Difference
from deadhop.hops.mesh.proxy.filters import outlet, sniffed
from deadhop.hops.mesh.proxy.sockets import server_socket
from deadhop.hops.mesh.workload import Workload, captures_inbound
from deadhop.model.observed.proxy import ProxyResource

_TRIALS = {
    "plain": Arrival(source=None, source_ip="192.0.2.1", tls="none", payload="http/1.1", http=True),
    "http": Arrival(source=None, source_ip="192.0.2.1", tls="istio", payload="http/1.1", http=True),
    "tcp": Arrival(source=None, source_ip="192.0.2.1", tls="istio", payload="http/1.1", http=False),
}


def inbound(mesh: Mesh, pod: Workload, proxy: ProxyConfig) -> Iterator[Difference]:
    """The ports of a workload whose mutual-TLS mode differs."""
    if not pod.ips:
        return
    ports = {
        n: (s.host, p.number)
        for s in mesh.by_pod.get(pod.key, ())
        for p in s.ports
        if p.protocol.family is not Family.UDP and (n := target_port(p, pod)) is not None
    }
    for number, (host, port) in ports.items():
        if not captures_inbound(pod, number)[0]:
            continue
        listener = proxy.captured(pod.ips[0], number, outbound=False)
        if listener is None:
            continue
        wanted = mesh.peer.mode(pod.namespace, pod.labels, number)
        runs = real_mode(listener, pod.ips[0], number)
        if runs is None or runs is wanted.mode:
            continue
        yield Difference(
            aspect="inbound",
            subject=f"port {number} of {pod.key}",
            objects=f"mutual TLS {wanted.mode}",
            runs=f"mutual TLS {runs}",
            by=(wanted.decided_by,) if wanted.decided_by is not None else (),
            resources=(listener,),
            presumes=() if wanted.decided_by is not None else ("PeerAuthentication",),
            host=host,
            port=port,
        )


def real_mode(listener: ProxyResource, ip: str, port: int) -> Mode | None:
    """The mode that a listener's chains amount to, None where they do not say."""
    takes: dict[str, bool] = {}
    try:
        for name, arrival in _TRIALS.items():
            found = outlet(listener, sniffed(listener.raw, arrival, ip, port))
            ends = found is not None and server_socket(found.chain).terminates
            takes[name] = found is not None and (ends if name != "plain" else not ends)
    except LookupError:
        return None
    mutual = takes["http"] or takes["tcp"]
    if takes["plain"]:
        return Mode.PERMISSIVE if mutual else Mode.DISABLE
    return Mode.STRICT if mutual else None
