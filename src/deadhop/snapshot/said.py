"""What programs said: messages of the catalogue by kind, and small questions about addresses in them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from deadhop.evidence.fields import host_port
from deadhop.model.observed.message import Message

#: Shared address space (RFC 6598), which clouds give to pods as well.
_SHARED = ipaddress.ip_network("100.64.0.0/10")


def said(messages: Iterable[Message], *kinds: str, emitter: str = "") -> list[Message]:
    """The messages of these kinds, in order."""
    return [m for m in messages if m.kind in kinds and (not emitter or m.emitter == emitter)]


def private(address: str) -> bool:
    """Whether ``address`` (with or without a port) is one that clusters give to pods, Services and nodes."""
    try:
        ip = ipaddress.ip_address(host_port(address)[0])
    except ValueError:
        return False
    if any(ip in net for net in _DOCUMENTATION if net.version == ip.version):
        return False
    return ip.is_private or (ip.version == 4 and ip in _SHARED)


def public(address: str) -> bool:
    """Whether ``address`` is an outside one; documentation ranges (RFC 5737) stand for such."""
    try:
        ip = ipaddress.ip_address(host_port(address)[0])
    except ValueError:
        return False
    return not private(address) and not ip.is_loopback and not ip.is_link_local and not ip.is_unspecified


_DOCUMENTATION = tuple(
    ipaddress.ip_network(n) for n in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
)


#: Where the health checks of clouds come from: Azure's platform address, Google's checkers.
_PROBERS = tuple(
    ipaddress.ip_network(n)
    for n in ("168.63.129.16/32", "35.191.0.0/16", "130.211.0.0/22", "209.85.152.0/22", "209.85.204.0/22")
)


def prober(address: str) -> bool:
    """Whether ``address`` is one that a cloud's load balancers check health from."""
    try:
        ip = ipaddress.ip_address(host_port(address)[0])
    except ValueError:
        return False
    return any(ip in net for net in _PROBERS if net.version == ip.version)


def host_of(url: str) -> str:
    """The host of a URL or of ``host:port``, without the port."""
    rest = url.partition("://")[2] or url
    return host_port(rest.partition("/")[0].rpartition("@")[2])[0]
