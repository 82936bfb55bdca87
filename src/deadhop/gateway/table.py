"""From a request's host and path to its route. The most specific host wins, then the longest path.

A path is matched in the form that the most lenient upstream would give it: percent signs decoded, slashes merged, path
parameters (``;x``) cut. What such an upstream could read as another path (dot segments, backslashes, NUL) is refused,
so that a rule for ``/admin`` cannot be passed by another spelling of it. The path that goes out is the one that came.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from deadhop.gateway.config import Config, Route

_PLAIN = re.compile(rb"^/(?:[A-Za-z0-9_~-][A-Za-z0-9_.~-]*/?)*$")


class Ambiguous(ValueError):
    """A path that two readers would take for different ones."""


def canonical(path: bytes) -> str:
    """The path that rules are matched against, without its query. Raises :class:`Ambiguous`."""
    path = path.partition(b"?")[0]
    if _PLAIN.match(path):
        return path.decode("ascii")
    decoded = unquote_to_bytes(path)
    if b"\\" in decoded or any(c < 0x20 or c == 0x7F for c in decoded):
        raise Ambiguous("a backslash or control character in the path")
    parts = [part.partition(b";")[0] for part in decoded.split(b"/")]
    if b"." in parts or b".." in parts:
        raise Ambiguous("a dot segment in the path")
    joined = b"/" + b"/".join(p for p in parts if p) + (b"/" if decoded.endswith(b"/") else b"")
    return re.sub(b"/+", b"/", joined).decode("utf-8", "surrogateescape")


class Table:
    """The routes of a configuration, indexed by host."""

    def __init__(self, config: Config) -> None:
        self._exact: dict[str, list[Route]] = {}
        self._suffix: dict[str, list[Route]] = {}
        self._any: list[Route] = []
        for route in sorted(config.routes, key=lambda r: -len(r.path)):
            host = route.host.lower().rstrip(".")
            if host == "*":
                self._any.append(route)
            elif host.startswith("*."):
                self._suffix.setdefault(host[1:], []).append(route)
            else:
                self._exact.setdefault(host, []).append(route)

    def find(self, host: str, path: str) -> Route | None:
        """The route of a host (lower case, no port, no last dot) and a canonical path."""
        for routes in self._candidates(host):
            for route in routes:
                prefix = route.path.rstrip("/")
                if path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/"):
                    return route
        return None

    def _candidates(self, host: str) -> list[list[Route]]:
        found = [self._exact[host]] if host in self._exact else []
        at = host.find(".", 1)
        while self._suffix and at > 0:
            if (tail := host[at:]) in self._suffix:
                found.append(self._suffix[tail])
            at = host.find(".", at + 1)
        return [*found, self._any]
