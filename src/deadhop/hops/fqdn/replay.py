"""Recorded queries, answers and connections run through the toFQDNs core, node by node, in the order of time.

The DNS GC runs every minute from the first event on; its real phase is not in the evidence. What lives past its lookup
depends on conntrack passes, so after an expiry the answer is open unless the world says when passes ran.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from deadhop.fqdn.answers import ExtractError, extract_response
from deadhop.fqdn.cache import canonical_ip
from deadhop.fqdn.gc import DNS_GC_INTERVAL
from deadhop.fqdn.node import WORLD_IDENTITY, Node, QueryOutcome
from deadhop.fqdn.options import LATEST, Options, Version, options_for
from deadhop.fqdn.policy import OPEN, EgressPolicy
from deadhop.fqdn.selectors import FQDNSelector
from deadhop.model.dns import Message
from deadhop.model.record import Source

DAY_OF_RUNS = 1440


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One question of an endpoint and its answer (None: not known, or none came). ``port`` is the server's own."""

    at: float
    endpoint: str
    name: str
    type: str = "A"
    server: str = ""
    port: int = 53
    protocol: str = "UDP"
    answer: Message | None = None
    sources: tuple[Source, ...] = ()


class Connect(msgspec.Struct, frozen=True, kw_only=True):
    """One new connection. ``name`` is the name that the application means, where known."""

    at: float
    endpoint: str
    ip: str
    port: int = 0
    protocol: str = "TCP"
    name: str = ""
    sources: tuple[Source, ...] = ()


class ConntrackPass(msgspec.Struct, frozen=True, kw_only=True):
    """One complete conntrack GC pass on a node and the (endpoint, address) flows that it saw."""

    at: float
    node: str = ""
    live: tuple[tuple[str, str], ...] = ()


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What policy says to one connection. ``allowed`` None: the evidence does not say.

    ``names`` are the names behind the selector that allowed it; where nothing did, those under which the address is
    known. ``until`` is when the last lookup behind it expires, None where it is gone already.
    """

    connect: Connect
    allowed: bool | None
    selector: FQDNSelector | None = None
    cidr: str = ""
    names: tuple[str, ...] = ()
    until: float | None = None
    because: str = ""
    sources: tuple[Source, ...] = ()


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a replay needs. ``policies`` by endpoint; an endpoint without one has no egress policy.

    ``nodes`` says where endpoints run (all on one node by default). ``complete``: the queries are all there were, so
    that what was not learned is a fact. ``cluster_addresses`` have a pod's identity. ``identities`` are those of DNS
    servers by address, the world's where a server has none. Without ``options`` the version's defaults hold.
    """

    policies: Mapping[str, EgressPolicy]
    queries: tuple[Query, ...] = ()
    connects: tuple[Connect, ...] = ()
    passes: tuple[ConntrackPass, ...] = ()
    version: Version = LATEST
    options: Options | None = None
    nodes: Mapping[str, str] = msgspec.field(default_factory=dict)
    complete: bool = True
    cluster_addresses: tuple[str, ...] = ()
    identities: Mapping[str, int] = msgspec.field(default_factory=dict)

    @property
    def effective_options(self) -> Options:
        return options_for(self.version)[0] if self.options is None else self.options


Event: TypeAlias = Query | ConntrackPass | Connect


