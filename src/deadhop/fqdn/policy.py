"""The part of an endpoint's egress policy that DNS and ``toFQDNs`` turn on, as plain values.

Several policies that select an endpoint simply add up: any allow is enough. Any egress section puts the endpoint
into default deny, DNS included, unless ``enableDefaultDeny.egress`` is false (1.16+).
"""

from __future__ import annotations

from functools import cached_property
from ipaddress import ip_address, ip_network

import msgspec

from deadhop.fqdn.admission import AnyPeer, L3Selector
from deadhop.fqdn.dns_rules import PortRuleDNS
from deadhop.fqdn.selectors import FQDNSelector


class PortSpec(msgspec.Struct, frozen=True):
    """One port of ``toPorts``, after service translation. Port 0 and protocol ``ANY`` cover all."""

    port: int = 0
    protocol: str = "ANY"
    end_port: int = 0

    def covers(self, port: int, protocol: str) -> bool:
        if self.protocol not in ("ANY", protocol):
            return False
        return self.port in (0, port) or self.port <= port <= self.end_port

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols under which the DNS proxy keeps rules."""
        return ("UDP", "TCP") if self.protocol == "ANY" else (self.protocol,)


def covered(ports: tuple[PortSpec, ...], port: int, protocol: str) -> bool:
    """Whether a rule with these ports covers a port; a rule without ports covers all."""
    return not ports or any(spec.covers(port, protocol) for spec in ports)


class DNSAllow(msgspec.Struct, frozen=True, kw_only=True):
    """Egress to DNS servers. ``rules`` None is a plain allow: nothing is intercepted and nothing is learned."""

    ports: tuple[PortSpec, ...] = (PortSpec(53),)
    rules: tuple[PortRuleDNS, ...] | None = None
    peer: L3Selector = AnyPeer()


class FQDNAllow(msgspec.Struct, frozen=True, kw_only=True):
    """One egress item with ``toFQDNs``."""

    selectors: tuple[FQDNSelector, ...]
    ports: tuple[PortSpec, ...] = ()


class CIDRAllow(msgspec.Struct, frozen=True, kw_only=True):
    """One CIDR of ``toCIDR`` or ``toCIDRSet``; ``toEntities: world`` is ``0.0.0.0/0`` and ``::/0``."""

    cidr: str
    excepts: tuple[str, ...] = ()
    ports: tuple[PortSpec, ...] = ()

    def contains(self, ip: str) -> bool:
        return _inside(ip, self.cidr) and not any(_inside(ip, e) for e in self.excepts)


def _inside(ip: str, cidr: str) -> bool:
    try:
        network, address = ip_network(cidr, strict=False), ip_address(ip)
    except ValueError:
        return False
    return address.version == network.version and address in network


class EgressPolicy(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """All egress rules of one endpoint. Not ``enforced`` means that no policy selects it: everything passes."""

    enforced: bool = True
    dns: tuple[DNSAllow, ...] = ()
    fqdns: tuple[FQDNAllow, ...] = ()
    cidrs: tuple[CIDRAllow, ...] = ()

    @cached_property
    def selectors(self) -> tuple[FQDNSelector, ...]:
        """Every selector once, in the order of the policy."""
        return tuple(dict.fromkeys(selector for allow in self.fqdns for selector in allow.selectors))


OPEN = EgressPolicy(enforced=False)
