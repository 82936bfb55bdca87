"""Tracked connections to Services: which translation an entry holds, and whether its target still exists."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from deadhop.evidence.fields import host_port
from deadhop.model.netfilter import ConntrackEntry, IptablesTable
from deadhop.model.observed.kube import Endpoints, Pod, Service

TCP, UDP = 6, 17


def translated(entry: ConntrackEntry) -> bool:
    """Whether the destination was changed (DNAT): the reply comes from another address or port.

    A port is 0 where the protocol has none or the line was cut off before it.
    """
    asked, answering = entry.original[3], entry.reply[2]
    return entry.reply[0] != entry.original[1] or (0 not in (asked, answering) and asked != answering)


def unreplied(entry: ConntrackEntry) -> bool:
    return "UNREPLIED" in entry.status


def service_addresses(services: Iterable[Service], tables: Iterable[IptablesTable] = ()) -> set[str]:
    """Cluster addresses of Services, from the objects and from kube-proxy's rules."""
    found = {s.cluster_ip for s in services if s.cluster_ip and s.cluster_ip != "None"}
    for table in tables:
        for rule in table.rules:
            if rule.chain in ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES") and (
                dst := rule.option("-d", "--destination")
            ):
                found.add(dst.partition("/")[0])
    return found


def live_addresses(endpoints: Iterable[Endpoints], pods: Iterable[Pod] = ()) -> set[str]:
    """Addresses that are endpoints or running pods now."""
    found = {host_port(e)[0] for row in endpoints for e in (*row.ready, *row.not_ready)}
    return found | {p.ip for p in pods if p.ip and p.phase in ("", "Running")}


def looks_like_service(address: str, port: int) -> bool:
    """Whether an address is one that common installations give to Services: cluster DNS's tenth address and kin."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip in net for net in _SERVICE_NETS) or (
        port == 53 and ip.is_private and address.endswith(".10")
    )


#: Defaults of kubeadm and EKS (10.96/12, 172.20/16), k3s (10.43/16), kops (100.64/13), OpenShift (172.30/16), RKE2, GKE.
_SERVICE_NETS = tuple(
    ipaddress.ip_network(n)
    for n in (
        "10.96.0.0/12",
        "10.43.0.0/16",
        "100.64.0.0/13",
        "172.30.0.0/16",
        "172.20.0.0/16",
        "10.233.0.0/18",
        "10.152.183.0/24",
    )
)
