"""From policies to what the kernel and the proxy enforce for one endpoint.

What a rule allows is asked of the policy hop (``hops/policy/cilium.py``), never decided here: the addresses and ports
that a rule names divide the space into intervals, and one question for each gives the rule's reach. What names
teach is left to the FQDN core: rules with ``toFQDNs`` become selectors and ports, rules with ``rules.dns`` become
the proxy's admission rules and the reach that is redirected to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from deadhop.agent.endpoints import Endpoint
from deadhop.agent.ranges import LAST, Range, address_text, inside, network_range, number_of, where
from deadhop.agent.servers import ServerIdentities
from deadhop.fqdn.dns_rules import PortRuleDNS
from deadhop.fqdn.policy import DNSAllow, EgressPolicy, FQDNAllow, PortSpec
from deadhop.fqdn.selectors import FQDNSelector
from deadhop.hops.policy import cilium
from deadhop.hops.policy.peers import Peer
from deadhop.model.observed.kube import KubeObject, listing, mapping, mappings

PROTOCOLS = ("TCP", "UDP", "SCTP")
LAST_PORT = 65535
Ports = tuple[tuple[str, Range], ...] | None
"""(protocol, ports) pairs; None is every protocol, those without ports among them."""


class Reach(msgspec.Struct, frozen=True):
    """Where a rule leads: addresses of each family, and ports."""

    v4: tuple[Range, ...]
    v6: tuple[Range, ...]
    ports: Ports = None

    def of(self, version: int) -> tuple[Range, ...]:
        return self.v4 if version == 4 else self.v6


class DNSRule(msgspec.Struct, frozen=True):
    """One ``toPorts`` item with ``rules.dns``, or one without on a port that another item redirects."""

    reach: Reach
    specs: tuple[PortSpec, ...]
    rules: tuple[PortRuleDNS, ...] | None


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The egress rules of one endpoint before its DNS servers have identities."""

    enforced: bool = False
    allows: tuple[Reach, ...] = ()
    denies: tuple[Reach, ...] = ()
    dns: tuple[DNSRule, ...] = ()
    fqdns: tuple[FQDNAllow, ...] = ()


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """The egress of one endpoint: what is static, what is redirected, and the policy of the FQDN core.

    ``fqdn_ports`` maps the ports of ``toFQDNs`` rules to the labels of their selectors: one set of learned addresses each.
    """

    enforced: bool
    allows: tuple[Reach, ...] = ()
    denies: tuple[Reach, ...] = ()
    redirects: tuple[Reach, ...] = ()
    fqdn_ports: tuple[tuple[Ports, frozenset[str]], ...] = ()
    policy: EgressPolicy


def covers(reach: Reach, ip: str, protocol: str, port: int) -> bool:
    """Whether a reach includes a destination."""
    version, number = number_of(ip)
    return inside(reach.of(version), number) and covered(reach.ports, protocol, port)


def covered(ports: Ports, protocol: str, port: int) -> bool:
    return ports is None or any(p == protocol and low <= port <= high for p, (low, high) in ports)


def rules_of(endpoint: Endpoint, policies: Iterable[KubeObject], peers: Sequence[Endpoint]) -> Rules:
    """Every rule of the policies that select the endpoint."""
    known = _Known(peers)
    enforced = False
    allows: list[Reach] = []
    denies: list[Reach] = []
    dns: list[DNSRule] = []
    fqdns: list[FQDNAllow] = []
    plain: list[tuple[Reach, tuple[PortSpec, ...]]] = []
    for policy in _single(policies):
        if not cilium.selects(policy, endpoint.peer()):
            continue
        enforced = enforced or "egress" in cilium.directions(policy)
        for rule in mappings(policy.spec, "egressDeny"):
            denies += [_reach(policy, "egressDeny", rule, item, known) for item in _items(rule)]
        for rule in mappings(policy.spec, "egress"):
            if "toFQDNs" in rule:
                selectors = tuple(map(FQDNSelector.read, mappings(rule, "toFQDNs")))
                fqdns += [FQDNAllow(selectors=selectors, ports=_specs(item)) for item in _items(rule)]
                continue
            for item in _items(rule):
                reach = _reach(policy, "egress", rule, item, known)
                listed = mapping(item, "rules").get("dns") if item else None
                if listed:
                    names = tuple(map(FQDNSelector.read, mappings(listed)))
                    dns.append(DNSRule(reach, _specs(item), names))
                    continue
                allows.append(reach)
                if item and _specs(item):
                    plain.append((reach, _specs(item)))
    redirected = {(s.port, p) for rule in dns for s in rule.specs for p in s.protocols}
    for reach, specs in plain:
        shared = tuple(
            PortSpec(s.port, p)
            for s in specs
            for p in s.protocols
            if (s.port, p) in redirected and not s.end_port
        )
        if shared:
            dns.append(DNSRule(reach, shared, None))
    return Rules(
        enforced=enforced, allows=tuple(allows), denies=tuple(denies), dns=tuple(dns), fqdns=tuple(fqdns)
    )


