"""The server's side of a connection: capture, then the sidecar or the application itself.

What comes back is a :class:`FarEnd`: what the sender at the other end of the connection meets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from deadhop.hops.mesh.context import Context
from deadhop.hops.mesh.hosts import literal
from deadhop.hops.mesh.replies import WRONG_VERSION, tls_cause
from deadhop.hops.mesh.workload import Workload
from deadhop.model.mesh import LogLine

Payload = Literal["http/1.1", "http/1.0", "http/2", "tls", "partial-tls"]


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """A connection as it arrives: ``tls`` as in :class:`~deadhop.hops.mesh.clusters.Host`, ``payload`` inside it.

    ``http``: an Envoy HTTP connection manager sent it, so mesh TLS carries an ``istio-http`` ALPN. ``sans``:
    the server names the sender accepts.
    """

    source: Workload | None
    source_ip: str
    tls: str
    payload: Payload
    http: bool
    sans: tuple[str, ...] = ()
    host: str | None = None
    method: str = "GET"
    path: str = "/"
    headers: Mapping[str, str] = {}
    sni: str = ""


class FarEnd(msgspec.Struct, frozen=True, kw_only=True):
    """What the sender meets.

    ``kind``: ``response``; ``refused`` and ``dropped`` (no TCP connection); ``tls-failed`` (``cause`` says why);
    ``closed`` before an answer (``cut``: by a reset; ``after`` seconds); ``protocol-error``; ``silent``; ``greeting`` (bytes that
    are no HTTP answer).
    """

    kind: Literal[
        "response", "refused", "dropped", "tls-failed", "closed", "protocol-error", "silent", "greeting"
    ]
    status: int | None = None
    body: str | None = None
    cause: str = ""
    cut: bool = False
    after: float = 0.0
    log: LogLine | None = None
    mtls: bool | None = None
    server: str = ""
    reached_app: bool = False


def over(arrival: Arrival) -> bool:
    """Did the request travel in mesh mutual TLS, provided that it was delivered?"""
    return arrival.tls == "istio"


def places(ip: str, port: int, pod: Workload | None) -> tuple[str, ...]:
    """The names under which facts about an endpoint may stand."""
    return (f"{ip}:{port}", f"{literal(ip)}:{port}", *((pod.key,) if pod else ()))


def reach(ctx: Context, ip: str, port: int) -> FarEnd | None:
    """Can a TCP connection to ``ip:port`` be made? None where nothing is known against it."""
    where = places(ip, port, None)
    if ctx.fact("connect_refused", *where):
        ctx.say("network", f"{ip}:{port} refuses the connection", False)
        return FarEnd(kind="refused")
    if ctx.fact("connect_dropped", *where):
        ctx.say("network", f"packets to {ip}:{port} are dropped", False)
        return FarEnd(kind="dropped")
    return None


def application(ctx: Context, arrival: Arrival, pod: Workload | None, ip: str, port: int) -> FarEnd:
    """Bytes reach the application without a sidecar before it (or after the sidecar has taken its part)."""
    where = places(ip, port, pod)
    server = pod.key if pod else ""
    name = f"application {server or ip}:{port}"
    mtls = over(arrival) if arrival.tls == "none" else None
    if ctx.fact("not_listening", *where):
        ctx.say(name, "nothing listens on that port, the kernel refuses", False)
        return FarEnd(kind="refused", server=server)
    if pod is not None and pod.ports and not ctx.facts and port not in {n for _, n in pod.ports}:
        ctx.lacks(f"whether a container of {pod.key} listens on {port}, which none declares")
        ctx.say(name, "no container declares that port", None)
        return FarEnd(kind="refused", server=server)
    if arrival.tls != "none" or arrival.payload in ("tls", "partial-tls"):
        return _tls_at_application(ctx, arrival, where, name, server)
    if ctx.fact("closes_without_response", *where):
        ctx.say(name, "closes the connection without an answer", False)
        return FarEnd(kind="closed", mtls=mtls, server=server, reached_app=True)
    if ctx.fact("server_first_binary", *where):
        ctx.say(name, "greets with bytes that are no HTTP", False)
        return FarEnd(kind="greeting", mtls=mtls, server=server, reached_app=True)
    if ctx.fact("never_answers", *where):
        ctx.say(name, "does not answer", False)
        return FarEnd(kind="silent", mtls=mtls, server=server, reached_app=True)
    if arrival.payload == "http/2" and ctx.fact("http1_only", *where):
        ctx.say(name, "answers HTTP/2 with HTTP/1.1", False)
        return FarEnd(kind="protocol-error", mtls=mtls, server=server, reached_app=True)
    ctx.say(name, "answers")
    return FarEnd(kind="response", status=200, mtls=mtls, server=server, reached_app=True)


def _tls_at_application(
    ctx: Context, arrival: Arrival, where: tuple[str, ...], name: str, server: str
) -> FarEnd:
    """TLS bytes meet an application. Without a word about it, a plain HTTP server is taken to reject them."""
    own = arrival.tls == "none"
    mtls = False if own else None
    cause = tls_cause(ctx.version, WRONG_VERSION)
    if ctx.fact("server_first_binary", *where):
        ctx.say(name, "greets the TLS hello with bytes that are no TLS", False)
        kind: Literal["greeting", "tls-failed"] = "greeting" if own else "tls-failed"
        return FarEnd(kind=kind, cause=cause, server=server, mtls=mtls, reached_app=True)
    plain = ctx.fact("tls_hello_gets_plaintext_error", *where)
    if ctx.fact("tls_hello_gets_silence", *where) or (arrival.payload == "partial-tls" and not plain):
        ctx.say(name, "waits for more bytes of the TLS hello", False)
        if own:
            return FarEnd(kind="silent", server=server, mtls=False, reached_app=True)
        # The proxy's handshake is part of its connect: it runs into the connect timeout.
        return FarEnd(kind="dropped", server=server)
    if ctx.fact("closes_without_response", *where):
        ctx.say(name, "closes the connection upon the TLS hello", False)
        return FarEnd(kind="closed" if own else "tls-failed", server=server, mtls=mtls, reached_app=True)
    if plain is None:
        ctx.lacks(f"whether {name} speaks TLS")
        if own:
            ctx.say(name, "gets the caller's TLS bytes", None)
            return FarEnd(kind="response", status=None, server=server, mtls=False, reached_app=True)
    ctx.say(name, "answers the TLS hello in plain text", False)
    if own:
        return FarEnd(kind="response", status=400, body="", server=server, mtls=False, reached_app=True)
    return FarEnd(kind="tls-failed", cause=cause, server=server, reached_app=True)
