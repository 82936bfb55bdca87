"""Services and ServiceEntries as one registry, and their endpoints.

Reference: istio ``pkg/kube/conversion`` (``ConvertService``) and ``pilot/pkg/serviceregistry/serviceentry``
(``convertServices``). A Service's endpoints come from its EndpointSlices, else from its Endpoints object; only
where the evidence holds neither kind at all are they worked out from the pods that the selector matches.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from deadhop.hops.mesh.decode import Meta, Network
from deadhop.hops.mesh.protocol import Protocol


class Resolution(StrEnum):
    """How a proxy finds the hosts of a service's cluster (``model.Resolution``)."""

    CLIENT_SIDE_LB = "EDS"
    PASSTHROUGH = "ORIGINAL_DST"
    DNS = "STRICT_DNS"
    DNS_ROUND_ROBIN = "LOGICAL_DNS"
    ALIAS = "ALIAS"


class ServicePort(msgspec.Struct, frozen=True):
    """A port of a service. ``target`` is a number, a container port's name, or empty for the port itself."""

    name: str
    number: int
    protocol: Protocol
    target: int | str
    node_port: int | None = None


class Endpoint(msgspec.Struct, frozen=True):
    """One member of a service: an address with its port per service port name. ``pod`` is ``namespace/name`` or empty."""

    address: str
    ports: Mapping[str, int]
    ready: bool
    pod: str
    labels: Mapping[str, str]

    def port_for(self, port: ServicePort) -> int | None:
        """The target port; slices with one unnamed port serve any."""
        found = self.ports.get(port.name)
        if found is None and len(self.ports) == 1 and "" in self.ports:
            return self.ports[""]
        return found


class MeshService(msgspec.Struct, frozen=True):
    """A host that clients may call: a Kubernetes Service or one host of a ServiceEntry."""

    meta: Meta
    host: str
    vips: tuple[str, ...]
    ports: tuple[ServicePort, ...]
    resolution: Resolution
    kubernetes: bool
    external: bool
    selector: Mapping[str, str]
    endpoints: tuple[Endpoint, ...]
    export_to: frozenset[str]
    external_name: str = ""
    blocks: tuple[Network, ...] = ()
    sans: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    kind: str = "ClusterIP"
    external_addresses: tuple[str, ...] = ()

    @property
    def headless(self) -> bool:
        return self.kubernetes and self.resolution is Resolution.PASSTHROUGH

    @property
    def namespace(self) -> str:
        return self.meta.namespace

    def port(self, number: int) -> ServicePort | None:
        """The port of that number, None where the service does not have it."""
        return next((p for p in self.ports if p.number == number), None)

    def ready_endpoints(self, port: ServicePort) -> list[tuple[Endpoint, int]]:
        """The endpoints that serve a port, with the target port."""
        return [(e, n) for e in self.endpoints if e.ready and (n := e.port_for(port)) is not None]

    def visible_from(self, namespace: str) -> bool:
        """Does ``exportTo`` show this host to a namespace?"""
        exported = self.export_to
        if "~" in exported:
            return False
        return "*" in exported or namespace in exported or ("." in exported and namespace == self.namespace)
