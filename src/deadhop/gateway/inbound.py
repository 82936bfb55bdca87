"""What a request's head must be before anything is done with it.

llhttp refuses most of what is malformed; what it lets through, and what no parser can know, is refused here: the
authority (RFC 9112 §3.2), transfer codings other than ``chunked`` alone (§6.1), versions, methods of tunnels.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

#: reg-name, IPv4 or bracketed IPv6, with an optional port (RFC 3986 §3.2.2), as host names are really written.
_AUTHORITY = re.compile(rb"^(?P<host>[A-Za-z0-9_~.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>\d{1,5}))?$")
_ABSOLUTE = re.compile(rb"^(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<rest>.*)$")
#: Methods that a gateway cannot serve: CONNECT asks for a tunnel, TRACE shows a request's secrets to a script.
REFUSED_METHODS = frozenset({b"CONNECT", b"TRACE", b"TRACK"})


class Refused(Exception):
    """A request that gets no further. ``status`` is the answer, ``reason`` a word for the log and the metrics."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Head(NamedTuple):
    """A checked head. ``target`` is in origin form; ``host`` is lower case without port; ``authority`` as it came."""

    method: bytes
    target: bytes
    host: str
    authority: bytes
    fields: list[tuple[bytes, bytes]]
    version: str
    chunked: bool
    length: int | None
    upgrade: bytes


def check(
    method: bytes, target: bytes, version: str, fields: list[tuple[bytes, bytes]], upgrades: bool
) -> Head:
    """The checked head; ``fields`` have lower-case names. Raises :class:`Refused`."""
    if version not in ("1.0", "1.1"):
        raise Refused(505, "version")
    if method in REFUSED_METHODS:
        raise Refused(405, "method")
    hosts, codings, lengths, upgrade = [], [], [], b""
    for name, value in fields:
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
        elif name == b"content-length":
            lengths.append(value)
        elif name == b"upgrade":
            upgrade = value
    if len(hosts) > 1:
        raise Refused(400, "several-hosts")
    if not hosts and version == "1.1":
        raise Refused(400, "no-host")
    # A client that speaks chunked under 1.0, or any coding before chunked, is one whose body two servers would cut
    # differently (RFC 9112 §6.1).
    if codings and (len(codings) > 1 or codings[0].lower() != b"chunked" or lengths):
        raise Refused(501 if len(codings) == 1 and not lengths else 400, "transfer-coding")
    if codings and version == "1.0":
        raise Refused(400, "transfer-coding")
    if len(lengths) > 1 or (lengths and not lengths[0].isdigit()):
        raise Refused(400, "content-length")
    authority = hosts[0] if hosts else b""
    target, authority = _origin_form(target, authority)
    return Head(
        method=method,
        target=target,
        host=_host(authority) if authority else "",
        authority=authority,
        fields=fields,
        version=version,
        chunked=bool(codings),
        length=int(lengths[0]) if lengths else None,
        upgrade=upgrade if upgrades else b"",
    )


def _origin_form(target: bytes, authority: bytes) -> tuple[bytes, bytes]:
    """Absolute form becomes origin form. RFC 9112 §3.2.2 lets its authority win over Host; two that differ are an
    attempt to be routed by one and served by the other, and are refused."""
    if target.startswith(b"/"):
        return target, authority
    found = _ABSOLUTE.match(target)
    if not found:
        raise Refused(400, "target-form")
    if found["scheme"].lower() not in (b"http", b"https"):
        raise Refused(400, "target-scheme")
    named = found["authority"]
    if authority and named.lower() != authority.lower():
        raise Refused(400, "authority-confusion")
    rest = found["rest"].partition(b"#")[0]
    return (rest if rest.startswith(b"/") else b"/" + rest), named


def _host(authority: bytes) -> str:
    found = _AUTHORITY.match(authority)
    if not found or (found["port"] and int(found["port"]) > 65535):
        raise Refused(400, "bad-host")
    host = found["host"].decode("ascii").lower()
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise Refused(400, "bad-host") from None
    return host.rstrip(".") or host
