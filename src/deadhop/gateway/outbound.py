"""The head that goes to the upstream, and the one that comes back to the client: pure functions over header fields.

A gateway is an origin server to its client and a user agent to its upstream (RFC 9110 §3.7): Host is the upstream's
own unless the route preserves it, connection-level fields end here (§7.6.1), and who asked, under which name, is told in
X-Forwarded-* and Forwarded (RFC 7239).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from deadhop.gateway.inbound import Head

Fields = list[tuple[bytes, bytes]]

#: RFC 9110 §7.6.1 names the first five; the rest are of RFC 2616 §13.5.1 and of HTTP/2 upgrades (RFC 7540 §3.2.1).
HOP_BY_HOP = frozenset(
    b"connection proxy-connection keep-alive te transfer-encoding upgrade"
    b" trailer trailers proxy-authenticate proxy-authorization http2-settings".split()
)
#: What a client may say only if it is a trusted proxy; from anyone else it is dropped.
FORWARDED = frozenset(
    b"forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port x-forwarded-prefix"
    b" x-forwarded-server x-real-ip x-original-url x-rewrite-url x-original-host x-host x-forwarded-client-cert"
    b" x-request-id".split()
)


class Sender(NamedTuple):
    """Who sent a request: the peer's address, whether it is a trusted proxy, over which scheme, to which port."""

    address: str
    trusted: bool
    scheme: str
    port: int


class Rules(NamedTuple):
    """A route's header rules, compiled. ``managed``: names (lower case, ``_`` as ``-``) a client must not supply."""

    authority: bytes
    preserve: bool
    managed: frozenset[bytes]
    fixed: tuple[tuple[bytes, bytes], ...]
    identity: tuple[tuple[bytes, str], ...]
    secret: frozenset[bytes]


def nominated(fields: Fields) -> set[bytes]:
    """The field names that Connection lists."""
    names: set[bytes] = set()
    for name, value in fields:
        if name == b"connection":
            names.update(part.strip().lower() for part in value.split(b","))
    return names


def request_fields(
    head: Head,
    rules: Rules,
    sender: Sender,
    *,
    via: bytes,
    request_id: bytes,
    who: Iterable[tuple[bytes, bytes]] = (),
    cookie: str = "",
    drop: frozenset[bytes] = frozenset(),
) -> Fields:
    """The outgoing fields, framing included. ``who``: identity fields; ``cookie``: the name of the gateway's own, which
    stays here; ``drop``: more names that stay here (a token that was meant for the gateway)."""
    out: Fields = [(b"Host", head.authority if rules.preserve and head.authority else rules.authority)]
    gone = nominated(head.fields)
    told: dict[bytes, list[bytes]] = {}
    vias: list[bytes] = []
    for name, value in head.fields:
        if name in FORWARDED:
            if sender.trusted:
                told.setdefault(name, []).append(value)
            continue
        if name in HOP_BY_HOP or name in gone or name in (b"host", b"content-length") or name in drop:
            continue
        # CGI and WSGI read X_User and X-User as one: what is managed is managed in both spellings.
        plain = name.replace(b"_", b"-")
        if plain in rules.managed or (plain is not name and plain in FORWARDED):
            continue
        if name == b"via":
            vias.append(value)
            continue
        if cookie and name == b"cookie":
            value = without_cookie(value, cookie.encode())
            if not value:
                continue
        out.append((name, value))
    if head.chunked:
        out.append((b"Transfer-Encoding", b"chunked"))
    elif head.length is not None:
        out.append((b"Content-Length", str(head.length).encode()))
    if head.upgrade:
        out += [(b"Connection", b"Upgrade"), (b"Upgrade", head.upgrade)]
    out.append((b"Via", b", ".join([*vias, via])))
    out += forwarded(head, sender, told)
    out.append((b"X-Request-Id", told.get(b"x-request-id", [request_id])[0]))
    out += rules.fixed
    out += who
    return out


def forwarded(head: Head, sender: Sender, told: dict[bytes, list[bytes]]) -> Fields:
    """X-Forwarded-* and Forwarded: appended to what a trusted proxy said, else begun anew."""
    peer = sender.address.encode()
    scheme = sender.scheme.encode()
    node = b'"[' + peer + b']"' if b":" in peer else peer
    named = b';host="' + head.authority + b'"' if head.authority else b""  # HTTP/1.0 may have none
    element = b"for=" + node + named + b";proto=" + scheme
    out: Fields = [
        (b"X-Forwarded-For", b", ".join([*told.get(b"x-forwarded-for", ()), peer])),
        (b"X-Forwarded-Proto", told.get(b"x-forwarded-proto", [scheme])[0]),
        (b"X-Forwarded-Port", told.get(b"x-forwarded-port", [str(sender.port).encode()])[0]),
        (b"Forwarded", b", ".join([*told.get(b"forwarded", ()), element])),
    ]
    if host := told.get(b"x-forwarded-host", [head.authority])[0]:
        out.append((b"X-Forwarded-Host", host))
    out += [
        (name, value)
        for name in (b"x-forwarded-prefix", b"x-real-ip", b"x-forwarded-client-cert")
        for value in told.get(name, ())
    ]
    return out


def response_fields(fields: Fields, upgrade: bool) -> Fields:
    """What of the upstream's fields goes to the client; framing and connection are written by the caller."""
    gone = nominated(fields)
    kept = {b"upgrade"} if upgrade else set()
    return [
        (name, value)
        for name, value in fields
        if name in kept or (name not in HOP_BY_HOP and name not in gone and name != b"content-length")
    ]


def without_cookie(value: bytes, name: bytes) -> bytes:
    """A Cookie field without the cookies whose name begins with ``name``."""
    kept = [p.strip() for p in value.split(b";")]
    return b"; ".join(p for p in kept if p and not p.partition(b"=")[0].strip().startswith(name))


def written(first: bytes, fields: Fields) -> bytes:
    """Start line and fields as they go on the wire."""
    return first + b"\r\n" + b"".join([n + b": " + v + b"\r\n" for n, v in fields]) + b"\r\n"