class Replay:
    """A replay under way. ``outcomes`` are those of the queries, in the world's order."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.nodes: dict[str, Node] = {}
        self.ids: dict[str, int] = {}
        self.outcomes: dict[int, QueryOutcome] = {}
        self.rejected: dict[int, str] = {}
        self._next_gc = math.inf

    def node_of(self, endpoint: str) -> tuple[Node, int]:
        place = self.world.nodes.get(endpoint, "")
        if place not in self.nodes:
            world = self.world
            self.nodes[place] = Node(
                world.version, world.effective_options, cluster_addresses=world.cluster_addresses
            )
        node = self.nodes[place]
        if endpoint not in self.ids:
            self.ids[endpoint] = len(self.ids) + 1
            node.apply(self.ids[endpoint], self.world.policies.get(endpoint, OPEN))
        return node, self.ids[endpoint]

    def run(self) -> tuple[Decision, ...]:
        """Decisions in the order of ``world.connects``. Raises ``PatternError`` for a policy that does not compile."""
        for endpoint in self.world.policies:
            self.node_of(endpoint)
        world = self.world
        ranked: list[tuple[float, int, int, Event]] = [(q.at, 0, n, q) for n, q in enumerate(world.queries)]
        ranked += [(p.at, 1, n, p) for n, p in enumerate(world.passes)]
        ranked += [(c.at, 2, n, c) for n, c in enumerate(world.connects)]
        ranked.sort(key=lambda item: item[:3])
        decisions: dict[int, Decision] = {}
        self._next_gc = ranked[0][0] + DNS_GC_INTERVAL if ranked else math.inf
        for at, _, place, event in ranked:
            self._collect(at)
            if isinstance(event, Query):
                self._query(place, event)
            elif isinstance(event, Connect):
                decisions[place] = self._connect(event)
            else:
                self._pass(event)
        return tuple(decisions[place] for place in range(len(self.world.connects)))

    def _collect(self, now: float) -> None:
        # Over a long silence only the first run and those of the last day can change anything.
        skipped = math.floor((now - self._next_gc) / DNS_GC_INTERVAL) - DAY_OF_RUNS
        while self._next_gc <= now:
            for node in self.nodes.values():
                node.dns_gc(self._next_gc)
            self._next_gc += DNS_GC_INTERVAL * (1 + max(skipped, 0))
            skipped = 0

    def _query(self, place: int, query: Query) -> None:
        node, id = self.node_of(query.endpoint)
        outcome = node.query(
            id,
            query.name,
            server=query.server,
            identity=self.world.identities.get(query.server, WORLD_IDENTITY),
            port=query.port,
            protocol=query.protocol,
        )
        self.outcomes[place] = outcome
        if outcome is not QueryOutcome.FORWARDED or query.answer is None:
            return
        try:
            details = extract_response(query.answer, self.world.version)
        except (ExtractError, ValueError) as error:
            self.rejected[place] = str(error)
            return
        node.response(id, details, query.at)

    def _pass(self, event: ConntrackPass) -> None:
        node = self.nodes.get(event.node)
        if node is not None:
            live = [(self.ids[name], ip) for name, ip in event.live if name in self.ids]
            node.conntrack_gc(live, event.at)

    def _connect(self, connect: Connect) -> Decision:
        node, id = self.node_of(connect.endpoint)
        try:
            ip = canonical_ip(connect.ip)
        except ValueError:
            return Decision(connect=connect, allowed=None, because=f"not an address: {connect.ip}")
        made = node.connect(id, ip, port=connect.port, protocol=connect.protocol)
        if not made.allowed:
            names = tuple(node.names.cache.lookup_ip(ip))
            known = f" The address is known as {', '.join(names)}." if names else ""
            return Decision(
                connect=connect,
                allowed=False if self.world.complete else None,
                names=names,
                because=f"{made.reason}.{known}",
                sources=connect.sources,
            )
        past = made.held or (made.until is not None and connect.at > made.until)
        allowed = None if past and not self.world.passes else True
        because = made.reason
        if past:
            because += "; its lookup has expired, it stays until two conntrack passes saw no connection"
        return Decision(
            connect=connect,
            allowed=allowed,
            selector=made.selector,
            cidr=made.cidr,
            names=made.names,
            until=made.until,
            because=because,
            sources=connect.sources,
        )


def replay(world: World) -> tuple[Decision, ...]:
    """What policy says to each connection of the world, in their order.

    Raises :class:`~deadhop.fqdn.patterns.PatternError` where a DNS rule of a policy does not compile.
    """
    return Replay(world).run()
