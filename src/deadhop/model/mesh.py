"""The vocabulary of a request through a mesh: what is asked, what is known of the far end, what comes back."""

from __future__ import annotations

from typing import Literal

import msgspec

from deadhop.model.trace import Disposition, Step

FACTS = (
    "connect_refused",
    "connect_dropped",
    "not_listening",
    "closes_without_response",
    "server_first_binary",
    "never_answers",
    "http1_only",
    "tls_hello_gets_plaintext_error",
    "tls_hello_gets_silence",
    "certificate_other_root",
    "requests_in_flight",
    "client_sends_partial_client_hello",
)
"""What may be known about an application, a sidecar or the path to it, beyond the objects."""


class AppFact(msgspec.Struct, frozen=True):
    """One known behaviour. ``where`` is ``ip:port``, a pod (``namespace/name``) or ``sidecar namespace/name``."""

    where: str
    what: str
    count: int = 0

    def __post_init__(self) -> None:
        if self.what not in FACTS:
            raise ValueError(f"unknown behaviour {self.what!r}")


class MeshRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One connection with one request of an application, after DNS.

    ``client`` is ``namespace/pod``, or an IP address for a caller that is no pod. ``host`` is the Host header's
    value: ``""`` is a header without value, None no header. With scheme ``https`` TLS bytes are written and
    only ``dst_ip`` and ``dst_port`` (and ``sni``) count.
    """

    client: str
    dst_ip: str
    dst_port: int
    host: str | None = None
    scheme: str = "http"
    http_version: str = "1.1"
    method: str = "GET"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    sni: str = ""


Ending = Literal["response", "reset", "closed", "timeout", "unknown"]


class LogLine(msgspec.Struct, frozen=True):
    """What one sidecar's access log says. ``details`` and the rest are None where the log prints ``-``."""

    flags: frozenset[str]
    details: str | None = None
    cluster: str | None = None
    route: str | None = None


class MeshOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a request ended, as both sidecars and the application saw it.

    ``client_log`` is None without a client sidecar, ``server_log`` where the server's side logs no line.
    ``mtls``: True over mesh mutual TLS, False without it, None where no request bytes were delivered. ``body``
    is the exact text where a proxy made it, None where the application did. ``unknown`` names what the objects
    do not say; where it is not empty the outcome is the likeliest one, or ``ending`` is ``unknown``.
    """

    ending: Ending
    status: int | None = None
    body: str | None = None
    client_log: LogLine | None = None
    server_log: LogLine | None = None
    mtls: bool | None = None
    server: str = ""
    attempts: int = 1
    disposition: Disposition = Disposition.UNKNOWN
    reason: str = ""
    steps: tuple[Step, ...] = ()
    unknown: tuple[str, ...] = ()
    envoy: str = ""
