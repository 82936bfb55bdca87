"""The IPv6 FIB: tables, rules, and route selection (net/ipv6/route.c, ip6_fib.c, fib6_rules.c).

What differs from IPv4: routes of one prefix compete by metric and by a score (a route through the asked device is
better); equal gatewayed routes form a multipath group; a prefix may hold source-specific routes, which shadow the
plain one of the same prefix for sources that match none of them, except at ``default``; there is no TOS key; an
error route is a result, not an error; the built-in rules have no ``default`` table.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.hops.linux.devices import Device
from deadhop.hops.linux.errors import EAGAIN, ENETUNREACH, Unknown
from deadhop.hops.linux.fib import ERRORS, Alias, Found, Leg, Objects
from deadhop.hops.linux.rules import CompiledRule, FlowKey, compile_rules, is_default
from deadhop.model import ip
from deadhop.model.net import Neighbour, Route
from deadhop.model.netns import NetNamespace

#: IPV6_DECODE_PREF(...) << 2: what a router preference adds to a route's score.
PREF_SCORE = {"high": 3 << 2, "medium": 2 << 2, "low": 1 << 2, None: 2 << 2}
FAIL_HARD, FAIL_PROBE = -3, -2


class Group:
    """Routes of one prefix (and source prefix), sorted by metric: the leaf list of a fib6_node."""

    __slots__ = ("aliases",)

    def __init__(self) -> None:
        self.aliases: list[Alias] = []

    def add(self, alias: Alias) -> None:
        self.aliases.append(alias)
        self.aliases.sort(key=lambda a: (a.metric, a.position))


class Node:
    """A destination prefix: its plain routes and the tree of its source-specific ones."""

    __slots__ = ("length", "plain", "subtree")

    def __init__(self, length: int) -> None:
        self.length = length
        self.plain = Group()
        self.subtree: dict[tuple[int, int], Group] = {}

    def matching(self, src: int) -> list[Group]:
        """Source-specific groups that cover ``src``, longest first."""
        hits = [
            (length, group)
            for (network, length), group in self.subtree.items()
            if src & ip.mask(6, length) == network
        ]
        return [group for _, group in sorted(hits, key=lambda hit: -hit[0])]


class Table6:
    """One IPv6 routing table."""

    def __init__(self) -> None:
        self.by_length: dict[int, dict[int, Node]] = {}
        self.levels: list[tuple[int, dict[int, Node]]] = []

    def add(self, alias: Alias) -> None:
        shift = 128 - alias.length
        group = self.by_length.setdefault(alias.length, {})
        node = group.setdefault(alias.network >> shift, Node(alias.length))
        if alias.route.src:
            key = ip.prefix(alias.route.src, 6)
            node.subtree.setdefault(key, Group()).add(alias)
        else:
            node.plain.add(alias)
        self.levels = [
            (128 - length, self.by_length[length]) for length in sorted(self.by_length, reverse=True)
        ]

    def groups(self, dst: int, src: int) -> Iterator[Group]:
        """The leaf lists in the order that fib6_node_lookup and fib6_backtrack visit them."""
        started = False
        for shift, level in self.levels:
            node = level.get(dst >> shift)
            if node is None:
                continue
            if node.subtree:
                hits = node.matching(src)
                yield from hits
                if not started and not hits and node.length:
                    continue  # fib6_node_lookup_1 backtracks past the node's own routes
                started = started or bool(hits)
            if node.plain.aliases:
                started = True
                yield node.plain


class Fib6:
    """All IPv6 tables of a namespace behind its rules: ``lookup`` is fib6_rule_lookup over ip6_pol_route."""

    def __init__(self, ns: NetNamespace, devices: dict[str, Device], routes: tuple[Route, ...]) -> None:
        objects = Objects(ns.nexthops)
        self.devices = devices
        self.tables: dict[str, Table6] = {}
        for position, route in enumerate(routes):
            self.tables.setdefault(route.table, Table6()).add(Alias(route, position, devices, objects))
        self.rules = compile_rules(ns.rules6) if ns.rules6 is not None else None
        self.custom = ns.rules6 is not None and not is_default(ns.rules6)
        self.covered = ns.route_tables6
        self.neighbours = _states(ns.neighbours)
        forwarding = ns.sysctl("net.ipv6.conf.all.forwarding")
        self.forwarding = int(forwarding) if forwarding is not None and forwarding.isdigit() else None
        self.wants_ports = any(
            rule.ipproto is not None or rule.sport is not None or rule.dport is not None
            for rule in ns.rules6 or ()
        )

    def lookup(
        self, flow: FlowKey, oif: str | None, *, strict: bool = False
    ) -> tuple[Found, list[tuple[Alias, Leg]]]:
        """The route and the possible ``(route, leg)`` pairs.

        ``oif`` is the device that scores better: the input device for received packets, the bound device for local
        ones. ``strict`` (RT6_LOOKUP_F_IFACE) admits that device alone. A :class:`Found` with an ``error`` and an
        alias is a reject route; without an alias it is the null entry or a rule that decided.
        """
        if self.rules is None:
            raise Unknown("IPv6 policy rules (ip -6 rule)")
        if not self.custom:
            for name in ("local", "main"):
                found, legs = self._select(name, flow, oif, strict)
                if found.error != EAGAIN:
                    return found, legs
            return Found(ENETUNREACH), []
        index = 0
        while index < len(self.rules):
            rule = self.rules[index]
            index += 1
            if not rule.matches(flow):
                continue
            if rule.action == "goto":
                if rule.target is not None:
                    index = rule.target
                continue
            if rule.action == "nop":
                continue
            if rule.error:
                found = Found(rule.error)
                found.by = rule
                return found, []
            name = rule.table
            if rule.l3mdev and flow.vrf is not None:
                name = self.devices[flow.vrf].vrf_table or ""
            found, legs = self._select(name, flow, oif, strict)
            found.by = rule
            if found.error == 0 and self._suppressed(rule, found, legs):
                continue
            if found.error != EAGAIN:
                return found, legs
        return Found(ENETUNREACH), []

    def _suppressed(self, rule: CompiledRule, found: Found, legs: list[tuple[Alias, Leg]]) -> bool:
        """fib6_rule_suppress."""
        alias = found.alias
        if alias is None:
            return False
        if alias.length <= rule.suppress:
            return True
        if rule.group is not None and legs:
            device = self.devices.get(legs[0][1].dev)
            return device is not None and device.group == rule.group
        return False

    def _select(
        self, name: str, flow: FlowKey, oif: str | None, strict: bool
    ) -> tuple[Found, list[tuple[Alias, Leg]]]:
        """ip6_pol_route in one table."""
        if self.covered is not None and name not in self.covered and name != "local":
            raise Unknown(f"IPv6 routing table {name} (ip -6 route show table {name})")
        table = self.tables.get(name)
        if table is None:
            return Found(EAGAIN), []
        if self.forwarding is None:
            raise Unknown("sysctl net.ipv6.conf.all.forwarding")
        src = flow.src if flow.has_src else 0
        for reachable in (True, False) if self.forwarding == 0 else (False,):
            for group in table.groups(flow.dst, src):
                found = self._best(group, oif, strict, reachable)
                if found is not None:
                    alias, leg = found
                    if alias.unresolved:
                        raise Unknown(alias.unresolved)
                    if alias.error or leg is None:
                        return Found(alias.error or ERRORS["blackhole"], alias), []
                    return Found(0, alias, leg), self._paths(group, alias, leg, flow, oif)
        return Found(EAGAIN), []

    def _best(
        self, group: Group, oif: str | None, strict: bool, reachable: bool
    ) -> tuple[Alias, Leg | None] | None:
        """find_rr_leaf: the best score among the routes of the first metric, else of all the others."""
        first = group.aliases[0].metric
        best: tuple[Alias, Leg | None] | None = None
        score = -1
        for alias in group.aliases:
            if alias.metric != first and best is not None and best[0].metric == first:
                break
            if alias.blackhole:
                return alias, None
            if alias.error or alias.unresolved:
                legs: list[Leg | None] = [alias.legs[0] if alias.legs else None]
            else:
                legs = [*alias.legs]
            for leg in legs:
                mine = self._score(alias, leg, oif, strict, reachable)
                if mine > score:
                    score, best = mine, (alias, leg)
        return best

    def _score(self, alias: Alias, leg: Leg | None, oif: str | None, strict: bool, reachable: bool) -> int:
        """find_match over rt6_score_route."""
        if leg is None:
            if strict and oif is not None and oif != "lo":
                return FAIL_HARD
            return (2 if oif is None or oif == "lo" else 0) | PREF_SCORE.get(alias.route.pref, 8)
        if not leg.usable:
            return FAIL_HARD
        if "linkdown" in leg.flags:
            device = self.devices.get(leg.dev)
            if device is not None and device.ignore_linkdown6.need():
                return FAIL_HARD
        score = 2 if oif is None or leg.dev == oif else 0
        if not score and strict:
            return FAIL_HARD
        score |= PREF_SCORE.get(alias.route.pref, 8)
        if reachable and not alias.error and leg.gateway is not None:
            state = self.neighbours.get((leg.dev, leg.gateway[1]))
            if state is not None and "FAILED" in state:
                return FAIL_PROBE
        return score

    def _paths(
        self, group: Group, alias: Alias, leg: Leg, flow: FlowKey, oif: str | None
    ) -> list[tuple[Alias, Leg]]:
        """fib6_select_path: every leg that the multipath hash may pick."""
        if flow.iif == "lo" and oif is not None and leg.dev == oif:
            return [(alias, leg)]
        if len(alias.legs) > 1:
            siblings = [(alias, other) for other in alias.legs]
        elif leg.gateway is not None and alias.route.nhid is None and alias.route.protocol != "ra":
            siblings = [
                (other, each)
                for other in group.aliases
                if other.metric == alias.metric and not other.error and other.route.protocol != "ra"
                for each in other.legs
                if each.gateway is not None
            ]
        else:
            return [(alias, leg)]
        return [(a, each) for a, each in siblings if self._score(a, each, None, False, False) >= 0] or [
            (alias, leg)
        ]


def _states(neighbours: tuple[Neighbour, ...] | None) -> dict[tuple[str, int], tuple[str, ...]]:
    states: dict[tuple[str, int], tuple[str, ...]] = {}
    for neighbour in neighbours or ():
        if ":" in neighbour.dst:
            states[neighbour.dev, ip.parse(neighbour.dst)[1]] = neighbour.state
    return states
