"""One difference between what the objects imply for a proxy and what it runs."""

from __future__ import annotations

from typing import Literal

import msgspec

from deadhop.hops.mesh.decode import Meta
from deadhop.hops.mesh.mesh import Mesh
from deadhop.model.observed.proxy import ProxyResource

Aspect = Literal[
    "cluster", "endpoints", "tls", "virtual host", "route", "outbound policy", "inbound", "listener"
]
#: Which patches of an EnvoyFilter reach each aspect (``applyTo`` of its configPatches).
PATCHES: dict[str, frozenset[str]] = {
    "cluster": frozenset(("CLUSTER",)),
    "endpoints": frozenset(("CLUSTER",)),
    "tls": frozenset(("CLUSTER",)),
    "virtual host": frozenset(("ROUTE_CONFIGURATION", "VIRTUAL_HOST")),
    "route": frozenset(("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE")),
    "outbound policy": frozenset(("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE", "LISTENER", "FILTER_CHAIN")),
    "listener": frozenset(("LISTENER", "FILTER_CHAIN")),
    "inbound": frozenset(("LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "LISTENER_FILTER")),
}  # fmt: skip


def scoped_out(mesh: Mesh) -> tuple[str, ...]:
    """What might hide a service of which a proxy has nothing: a Sidecar that nobody collected, ``discoverySelectors``."""
    unseen = () if mesh.of_kind("Sidecar") else ("Sidecar",)
    return (*unseen, *(("discoverySelectors",) if mesh.config.discovery_selectors else ()))


class Difference(msgspec.Struct, frozen=True):
    """``objects`` say one thing of ``subject``, the proxy runs another.

    ``by`` are the objects that imply it, ``resources`` the proxy's own that show it (none where it has none).
    ``presumes`` are kinds of which an object that was not collected would explain it: ``Sidecar``, ``VirtualService``.
    ``host`` and ``port`` are what to call to meet it.
    """

    aspect: Aspect
    subject: str
    objects: str
    runs: str
    by: tuple[Meta, ...]
    resources: tuple[ProxyResource, ...] = ()
    presumes: tuple[str, ...] = ()
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return f"{self.subject}: the objects say {self.objects}, the proxy runs {self.runs}"
