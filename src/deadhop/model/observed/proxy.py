"""A proxy's own configuration, as it runs it: what ``config_dump``, ``/clusters`` and ``istioctl proxy-config -o json`` show."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from deadhop.model.record import Record

ResourceKind = Literal["listener", "route", "cluster", "endpoints", "hosts"]
ResourceState = Literal["static", "active", "warming", "draining", "rejected"]


class ProxyResource(Record, frozen=True, kw_only=True):
    """One resource. ``raw`` is the proto as JSON, its fields spelled as the source spells them.

    ``kind``: ``endpoints`` is a ClusterLoadAssignment, ``hosts`` a ClusterStatus of ``/clusters``. ``state``:
    ``warming`` does not serve yet, ``draining`` no longer, ``rejected`` is what an update would have made
    (``details`` is the proxy's reason, ``raw`` may be empty). ``version`` is the control plane's; ``time`` is when
    the proxy took (or refused) it. ``proxy`` is ``namespace/pod`` where the source says whose it is, ``reading`` the
    source of the :class:`ProxyDump` that it was read in.
    """

    proxy: str = ""
    reading: str = ""
    kind: ResourceKind
    name: str
    state: ResourceState = "active"
    version: str = ""
    details: str = ""
    raw: dict[str, Any] = msgspec.field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.proxy, self.kind, self.name, self.state, self.source))


class ProxyDump(Record, frozen=True, kw_only=True):
    """One reading of a proxy: which kinds of resources it holds all of (``whole``) and which only some of (``part``).

    ``role`` is ``sidecar``, ``router``, ``waypoint``… and ``envoy`` the release, from the bootstrap's node. ``time``
    is the newest time in it: the reading is not older than that.
    """

    proxy: str = ""
    role: str = ""
    envoy: str = ""
    whole: tuple[str, ...] = ()
    part: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        return (*self.whole, *self.part)
