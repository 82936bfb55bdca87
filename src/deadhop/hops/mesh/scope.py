"""Which services a proxy knows: Sidecar objects and exportTo.

A Sidecar with a workloadSelector in the pod's namespace, else the namespace's own, else the root namespace's,
else everything that is exported. Reference: istio ``pilot/pkg/model/sidecar.go`` (``getSidecarScope``,
``ConvertToSidecarScope``) and ``pilot/pkg/model/push_context.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from deadhop.hops.mesh.decode import (
    Meta,
    dig,
    labels,
    meta_of,
    port_number,
    rows,
    selector_matches,
    strings,
    table,
    text,
)
from deadhop.hops.mesh.hosts import covers, overlaps
from deadhop.hops.mesh.protocol import Protocol, parse
from deadhop.hops.service.registry import MeshService


class EgressListener(msgspec.Struct, frozen=True):
    """``egress[]``: the imported ``namespace/host`` patterns and the excluded ones; ``port`` None is catch-all."""

    port: int | None
    hosts: tuple[tuple[str, str], ...]
    excluded: tuple[tuple[str, str], ...] = ()

    def imports(self, namespace: str, host: str, own: str) -> bool:
        """Is a host of that namespace imported?"""
        return any(_in(p, namespace, host, own) for p in self.hosts) and not any(
            _in(p, namespace, host, own) for p in self.excluded
        )


class IngressListener(msgspec.Struct, frozen=True):
    """``ingress[]``: a port the sidecar listens on, its protocol, and where it forwards to."""

    port: int
    protocol: Protocol
    endpoint: str


class Sidecar(msgspec.Struct, frozen=True):
    """One Sidecar object."""

    meta: Meta
    selector: Mapping[str, str]
    egress: tuple[EgressListener, ...]
    ingress: tuple[IngressListener, ...]
    outbound_mode: str


class Scope(msgspec.Struct, frozen=True):
    """What one proxy sees. ``key`` tells scopes apart in caches."""

    namespace: str
    sidecar: Sidecar | None
    outbound_mode: str
    listeners: tuple[EgressListener, ...]

    @property
    def key(self) -> str:
        return f"{self.namespace}|{self.sidecar.meta.key if self.sidecar else '*'}"

    def listener_for(self, port: int) -> EgressListener:
        """The egress listener that serves a port: one with that port, else the first without a port."""
        catch_all = None
        for listener in self.listeners:
            if listener.port == port:
                return listener
            if listener.port is None and catch_all is None:
                catch_all = listener
        return catch_all or EgressListener(None, ())

    def sees(self, service: MeshService, port: int | None = None) -> bool:
        """Does this proxy know the service, on that port if one is given?"""
        if not service.visible_from(self.namespace):
            return False
        if self.sidecar is None:
            return True
        wanted = self.listeners if port is None else (self.listener_for(port),)
        return any(w.imports(service.namespace, service.host, self.namespace) for w in wanted)

    def imports_config(self, namespace: str, hosts: Iterable[str], port: int) -> bool:
        """Is a VirtualService with these hosts imported on that port?"""
        if self.sidecar is None:
            return True
        listener = self.listener_for(port)
        return any(
            ns in ("*", namespace) or (ns == "." and namespace == self.namespace)
            for ns, pattern in listener.hosts
            for h in hosts
            if overlaps(pattern, h)
        )


EVERYTHING = (EgressListener(None, (("*", "*"),)),)


def _in(pattern: tuple[str, str], namespace: str, host: str, own: str) -> bool:
    ns, name = pattern
    return (ns == "*" or ns == namespace or (ns == "." and namespace == own)) and covers(name, host)


def compile_sidecar(doc: Mapping[str, Any]) -> Sidecar:
    """A Sidecar document."""
    spec = table(doc.get("spec"))
    egress = []
    for item in rows(spec.get("egress")):
        hosts: list[tuple[str, str]] = []
        excluded: list[tuple[str, str]] = []
        for entry in strings(item.get("hosts")):
            negative = entry.startswith("~") and not entry.startswith("~/")
            ns, slash, name = entry.removeprefix("~").rpartition("/") if negative else entry.rpartition("/")
            if not slash:
                continue
            if not negative and ns == "~":
                continue
            (excluded if negative else hosts).append((ns, name.lower()))
        egress.append(EgressListener(port_number(dig(item, "port", "number")), tuple(hosts), tuple(excluded)))
    ingress = tuple(
        IngressListener(number, parse(text(dig(i, "port", "protocol"))), text(i.get("defaultEndpoint")))
        for i in rows(spec.get("ingress"))
        if (number := port_number(dig(i, "port", "number"))) is not None
    )
    policy = spec.get("outboundTrafficPolicy")
    # The enum's zero value is REGISTRY_ONLY, so a policy without a mode says that.
    mode = text(dig(policy, "mode")) or "REGISTRY_ONLY" if isinstance(policy, Mapping) else ""
    return Sidecar(
        meta_of(doc),
        labels(dig(spec, "workloadSelector", "labels")),
        tuple(egress) or EVERYTHING,
        ingress,
        mode,
    )


class Sidecars:
    """All Sidecar objects, ready to ask."""

    def __init__(self, sidecars: Iterable[Sidecar], root_namespace: str) -> None:
        self.root = root_namespace
        self.selecting: dict[str, list[Sidecar]] = {}
        self.wide: dict[str, Sidecar] = {}
        for sidecar in sorted(sidecars, key=lambda s: s.meta.order):
            if sidecar.selector:
                self.selecting.setdefault(sidecar.meta.namespace, []).append(sidecar)
            else:
                self.wide.setdefault(sidecar.meta.namespace, sidecar)

    def of(self, namespace: str, pod_labels: Mapping[str, str]) -> Sidecar | None:
        """The Sidecar object that configures a workload."""
        for sidecar in self.selecting.get(namespace, ()):
            if selector_matches(sidecar.selector, pod_labels):
                return sidecar
        return self.wide.get(namespace) or self.wide.get(self.root)

    def scope(self, namespace: str, pod_labels: Mapping[str, str], mesh_mode: str) -> Scope:
        """What a workload's proxy sees."""
        sidecar = self.of(namespace, pod_labels)
        if sidecar is None:
            return Scope(namespace, None, mesh_mode, EVERYTHING)
        return Scope(namespace, sidecar, sidecar.outbound_mode or mesh_mode, sidecar.egress)
