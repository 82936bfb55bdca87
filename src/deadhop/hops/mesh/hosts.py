"""Names in the mesh: short names, wildcard matching, and the domains that istiod lists for a service.

Reference: istio ``pkg/config/host/name.go`` (``Matches``, ``SubsetOf``), ``pilot/pkg/model/virtualservice.go``
(``ResolveShortnameToFQDN``) and ``pilot/pkg/networking/core/httproute.go`` (``generateVirtualHostDomains``).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable


def fqdn(name: str, namespace: str, domain: str = "cluster.local") -> str:
    """A host as configuration means it: a name without a dot is a Service of the configuration's namespace."""
    if not name or name == "*" or "." in name:
        return name.lower()
    return f"{name}.{namespace}.svc.{domain}".lower()


def covers(pattern: str, name: str) -> bool:
    """Does ``pattern`` (``*``, ``*.x`` or a plain name) include every host that ``name`` stands for? (``SubsetOf``)"""
    if pattern == name or pattern == "*":
        return True
    if not pattern.startswith("*"):
        return False
    tail = pattern[1:]
    return (name[1:] if name.startswith("*") else name).endswith(tail) and len(name) > len(tail)


def overlaps(one: str, other: str) -> bool:
    """Is there a host that both patterns include? (``Matches``)"""
    return covers(one, other) or covers(other, one)


def specificity(pattern: str) -> tuple[bool, int]:
    """Sort key, most specific last: plain names above wildcards, longer above shorter."""
    return (not pattern.startswith("*"), len(pattern))


def literal(ip: str) -> str:
    """An address as it stands in a Host header: IPv6 in brackets."""
    return f"[{ip}]" if ":" in ip else ip


def alternate_names(host: str, client_namespace: str, domain: str) -> list[str]:
    """The shorter names under which a client in ``client_namespace`` may call ``host`` (``GenerateAltVirtualHosts``)."""
    tail = f".svc.{domain}"
    if host.startswith("*") or not host.endswith(tail):
        return []
    unique = host[: -len(tail)]
    name, _, namespace = unique.rpartition(".")
    if name and namespace == client_namespace:
        return [name, f"{unique}.svc", unique]
    return [unique, f"{unique}.svc"]


def listed_addresses(vips: Iterable[str], families: Iterable[str], dual_stack: bool = False) -> list[str]:
    """The literals among a service's addresses that a client of these IP families gets; ``0.0.0.0`` never."""
    wanted = set(families)
    out = []
    for vip in vips:
        try:
            ip = ipaddress.ip_address(vip)
        except ValueError:
            continue
        if not ip.is_unspecified and (dual_stack or f"IPv{ip.version}" in wanted):
            out.append(literal(vip))
    return out


def service_domains(
    hosts: Iterable[str],
    client_namespace: str,
    *,
    cluster_domain: str = "cluster.local",
    headless: bool = False,
    addresses: Iterable[str] = (),
    port: int | None = None,
) -> tuple[list[str], set[str]]:
    """The domain list of a service's virtual host, in generation order, and which of them are expansions.

    ``hosts`` is the service's own name followed by its aliases; ``addresses`` are literals ready to list. With
    ``port`` every domain is followed by ``domain:port``, as releases did before ports were ignored.
    """
    names: list[str] = []
    expanded: set[str] = set()
    for host in hosts:
        names.append(host)
        if not host.startswith("*") and not host.endswith("."):
            names.append(host + ".")
        shorter = alternate_names(host, client_namespace, cluster_domain)
        names += shorter
        expanded.update(shorter)
    if headless:
        wild = [f"*.{n}" for n in names]
        expanded.update(f"*.{n}" for n in list(expanded))
        names += wild
    names += addresses
    unique = list(dict.fromkeys(names))
    if port is None:
        return unique, expanded
    expanded |= {f"{n}:{port}" for n in expanded}
    return [d for n in unique for d in (n, f"{n}:{port}")], expanded
