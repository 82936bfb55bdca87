"""The agent without its sockets: who may ask what, what an answer teaches, and what is kept of it.

It holds one :class:`~deadhop.fqdn.node.Node` (Cilium's machinery), the compiled policies, the kernel's sets and the
journal, and keeps the four in step: an answer goes to the node, from there to the journal and the sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from deadhop.agent.compile import Compiled, compile_all, covered, covers
from deadhop.agent.elements import Elements
from deadhop.agent.endpoints import Endpoint
from deadhop.agent.journal import Line, gone_line, lookup_line
from deadhop.agent.learned import LearnedSets
from deadhop.agent.ruleset import Layout, layout
from deadhop.agent.servers import ServerIdentities
from deadhop.fqdn.answers import MessageDetails
from deadhop.fqdn.cache import DNSCache, Entry, NameMatch
from deadhop.fqdn.clock import rfc3339_nano
from deadhop.fqdn.formats import CacheRow, Label, SelectorRow
from deadhop.fqdn.gc import DNS_GC_INTERVAL, GCResult, cache_clean, restore
from deadhop.fqdn.gc import Endpoint as CacheEndpoint
from deadhop.fqdn.node import Node
from deadhop.fqdn.options import Options, Version
from deadhop.fqdn.policy import OPEN
from deadhop.fqdn.selectors import FQDNSelector
from deadhop.model.observed.kube import KubeObject, mappings

NAMES_PER_ENDPOINT = 100_000
"""More names than this of one endpoint are answered and not learned: a client that walks through random names of an
allowed domain must not fill the node's memory."""
PAIRS_PER_ENDPOINT = 300_000
"""The same for (name, address) pairs, against answers with thousands of addresses."""


class Prepared(NamedTuple):
    """Compiled policies that are not in force yet."""

    compiled: dict[str, Compiled]
    servers: ServerIdentities
    users: dict[FQDNSelector, list[KubeObject]]


