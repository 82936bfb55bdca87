"""Services as several outputs together show them: a table has the cluster address, a jsonpath the target port."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import NamedTuple

import msgspec

from deadhop.model.observed.kube import Service, ServicePort, mappings
from deadhop.model.observed.node import Frontend
from deadhop.model.record import Record
from deadhop.snapshot.firewall import Row

#: kube-apiserver --service-node-port-range begins here by default.
NODE_PORTS = 30000


class Seen(NamedTuple):
    """A Service put together, and the records that it was put together from."""

    service: Service
    records: tuple[Service, ...]


def together(services: Iterable[Service]) -> list[Seen]:
    """Services with the parts that their records hold; records of one name belong together, unless their namespaces or ports differ."""
    found: list[list[Service]] = []
    for service in services:
        for group in found:
            if service.name and all(_alike(service, other) for other in group):
                group.append(service)
                break
        else:
            found.append([service])
    return [Seen(_merged(group), tuple(group)) for group in found]


def served(address: str, frontends: Iterable[Frontend], rows: Iterable[Row]) -> list[tuple[int, Record]]:
    """The ports for which a node's proxy (IPVS, eBPF, kube-proxy's chains) holds a Service's address, each with what
    shows it. Empty where it shows node ports only: such an address is a node's and has other listeners."""
    held: list[tuple[int, Record]] = [(f.port, f) for f in frontends if f.address == address]
    held += [
        (int(r.dport), r.record)
        for r in rows
        if r.chain == "KUBE-SERVICES" and r.dport.isdigit() and r.dst.partition("/")[0] == address
    ]
    return held if any(number < NODE_PORTS for number, _record in held) else []


def _alike(one: Service, other: Service) -> bool:
    def differ(a: object, b: object) -> bool:
        return bool(a) and bool(b) and a != b

    if (
        one.name != other.name
        or differ(one.namespace, other.namespace)
        or differ(one.cluster_ip, other.cluster_ip)
    ):
        return False
    return not any(
        p and q and (differ(p.port, q.port) or differ(p.target, q.target))
        for p, q in zip_longest(_listed(one), _listed(other))
    )


def _listed(service: Service) -> tuple[ServicePort, ...]:
    """Its ports; where only other fields of them were printed, these, with port 0 for "not said"."""
    return service.ports or tuple(
        ServicePort(
            port=0,
            name=str(p.get("name") or ""),
            target=target,
            node_port=node if isinstance(node, int) else None,
        )
        for p in mappings(service.spec, "ports")
        for target, node in [(p.get("targetPort"), p.get("nodePort"))]
        if isinstance(target, (int, str)) or isinstance(node, int)
    )


def _merged(group: list[Service]) -> Service:
    first = group[0]
    for other in group[1:]:
        spec = {**other.spec, **first.spec}
        first = msgspec.structs.replace(
            first,
            namespace=first.namespace or other.namespace,
            cluster_ip=first.cluster_ip or other.cluster_ip,
            type=first.type or other.type,
            external=first.external or other.external,
            selector=first.selector if first.selector is not None else other.selector,
            ports=tuple(p for p in _ports(_listed(first), _listed(other)) if p.port),
            raw={**other.raw, **first.raw, **({"spec": spec} if spec else {})},
        )
    return first


def _ports(ours: tuple[ServicePort, ...], theirs: tuple[ServicePort, ...]) -> tuple[ServicePort, ...]:
    return tuple(
        msgspec.structs.replace(
            a,
            port=a.port or b.port,
            name=a.name or b.name,
            target=a.target if a.target is not None else b.target,
            node_port=a.node_port or b.node_port,
            app_protocol=a.app_protocol or b.app_protocol,
        )
        if a and b
        else (a or b)
        for a, b in zip_longest(ours, theirs)
    )
