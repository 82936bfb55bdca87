"""One node: its endpoints, its DNS proxy and its names, driven by events that carry their time.

The order of a response is the agent's (``messagehandler``): the endpoint's history takes it, pairs that are new
leave the zombies, then the node-wide cache and the labels follow. What one endpoint learns opens the address for
every endpoint of the node whose policy has the same selector; nothing passes between nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from deadhop.fqdn.admission import DNSProxy, L3Selector
from deadhop.fqdn.answers import MessageDetails
from deadhop.fqdn.clock import ZERO
from deadhop.fqdn.dns_rules import PortRuleDNS, merge
from deadhop.fqdn.formats import CacheRow, lookup_row
from deadhop.fqdn.gc import Endpoint, GCResult, conntrack_gc, dns_gc
from deadhop.fqdn.identity import Learned, NameManager
from deadhop.fqdn.options import Options, Version
from deadhop.fqdn.policy import OPEN, EgressPolicy, covered
from deadhop.fqdn.selectors import FQDNSelector

WORLD_IDENTITY = 2


class QueryOutcome(StrEnum):
    """What becomes of a query: through the proxy, refused by it, past it unseen, or dropped by L3/L4 policy."""

    FORWARDED = "forwarded"
    REJECTED = "rejected"
    UNSEEN = "unseen"
    DROPPED = "dropped"

    @property
    def answered(self) -> bool:
        return self in (QueryOutcome.FORWARDED, QueryOutcome.UNSEEN)


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """The decision on one connection: the selector or CIDR that allowed it, and the names behind the selector.

    ``until`` is when the last of those names' lookups expires; the address stays allowed to the next DNS GC after
    it, and as long as a connection to it lives. ``held``: the lookups are gone, only the wait for conntrack keeps the
    address. ``until`` is None then, and where nothing expires.
    """

    allowed: bool
    selector: FQDNSelector | None = None
    cidr: str = ""
    names: tuple[str, ...] = ()
    until: float | None = None
    held: bool = False
    reason: str = ""

    def __bool__(self) -> bool:
        return self.allowed


class Node:
    """The toFQDNs state of one node. ``cluster_addresses`` keep their pod identity, whatever name they have."""

    def __init__(
        self,
        version: Version,
        options: Options,
        *,
        dual_stack: bool = False,
        cluster_addresses: Iterable[str] = (),
    ) -> None:
        self.version = version
        self.options = options
        self.proxy = DNSProxy(version)
        self.names = NameManager(version, min_ttl=options.min_ttl, dual_stack=dual_stack)
        self.cluster_addresses = frozenset(cluster_addresses)
        self.endpoints: dict[int, Endpoint] = {}
        self._policies: dict[int, EgressPolicy] = {}

    def endpoint(self, id: int) -> Endpoint:
        """The endpoint, made at its first mention."""
        if id not in self.endpoints:
            self.endpoints[id] = Endpoint(id, self.version, self.options)
        return self.endpoints[id]

    def remove_endpoint(self, id: int) -> None:
        self.apply(id, OPEN)
        self.proxy.remove_endpoint(id)
        self.endpoints.pop(id, None)

    def apply(self, id: int, policy: EgressPolicy) -> None:
        """Give an endpoint its policy, in place of the one it has.

        Raises :class:`~deadhop.fqdn.patterns.PatternError` where a DNS rule does not compile.
        """
        self.endpoint(id)
        old = self._policies.get(id, OPEN)
        merged: dict[tuple[int, str], dict[L3Selector, tuple[PortRuleDNS, ...] | None]] = {}
        for key in [(s.port, p) for allow in old.dns for s in allow.ports for p in s.protocols]:
            merged[key] = {}
        for (port, protocol), peers in self._dns_by_port(policy).items():
            lists = {peer: merge(listed) for peer, listed in peers.items()}
            redirected = any(rules is not None for rules in lists.values())
            merged[port, protocol] = lists if redirected else {}
        for (port, protocol), rules in merged.items():
            self.proxy.update_allowed(id, port, protocol, rules)
        self._policies[id] = policy
        if old.selectors == policy.selectors:
            return
        before, after = dict.fromkeys(old.selectors), dict.fromkeys(policy.selectors)
        for selector in after:
            if selector not in before:
                self.names.register(selector)
        for selector in before:
            if selector not in after:
                self.names.unregister(selector)

    @staticmethod
    def _dns_by_port(
        policy: EgressPolicy,
    ) -> dict[tuple[int, str], dict[L3Selector, list[tuple[PortRuleDNS, ...] | None]]]:
        found: dict[tuple[int, str], dict[L3Selector, list[tuple[PortRuleDNS, ...] | None]]] = {}
        for allow in policy.dns:
            for spec in allow.ports:
                for protocol in spec.protocols:
                    found.setdefault((spec.port, protocol), {}).setdefault(allow.peer, []).append(allow.rules)
        return found

    def query(
        self,
        id: int,
        name: str,
        *,
        server: str = "",
        identity: int = WORLD_IDENTITY,
        port: int = 53,
        protocol: str = "UDP",
    ) -> QueryOutcome:
        """Decide one query to the server at ``server``; ``port`` is the backend's, after service translation."""
        policy = self._policies.get(id, OPEN)
        if not policy.enforced:
            return QueryOutcome.UNSEEN
        matching = [a for a in policy.dns if a.peer.selects(identity) and covered(a.ports, port, protocol)]
        if any(allow.rules for allow in matching):
            verdict = self.proxy.check_allowed(id, port, protocol, identity, server, name)
            return QueryOutcome.FORWARDED if verdict else QueryOutcome.REJECTED
        if matching or self._cidr(policy, server, port, protocol):
            return QueryOutcome.UNSEEN
        return QueryOutcome.DROPPED

    def response(self, id: int, details: MessageDetails, now: float) -> Learned | None:
        """A response that passed the proxy; None where it teaches nothing."""
        if not details.learned:
            return None
        endpoint = self.endpoint(id)
        status = endpoint.history.update(now, details.qname, details.ips, details.ttl)
        if status.is_news(self.version):
            endpoint.zombies.force_expire_by_name_ip(now, details.qname, details.ips)
        return self.names.update(now, details.qname, details.ips, details.ttl, endpoint.history)

    def connect(self, id: int, ip: str, *, port: int = 0, protocol: str = "TCP") -> Connection:
        """Decide one new connection by the address's identity."""
        policy = self._policies.get(id, OPEN)
        if not policy.enforced:
            return Connection(allowed=True, reason="no egress policy selects the endpoint")
        cidr = self._cidr(policy, ip, port, protocol)
        if cidr:
            return Connection(allowed=True, cidr=cidr, reason=f"toCIDR {cidr}")
        if ip in self.cluster_addresses:
            return Connection(
                allowed=False, reason="the address has a pod's identity, which no name overrides"
            )
        for allow in policy.fqdns:
            if not covered(allow.ports, port, protocol):
                continue
            selector = self.names.allows(ip, allow.selectors)
            if selector is not None:
                names = tuple(self.names.names_behind(ip, selector))
                until = self._expiry(names, ip)
                return Connection(
                    allowed=True,
                    selector=selector,
                    names=names,
                    until=until,
                    held=until is None,
                    reason=selector.label,
                )
        return Connection(allowed=False, reason="no selector of the policy has learned the address")

    def _expiry(self, names: tuple[str, ...], ip: str) -> float | None:
        """When the last lookup that gave one of the names this address expires, None where no endpoint has one."""
        entries = (
            endpoint.history.forward.get(name, {}).get(ip)
            for endpoint in self.endpoints.values()
            for name in names
        )
        return max((entry.expiration_time for entry in entries if entry is not None), default=None)

    @staticmethod
    def _cidr(policy: EgressPolicy, ip: str, port: int, protocol: str) -> str:
        if not ip:
            return ""
        return next((a.cidr for a in policy.cidrs if covered(a.ports, port, protocol) and a.contains(ip)), "")

    def dns_gc(self, now: float) -> GCResult:
        """One run of the DNS GC job over every endpoint."""
        return dns_gc(self.names, list(self.endpoints.values()), now)

    def conntrack_gc(
        self,
        outgoing: Iterable[tuple[int, str]],
        start: float,
        following: float = ZERO,
        *,
        complete: bool = True,
    ) -> None:
        """One conntrack pass that saw ``(endpoint, destination)`` flows."""
        conntrack_gc(
            self.endpoints.values(),
            frozenset(outgoing),
            start,
            following,
            grace=self.options.idle_connection_grace_period,
            complete=complete,
        )

    def cache_rows(self) -> list[CacheRow]:
        """The rows of ``fqdn cache list``."""
        rows: list[CacheRow] = []
        for endpoint in self.endpoints.values():
            rows.extend(lookup_row(endpoint.id, entry) for entry in endpoint.history.dump())
            for zombie in endpoint.zombies.dump_alive():
                rows.extend(
                    CacheRow(
                        endpoint=endpoint.id,
                        source="connection",
                        fqdn=name,
                        ttl=0,
                        expiration=endpoint.zombies.connection_expiry(zombie),
                        ips=(zombie.ip,),
                        lookup=zombie.alive_at,
                    )
                    for name in zombie.names
                )
        return rows

    def global_rows(self) -> list[CacheRow]:
        """The rows of ``fqdn cache list -s global`` (1.19+)."""
        return [lookup_row(0, entry, "global") for entry in self.names.cache.dump()]