class Core:
    """State and decisions of one agent. Times are seconds since the epoch, given by the caller."""

    def __init__(self, version: Version, options: Options, gc_interval: float = DNS_GC_INTERVAL) -> None:
        self.version = version
        self.options = options
        self.node = Node(version, options)
        self.endpoints: tuple[Endpoint, ...] = ()
        self.by_ip: dict[str, Endpoint] = {}
        self.compiled: dict[str, Compiled] = {}
        self.servers = ServerIdentities()
        self.plan: Layout = layout((), {})
        self.sets = LearnedSets(self.node.names, (), gc_interval)
        self.policies: tuple[KubeObject, ...] = ()
        self.users: dict[FQDNSelector, list[KubeObject]] = {}
        self.unlearned = 0
        self._pairs: dict[int, int] = {}
        self._ids: dict[str, int] = {}
        self._identities: dict[tuple[str, ...], int] = {}

    def id_of(self, name: str) -> int:
        """The number of an endpoint, the same after a restart."""
        return self._ids.setdefault(name, max(self._ids.values(), default=0) + 1)

    def prepare(self, endpoints: Sequence[Endpoint], policies: Sequence[KubeObject]) -> Prepared:
        """Compile without changing anything: the slow part of a reload."""
        return Prepared(*compile_all(endpoints, policies), users_of(policies))

    def adopt(
        self,
        endpoints: Sequence[Endpoint],
        policies: Sequence[KubeObject],
        prepared: Prepared,
    ) -> None:
        """Put compiled policies in force in the proxy. Raises ``PatternError`` before anything has changed."""
        import msgspec

        self.compiled, self.servers, self.users = prepared
        self.policies = tuple(policies)
        self.endpoints = tuple(
            msgspec.structs.replace(e, id=self.id_of(e.name)) if e.local else e for e in endpoints
        )
        self.by_ip = {ip: e for e in self.endpoints for ip in e.addresses}
        self.node.cluster_addresses = frozenset(self.by_ip)
        present = {e.id for e in self.endpoints if e.local}
        for id in [id for id in self.node.endpoints if id not in present]:
            self.node.remove_endpoint(id)
        for endpoint in self.endpoints:
            if endpoint.local:
                compiled = self.compiled[endpoint.name]
                known = compiled.enforced or compiled.redirects
                self.node.apply(endpoint.id, compiled.policy if known else OPEN)
        self.plan = layout(self.endpoints, self.compiled)

    def arrange(self, now: float) -> dict[str, dict[str, float]]:
        """Every element that the kernel's sets should hold, with the seconds it has left."""
        return self.sets.arrange(self.plan, self.by_ip, now)

    def allows(self, endpoint: int, server: str, port: int, protocol: str, name: str) -> bool:
        """Whether the endpoint may ask the server for the name."""
        identity = self.servers.of(server)
        return bool(self.node.proxy.check_allowed(endpoint, port, protocol, identity, server, name))

    def learn(self, endpoint: int, details: MessageDetails, now: float) -> tuple[bool, Line | None]:
        """What an answer teaches: (the kernel must know first, the journal's line)."""
        known = self.node.endpoints.get(endpoint)
        if known is None or not details.learned:
            return False, None
        history = known.history
        if details.qname not in history.forward and (
            len(history.forward) >= NAMES_PER_ENDPOINT or self._crowded(known, len(details.ips))
        ):
            self.unlearned += 1
            return False, None
        self.node.response(endpoint, details, now)
        waits = self.sets.learned(details.qname, details.ips)
        ttl = max(details.ttl, self.options.min_ttl)
        return waits, lookup_line(endpoint, details.qname, now, ttl, details.ips)

    def _crowded(self, known: CacheEndpoint, more: int) -> bool:
        """Whether an endpoint has too many pairs. They are counted again only when an upper bound is reached."""
        bound = self._pairs.get(known.id, 0) + more
        if bound > PAIRS_PER_ENDPOINT:
            bound = known.history.count()[1] + len(known.zombies) + more
        if bound > PAIRS_PER_ENDPOINT:
            return True
        self._pairs[known.id] = bound
        return False

    def permits(self, endpoint: Endpoint, ip: str, protocol: str, port: int) -> bool:
        """Whether the rules in force let a packet of a connection pass, as the kernel's rules do."""
        compiled = self.compiled.get(endpoint.name)
        if compiled is None or endpoint.name not in self.plan.of_endpoint:
            return True
        if any(covers(reach, ip, protocol, port) for reach in compiled.denies):
            return False
        if not compiled.enforced:
            return True
        static = (*compiled.allows, *compiled.redirects)
        if any(covers(reach, ip, protocol, port) for reach in static):
            return True
        groups = self.plan.sets[self.plan.of_endpoint[endpoint.name]]
        return any(covered(g.ports, protocol, port) and self.sets.holds(g.name, ip) for g in groups)

    def dns_gc(self, now: float) -> tuple[GCResult, Elements, list[Line]]:
        """One run of the DNS GC: its result, the change of the kernel's sets, the journal's lines."""
        before = {(e.id, z.ip): z.names for e in self.node.endpoints.values() for z in e.zombies.dump()}
        result = self.node.dns_gc(now)
        alive = {(e.id, z.ip) for e in self.node.endpoints.values() for z in e.zombies.dump()}
        gone = [gone_line(id, ip, names) for (id, ip), names in before.items() if (id, ip) not in alive]
        held = {n for e in self.node.endpoints.values() for z in e.zombies.dump() for n in z.names}
        forgotten = [
            name
            for name in result.names
            if name not in held and not any(name in e.history.forward for e in self.node.endpoints.values())
        ]
        if forgotten:
            gone.append(("forgotten", forgotten))
        return result, self.sets.cleaned(result.names, now), gone

    def clean(self, now: float, match: NameMatch | None) -> tuple[list[str], Elements]:
        """``fqdn cache clean``: the names it touched and the change of the kernel's sets."""
        names = cache_clean(self.node.names, list(self.node.endpoints.values()), now, match)
        return names, self.sets.cleaned(names, now)

    # What is saved and read back

    def lines(self, port: int) -> Iterator[Line]:
        """The whole state as lines of a snapshot. It may be taken in slices while the state changes."""
        yield "proxy", {"port": port, "version": str(self.version)}
        for selector in self.selectors():
            yield "selector", _plain(self._row(selector))
        for endpoint in self.endpoints:
            if endpoint.local:
                yield "endpoint", endpoint.id, endpoint.name
        for id, known in list(self.node.endpoints.items()):
            for entry in known.history.dump():
                yield lookup_line(id, entry.name, entry.lookup_time, entry.ttl, entry.ips)
            for zombie in known.zombies.dump():
                yield "zombie", id, zombie.ip, zombie.names, rfc3339_nano(zombie.delete_pending_at)

    def recall(self, lines: Iterable[Line]) -> None:
        """Give endpoints the numbers that they had. Before :meth:`adopt`."""
        for line in lines:
            if line[0] == "endpoint" and len(line) == 3 and isinstance(line[1], int) and line[1] > 0:
                self._ids[str(line[2])] = line[1]

    def load(self, lines: Iterable[Line], now: float, pre_cache: DNSCache | None = None) -> list[str]:
        """Take up what was learned; it counts as after Cilium's restart. Returns what was passed over.

        After :meth:`adopt`: what belongs to an endpoint that there is no more is left out.
        """
        complaints: list[str] = []
        zombies: dict[int, dict[str, dict[str, Any]]] = {}
        for number, line in enumerate(lines, 1):
            try:
                self._take(line, zombies)
            except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
                complaints.append(f"line {number} of the state: {error}")
        for id, deletes in zombies.items():
            complaints += self.node.endpoint(id).zombies.load({"deletes": deletes})
        restore(self.node.names, list(self.node.endpoints.values()), now, pre_cache)
        self.sets.forget()
        return complaints

    def _take(self, line: Line, zombies: dict[int, dict[str, dict[str, Any]]]) -> None:
        kind = line[0]
        if kind == "forgotten":
            for known in self.node.endpoints.values():
                for name in line[1]:
                    for ip in list(known.history.forward.get(str(name), ())):
                        known.history.drop(str(name), ip)
            return
        if kind not in ("lookup", "zombie", "gone") or int(line[1]) not in self.node.endpoints:
            return
        if kind == "lookup":
            _, id, name, time, ttl, ips = line
            time, ttl = float(time), int(ttl)
            entry = Entry(str(name), time, time + ttl, ttl, tuple(map(str, ips)))
            self.node.endpoint(int(id)).history.update_entry(entry)
            for ip in entry.ips:
                zombies.get(int(id), {}).pop(ip, None)
        elif kind == "zombie":
            _, id, ip, names, due = line
            zombies.setdefault(int(id), {})[str(ip)] = {"names": list(names), "delete-pending-at": due}
        elif kind == "gone":
            _, id, ip, names = line
            zombies.get(int(id), {}).pop(str(ip), None)
            for name in names:
                self.node.endpoint(int(id)).history.drop(str(name), str(ip))

    # What people ask for

    def cache_rows(self) -> list[CacheRow]:
        return self.node.cache_rows()

    def selectors(self) -> list[FQDNSelector]:
        """The registered ``toFQDNs`` selectors, in order."""
        return sorted(self.node.names.index)

    def selector_rows(self) -> list[SelectorRow]:
        """The rows of ``policy selectors`` for ``toFQDNs``."""
        identities: dict[str, set[int]] = {}
        names = self.node.names
        for prefix, labels in names.ipcache().items():
            number = names.identity_of(prefix.rpartition("/")[0])
            for label in labels if number is not None else ():
                identities.setdefault(label, set()).add(number)  # type: ignore[arg-type]
        return [
            self._row(selector, tuple(sorted(identities.get(selector.label, ()))))
            for selector in self.selectors()
        ]

    def _row(self, selector: FQDNSelector, identities: tuple[int, ...] = ()) -> SelectorRow:
        users = self.users.get(selector, ())
        return SelectorRow(
            selector=str(selector),
            users=len(users) or 1,
            identities=identities,
            labels=tuple(label for policy in users for label in _policy_labels(policy)),
        )

    def identity_of(self, endpoint: Endpoint) -> int:
        """A number for the endpoint's labels, as flows show it."""
        reserved = {"host": 1, "health": 4, "init": 5, "remote-node": 6, "kube-apiserver": 7, "ingress": 8}
        if endpoint.spec.entity:
            return reserved.get(endpoint.spec.entity, 2)
        return self._identities.setdefault(endpoint.security_labels, 256 + len(self._identities))


def _plain(row: SelectorRow) -> dict[str, Any]:
    labels = [[label.key, label.source, label.value] for label in row.labels]
    return {
        "selector": row.selector,
        "users": row.users,
        "identities": list(row.identities),
        "labels": labels,
    }


def users_of(policies: Iterable[KubeObject]) -> dict[FQDNSelector, list[KubeObject]]:
    """The policies that use each ``toFQDNs`` selector."""
    users: dict[FQDNSelector, list[KubeObject]] = {}
    for policy in policies:
        specs = [policy.spec, *mappings(policy.raw, "specs")]
        used = {
            FQDNSelector.read(f)
            for spec in specs
            for rule in mappings(spec, "egress")
            for f in mappings(rule, "toFQDNs")
        }
        for selector in used:
            users.setdefault(selector, []).append(policy)
    return users


def _policy_labels(policy: KubeObject) -> list[Label]:
    found = [Label("io.cilium.k8s.policy.name", "k8s", policy.name)]
    if policy.namespace:
        found.append(Label("io.cilium.k8s.policy.namespace", "k8s", policy.namespace))
    return found
