"""One route of a proxy's configuration, whoever reads it."""

from __future__ import annotations

import msgspec

#: Stands for the name that a client uses where a route takes any.
ANY_CLIENT = "www.example.com"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One route. ``host`` is the value that goes out, ``forwarded`` whether it is the client's; ``to`` the URL dialled;
    ``endpoints``: the proxy dials the Service's pods itself; ``dialled``: Host is the address that is dialled; ``fix`` is how
    Host becomes the upstream's, and the Service the one that is dialled unless ``pods_stay``."""

    source: str
    kind: str
    route: str
    to: str
    host: str
    forwarded: bool
    http_version: str = "1.1"
    endpoints: bool = False
    dialled: bool = False
    pods_stay: bool = False
    namespace: str = ""
    fix: str = ""


def client_name(host: str) -> str:
    """A name that a client of the route would use."""
    if host in ("", "*", "_"):
        return ANY_CLIENT
    return f"any{host[1:]}" if host.startswith("*.") else host
