"""The ``kubernetes`` plugin: services, endpoints, ports, external names, pods and reverse names.

The schema is the "Kubernetes DNS-Based Service Discovery" specification; pod records follow the plugin's ``pods`` mode.
"""

from __future__ import annotations

from ipaddress import ip_address

from deadhop.hops.dns.corefile import Directive, Zone
from deadhop.hops.dns.plugins import KubeService, Served, World, falls_through, held_by, ttl_of, zones_of
from deadhop.model.dns import RR

KUBERNETES_TTL = 5


def _service_answers(
    service: KubeService, qname: str, qtype: str, ttl: int, host: str, port: tuple[str, str] | None
) -> list[RR]:
    wanted = {"A": 4, "AAAA": 6}.get(qtype)
    if port is not None:
        if qtype != "SRV":
            return []
        target = f"{service.name}.{service.namespace}.svc." + qname.partition(".svc.")[2]
        return [
            RR(qname, ttl, "SRV", f"0 100 {number} {target}")
            for name, protocol, number in service.ports
            if port in ((f"_{name}", f"_{protocol.lower()}"), ("*", "*"))
        ]
    addresses = list(service.cluster_ips) or [a for h, a in service.endpoints if not host or h == host]
    return [RR(qname, ttl, qtype, a) for a in addresses if ip_address(a).version == wanted]


def kubernetes(
    directive: Directive, block: tuple[Zone, ...], world: World, qname: str, qtype: str
) -> Served | None:
    """``kubernetes [ZONES…]``: services, endpoints, ports, external names, pods and reverse names."""
    zone = held_by(qname, zones_of(directive, block))
    if not zone:
        return None
    if world.services is None:
        return Served(by="kubernetes", zone=zone, unknown="the cluster's services are not here")
    ttl = ttl_of(directive, KUBERNETES_TTL)
    labels = qname.removesuffix(zone).rstrip(".").split(".") if qname != zone else []
    found: list[RR] = []
    exists = not labels or labels == ["svc"] or labels == ["pod"]
    if zone.endswith(".arpa."):
        return _reverse(directive, world, zone, qname, qtype, ttl)
    if labels and labels[-1] == "svc" and len(labels) >= 2:
        names = labels[:-1]
        namespace, rest = names[-1], names[:-1]
        in_namespace = [s for s in world.services if s.namespace == namespace]
        exists = bool(in_namespace) and not rest
        for service in in_namespace:
            if not rest or rest[-1] != service.name:
                continue
            prefix = rest[:-1]
            if service.external_name:
                target = service.external_name.lower().rstrip(".") + "."
                return _external(world, qname, qtype, target, ttl, zone)
            port = (prefix[0], prefix[1]) if len(prefix) == 2 else None
            host = prefix[0] if len(prefix) == 1 else ""
            known_host = not host or host in (h for h, _ in service.endpoints)
            if len(prefix) > 2 or not known_host:
                continue
            if port and port not in ((f"_{n}", f"_{p.lower()}") for n, p, _ in service.ports):
                continue
            exists = bool(service.cluster_ips or service.endpoints)
            found += _service_answers(service, qname, qtype, ttl, host, port)
    elif labels and labels[-1] == "pod" and len(labels) == 3:
        found, exists = _pod(directive, world, qname, qtype, labels, ttl)
    if found or exists:
        return Served(rcode="NOERROR", answers=tuple(found), by="kubernetes", zone=zone, authoritative=True)
    if falls_through(directive, qname):
        return None
    return Served(rcode="NXDOMAIN", by="kubernetes", zone=zone, authoritative=True)


def _external(world: World, qname: str, qtype: str, target: str, ttl: int, zone: str) -> Served:
    chain: tuple[RR, ...] = (RR(qname, ttl, "CNAME", target),)
    if qtype != "CNAME" and world.upstream is not None:
        behind = world.upstream(target, qtype)
        chain += behind.answers if behind is not None else ()
    return Served(rcode="NOERROR", answers=chain, by="kubernetes", zone=zone, authoritative=True)


def _pod(
    directive: Directive, world: World, qname: str, qtype: str, labels: list[str], ttl: int
) -> tuple[list[RR], bool]:
    mode = (directive.option("pods") or ("disabled",))[0]
    dashed, namespace = labels[0], labels[1]
    v6 = dashed.count("-") != 3
    text = dashed.replace("-", ":" if v6 else ".")
    try:
        address = ip_address(text)
    except ValueError:
        return [], False
    known = mode == "insecure" or (mode == "verified" and (namespace, str(address)) in world.pods)
    wanted = {"A": 4, "AAAA": 6}.get(qtype)
    rrs = [RR(qname, ttl, qtype, str(address))] if known and address.version == wanted else []
    return rrs, known


def _reverse(
    directive: Directive, world: World, zone: str, qname: str, qtype: str, ttl: int
) -> Served | None:
    for service in world.services or ():
        addresses = [*((a, "") for a in service.cluster_ips), *((a, h) for h, a in service.endpoints)]
        for address, host in addresses:
            if ip_address(address).reverse_pointer + "." == qname and qtype == "PTR":
                name = f"{host + '.' if host else ''}{service.name}.{service.namespace}.svc.cluster.local."
                return Served(
                    rcode="NOERROR",
                    answers=(RR(qname, ttl, "PTR", name),),
                    by="kubernetes",
                    zone=zone,
                    authoritative=True,
                )
    if falls_through(directive, qname):
        return None
    return Served(rcode="NXDOMAIN", by="kubernetes", zone=zone, authoritative=True)