def finish(rules: Rules, servers: ServerIdentities) -> Compiled:
    """The rules with the identities of DNS servers, ready for the core and the kernel."""
    dns = tuple(
        DNSAllow(ports=rule.specs, rules=rule.rules, peer=servers.selector(rule.reach.v4, rule.reach.v6))
        for rule in rules.dns
    )
    by_ports: dict[Ports, set[str]] = {}
    for allow in rules.fqdns:
        by_ports.setdefault(ports_of(allow.ports), set()).update(s.label for s in allow.selectors)
    return Compiled(
        enforced=rules.enforced,
        allows=rules.allows,
        denies=rules.denies,
        redirects=tuple(rule.reach for rule in rules.dns if rule.rules is not None),
        fqdn_ports=tuple((ports, frozenset(labels)) for ports, labels in by_ports.items()),
        policy=EgressPolicy(enforced=True, dns=dns, fqdns=rules.fqdns),
    )


def compile_all(
    endpoints: Sequence[Endpoint], policies: Sequence[KubeObject]
) -> tuple[dict[str, Compiled], ServerIdentities]:
    """What to enforce on each local endpoint, by its name. Labels that select alike are compiled once."""
    made: dict[str, Rules] = {}
    same: dict[tuple[str, tuple[tuple[str, str], ...]], Rules] = {}
    for endpoint in endpoints:
        if not endpoint.local:
            continue
        key = endpoint.spec.namespace, tuple(sorted(endpoint.spec.labels.items()))
        if key not in same:
            same[key] = rules_of(endpoint, policies, endpoints)
        made[endpoint.name] = same[key]
    servers = ServerIdentities((r.reach.v4, r.reach.v6) for rules in same.values() for r in rules.dns)
    finished = {key: finish(rules, servers) for key, rules in same.items()}
    keys = {e.name: (e.spec.namespace, tuple(sorted(e.spec.labels.items()))) for e in endpoints if e.local}
    return {name: finished[keys[name]] for name in made}, servers


def ports_of(specs: tuple[PortSpec, ...]) -> Ports:
    """The ports that specs cover, sorted; None for all."""
    if not specs:
        return None
    found = {
        (protocol, (spec.port or 0, max(spec.port, spec.end_port) if spec.port else LAST_PORT))
        for spec in specs
        for protocol in (PROTOCOLS if spec.protocol == "ANY" else (spec.protocol,))
    }
    return tuple(sorted(found))


class _Known:
    """The peers at their addresses; an address that nobody has is the world."""

    def __init__(self, peers: Sequence[Endpoint]) -> None:
        self.at = {number_of(ip): peer.peer(ip) for peer in peers for ip in peer.addresses}

    def boundaries(self, version: int) -> list[Range]:
        return [(number, number) for family, number in self.at if family == version]

    def peer(self, version: int, number: int) -> Peer:
        return self.at.get((version, number)) or Peer(ip=address_text(number, version))


def _single(policies: Iterable[KubeObject]) -> list[KubeObject]:
    """Each spec of each policy as a policy of its own: every spec has its own ``endpointSelector``."""
    return [
        msgspec.structs.replace(policy, raw={"spec": spec})
        for policy in policies
        for spec in cilium.specs(policy)
    ]


def _items(rule: dict[str, Any]) -> list[dict[str, Any] | None]:
    return [*mappings(rule, "toPorts")] or [None]


def _specs(item: dict[str, Any] | None) -> tuple[PortSpec, ...]:
    return tuple(
        PortSpec(int(p["port"]), str(p.get("protocol") or "ANY").upper(), int(p.get("endPort") or 0))
        for p in mappings(item, "ports")
    )


def _reach(
    policy: KubeObject, key: str, rule: dict[str, Any], item: dict[str, Any] | None, known: _Known
) -> Reach:
    """The reach of one rule with one of its ``toPorts`` items, by asking the hop at every interval."""
    judge = cilium.allows if key == "egress" else cilium.denies
    peers_only = {k: v for k, v in rule.items() if k != "toPorts"}
    at_peers = msgspec.structs.replace(policy, raw={"spec": {key: [peers_only]}})
    texts = [*listing(rule, "toCIDR")]
    for block in mappings(rule, "toCIDRSet"):
        texts += [block.get("cidr"), *listing(block, "except")]
    named = [network_range(str(text)) for text in texts]

    def family(version: int) -> tuple[Range, ...]:
        boundaries = [*known.boundaries(version), *(r for v, r in named if v == version)]

        def holds(number: int) -> bool:
            return judge(at_peers, "egress", known.peer(version, number), 1, "TCP") is True

        return where(boundaries, LAST[version], holds)

    return Reach(family(4), family(6), _ports(policy, key, item))


def _ports(policy: KubeObject, key: str, item: dict[str, Any] | None) -> Ports:
    if not mappings(item, "ports"):
        return None
    judge = cilium.allows if key == "egress" else cilium.denies
    alone = msgspec.structs.replace(policy, raw={"spec": {key: [{"toPorts": [item]}]}})
    boundaries = [(spec.port, max(spec.port, spec.end_port)) for spec in _specs(item)]
    anyone = Peer(ip="192.0.2.1")
    return tuple(
        (protocol, ports)
        for protocol in PROTOCOLS
        for ports in where(
            boundaries,
            LAST_PORT,
            lambda number, p=protocol: judge(alone, "egress", anyone, number, p) is True,  # type: ignore[misc]
        )
    )
