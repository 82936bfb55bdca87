"""The ``connection`` flow lines of ``deadhop path``."""

from __future__ import annotations

import msgspec


class ConnectionFlow(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """One connection as an application makes it. ``from_`` is ``namespace/pod`` or an address, ``to`` a URL, a name or
    an address. ``host`` overrides the Host header; an empty string sends an empty one. ``protocol`` is ``http``,
    ``https``, ``tcp``… where ``to`` is no URL."""

    id: str = ""
    from_: str = ""
    to: str = ""
    port: int | None = None
    protocol: str | None = None
    host: str | None = None
    method: str = "GET"
    path: str | None = None
    http_version: str = "1.1"
    resolver: str | None = None
    at: str | float | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)
