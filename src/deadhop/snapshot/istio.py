"""Istio objects read as tables: destinations of routes, subsets of rules, parts of a cluster's name, declared protocols."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from deadhop.model.observed.kube import DestinationRule, ServicePort, VirtualService, mapping, mappings

#: Protocols that make an HTTP listener (istio pkg/config/protocol/instance.go).
HTTP_PROTOCOLS = frozenset({"http", "http2", "grpc", "grpc-web", "http_proxy"})
_TCP_PROTOCOLS = frozenset({"tcp", "tls", "https", "mongo", "mysql", "redis", "udp"})


class Destination(NamedTuple):
    """Where a route of a VirtualService leads."""

    host: str
    subset: str
    port: int | None


class ClusterName(NamedTuple):
    """The parts of ``outbound|80|v1|shop.default.svc.cluster.local``."""

    direction: str
    port: int | None
    subset: str
    host: str


def destinations(service: VirtualService) -> Iterator[Destination]:
    """Every destination of every route."""
    for kind in ("http", "tcp", "tls"):
        for rule in mappings(service.spec, kind):
            for leg in [*mappings(rule, "route"), {"destination": rule.get("mirror")}]:
                told = mapping(leg, "destination")
                if told.get("host"):
                    number: Any = mapping(told, "port").get("number")
                    yield Destination(str(told["host"]), str(told.get("subset") or ""), number if isinstance(number, int) else None)  # fmt: skip


def subsets(rule: DestinationRule) -> dict[str, dict[str, str]]:
    """The subsets of a rule by name, each with its labels."""
    return {
        str(s.get("name", "")): {str(k): str(v) for k, v in mapping(s, "labels").items()}
        for s in mappings(rule.spec, "subsets")
    }


def cluster_parts(name: str) -> ClusterName | None:
    """The parts of an Istio cluster name, or None for any other name."""
    parts = name.split("|")
    if len(parts) != 4 or parts[0] not in ("outbound", "inbound"):
        return None
    return ClusterName(parts[0], int(parts[1]) if parts[1].isdigit() else None, parts[2], parts[3])


def protocol_of(port: ServicePort) -> str:
    """The protocol that a Service port declares, empty where it declares none (appProtocol, else the name's prefix)."""
    told = (port.app_protocol or "").lower()
    if told:
        return {"kubernetes.io/h2c": "http2", "kubernetes.io/ws": "http", "kubernetes.io/wss": "https"}.get(
            told, told
        )
    name = port.name.lower()
    if name.startswith("grpc-web"):
        return "grpc-web"
    prefix = re.split("-", name, maxsplit=1)[0]
    return prefix if prefix in HTTP_PROTOCOLS | _TCP_PROTOCOLS else ""
