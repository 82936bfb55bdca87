"""Which protocol istiod takes a Service port to speak.

``appProtocol`` decides before the name; a name counts up to its first hyphen, without case. Reference: istio
``pkg/config/kube/conversion.go`` (``ConvertProtocol``) and ``pkg/config/protocol/instance.go``.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Family(StrEnum):
    """How a listener treats a port: HTTP routing, plain TCP, sniffed at run time, or not proxied at all."""

    HTTP = "http"
    TCP = "tcp"
    AUTO = "auto"
    UDP = "udp"


class Protocol(msgspec.Struct, frozen=True):
    """A declared protocol (``auto`` where none is known) and its family."""

    name: str
    family: Family

    @property
    def http2(self) -> bool:
        """Is the upstream spoken to in HTTP/2? (``Instance.IsHTTP2``)"""
        return self.name in ("http2", "grpc", "grpc-web")


HTTP_FAMILY = ("http", "http2", "http_proxy", "grpc", "grpc-web")
TCP_FAMILY = ("tcp", "https", "tls", "mongo", "mysql", "redis", "hbone")
SERVER_FIRST_PORTS = frozenset((25, 53, 3306, 27017))
"""Well-known ports of protocols in which the server speaks first: never sniffed."""

KUBERNETES_NAMES = {"kubernetes.io/h2c": "http2", "kubernetes.io/ws": "http", "kubernetes.io/wss": "https"}

AUTO = Protocol("auto", Family.AUTO)
UDP = Protocol("udp", Family.UDP)
_KNOWN: dict[str, Protocol] = {
    "udp": UDP,
    **{n: Protocol(n, Family.HTTP) for n in HTTP_FAMILY},
    **{n: Protocol(n, Family.TCP) for n in TCP_FAMILY},
}


def parse(name: str) -> Protocol:
    """A protocol by its own name, as in ServiceEntry ports; ``auto`` where it is unknown."""
    return _KNOWN.get(name.lower(), AUTO)


def select(name: str | None, app_protocol: str | None, port: int, l4: str = "TCP") -> Protocol:
    """The protocol of a Service port from its name, ``appProtocol``, number and transport."""
    if l4 == "UDP":
        return UDP
    word = name or ""
    if app_protocol is not None:
        word = KUBERNETES_NAMES.get(app_protocol, app_protocol)
    word = word.lower()
    if word.startswith("grpc-web"):
        return _KNOWN["grpc-web"]
    found = _KNOWN.get(word.split("-", 1)[0], AUTO)
    if found is AUTO and port in SERVER_FIRST_PORTS:
        return _KNOWN["tcp"]
    return found
