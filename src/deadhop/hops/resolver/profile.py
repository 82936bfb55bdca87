"""How resolver libraries differ, as data.

Seen on the wire against a server that answers one rcode to everything: glibc 2.36 (``tests/resolver`` repeats it with
the C library at hand) and musl 1.2.3. Go from ``src/net/dnsclient_unix.go`` and ``dnsconfig_unix.go`` (1.22), c-ares from
``ares_getaddrinfo.c`` (1.27), Kong from ``lua-resty-dns-client`` 6.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Resolver = Literal["glibc", "musl", "go", "c-ares", "kong"]


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One resolver. ``types`` are asked for each name, in this order.

    ``max_servers``, ``max_search``, ``max_ndots``, ``max_attempts`` cap resolv.conf (0: no cap). ``edns_size`` is
    the UDP payload announced when the library uses EDNS of its own accord. ``tcp_on_truncation`` re-asks over TCP.
    ``tells_no_data`` tells a name without addresses from a name that does not exist.
    ``options`` are the words of resolv.conf that change what is asked and that the library reads.
    ``dns_order`` is Kong's. ``caches`` are the positive and negative cache of the runtime, in seconds.
    """

    name: str
    resolver: Resolver
    types: tuple[str, ...] = ("A", "AAAA")
    parallel_types: bool = True
    max_servers: int = 3
    max_search: int = 0
    max_ndots: int = 15
    max_attempts: int = 5
    attempts: int | None = None
    edns_size: int | None = None
    tcp_on_truncation: bool = True
    tells_no_data: bool = True
    options: frozenset[str] = frozenset({"use-vc"})
    dns_order: tuple[str, ...] = ()
    caches: tuple[int, int] = (0, 0)


GLIBC = Profile(name="glibc", resolver="glibc", options=frozenset({"use-vc", "no-aaaa"}))
"""2.26 and later (``no-aaaa`` since 2.36); ``max_search=6`` before."""

MUSL = Profile(
    name="musl",
    resolver="musl",
    max_attempts=10,
    tcp_on_truncation=False,
    tells_no_data=False,
    options=frozenset(),
)
"""Up to 1.2.3. Asks every server at once; of the options it reads ndots, timeout and attempts."""

MUSL_1_2_4 = Profile(name="musl-1.2.4", resolver="musl", max_attempts=10, options=frozenset())
"""Since 1.2.4: TCP on truncation, and an error of its own for names without addresses."""

GO = Profile(name="go", resolver="go", max_attempts=0, edns_size=1232)
"""The pure Go resolver. With cgo, Go is the C library's profile."""

C_ARES = Profile(name="c-ares", resolver="c-ares", max_servers=0, max_attempts=0, attempts=3, edns_size=1232)

JVM = Profile(name="jvm", resolver="glibc", caches=(30, 10), options=GLIBC.options)
"""``InetAddress`` asks the C library (replace ``resolver`` on musl images) and caches its answers."""

KONG = Profile(
    name="kong",
    resolver="kong",
    types=(),
    parallel_types=False,
    max_attempts=0,
    dns_order=("LAST", "SRV", "A", "CNAME"),
)
"""Kong and OpenResty's DNS client; ``KONG_DNS_ORDER`` sets ``dns_order``."""

PROFILES = {p.name: p for p in (GLIBC, MUSL, MUSL_1_2_4, GO, C_ARES, JVM, KONG)}
