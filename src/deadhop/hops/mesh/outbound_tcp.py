"""The client sidecar as a TCP proxy, and the client without a sidecar: what the application's socket meets.

Reference: envoy ``source/common/tcp_proxy/tcp_proxy.cc``; ``max_connect_attempts`` is 1, so a failed connect is
logged as ``UF,URX``.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from deadhop.hops.mesh.clusters import BLACKHOLE, Cluster
from deadhop.hops.mesh.context import Context
from deadhop.hops.mesh.dial import dial
from deadhop.hops.mesh.farend import Arrival, FarEnd
from deadhop.hops.mesh.versions import has
from deadhop.model.mesh import LogLine, MeshOutcome
from deadhop.model.trace import Disposition

UNREAD: Literal["reset"] = "reset"
"""How a connection ends that the proxy closes without having read what the application wrote: the kernel answers
with a reset. An application that writes late, or waits for the server, sees a clean close instead."""


def blackholed(ctx: Context) -> MeshOutcome:
    """BlackHoleCluster has no hosts: the connection is closed."""
    ctx.say("outboundTrafficPolicy", "REGISTRY_ONLY: BlackHoleCluster closes the connection", False)
    return MeshOutcome(
        ending=UNREAD,
        client_log=LogLine(frozenset(("UH",)), None, BLACKHOLE),
        disposition=Disposition.REJECTED,
        reason="UH",
    )


def no_host(ctx: Context, cluster: Cluster) -> MeshOutcome:
    """A TCP proxy whose cluster has no hosts closes the connection."""
    ctx.say(cluster.name, "the cluster has no hosts", False)
    log = LogLine(frozenset(("UH",)), None, cluster.name)
    return MeshOutcome(ending=UNREAD, client_log=log, disposition=Disposition.REJECTED, reason="UH")


def proxied(ctx: Context, cluster: Cluster, arrival: Arrival) -> MeshOutcome:
    """One connection through the TCP proxy to a cluster."""
    if not cluster.hosts:
        return no_host(ctx, cluster)
    host = cluster.hosts[0]
    ctx.say(
        cluster.name,
        f"TCP to {host.address}:{host.port}: {host.why}",
        function="tcp_proxy",
        sources=cluster.sources,
        cluster=cluster.name,
        tls=host.tls,
    )
    if not host.sure:
        ctx.lacks(f"whether {host.address} has a sidecar ({host.why})")
    sent = msgspec.structs.replace(
        arrival, tls=host.tls, http=False, sans=cluster.sans, sni=cluster.sni or arrival.sni
    )
    far = dial(ctx, sent, host)

    def line(*flags: str) -> LogLine:
        return LogLine(frozenset(flags), None, cluster.name)

    outcome = socket_view(far)
    if far.kind in ("refused", "dropped", "tls-failed") and not (
        far.kind == "tls-failed" and host.tls == "none"
    ):
        return msgspec.structs.replace(
            outcome, ending=UNREAD, client_log=line("UF", "URX"), mtls=None, reason="UF"
        )
    if far.kind == "closed" and far.cut:
        forwarded = has(ctx.version, "tcp_reset_forwarded")
        ending, log = ("reset", line("UR")) if forwarded else ("closed", line())
        return msgspec.structs.replace(outcome, ending=ending, client_log=log)
    if far.kind == "silent" and arrival.payload == "partial-tls":
        # The caller gives up first: a sidecar whose TLS inspector still waits answers its close with a reset, an
        # application does not.
        waits = far.log is None and not far.reached_app
        log = line("UR") if waits and has(ctx.version, "tcp_reset_forwarded") else line()
        return msgspec.structs.replace(outcome, client_log=log)
    return msgspec.structs.replace(outcome, client_log=line())


def socket_view(far: FarEnd) -> MeshOutcome:
    """What an application meets that is connected to the far end directly."""
    ending, disposition, reason = {
        "response": ("response", Disposition.DELIVERED, ""),
        "greeting": ("response", Disposition.DELIVERED, ""),
        "protocol-error": ("response", Disposition.DELIVERED, ""),
        "refused": ("reset", Disposition.REJECTED, "connection refused"),
        "dropped": ("timeout", Disposition.DROPPED, "connection timeout"),
        "tls-failed": ("closed", Disposition.REJECTED, "TLS handshake failed"),
        "closed": ("reset" if far.cut else "closed", Disposition.REJECTED, "connection closed"),
        "silent": ("timeout", Disposition.DELIVERED, "no answer"),
    }[far.kind]
    if far.kind == "response" and not far.reached_app:
        disposition = Disposition.ANSWERED
    return MeshOutcome(
        ending=ending,  # type: ignore[arg-type]
        status=far.status,
        body=far.body,
        server_log=far.log,
        mtls=far.mtls,
        server=far.server,
        disposition=disposition,
        reason=reason or (far.log.details or "" if far.log else ""),
    )
