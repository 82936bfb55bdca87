"""Policy rules over IPv4 tables (fib_rules_lookup in net/core/fib_rules.c, fib4_rule_* in net/ipv4/fib_rules.c).

While the rules are the three built-in ones, the kernel does not run them: local and main share one trie, and only a
miss or ``throw`` there moves on to ``default`` (fib_lookup in include/net/ip_fib.h).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from deadhop.hops.linux.devices import Device
from deadhop.hops.linux.errors import EACCES, EAGAIN, EINVAL, ENETUNREACH, Unknown
from deadhop.hops.linux.fib import MISS, TOS_MASK, Alias, Found, Objects, Table
from deadhop.model import ip
from deadhop.model.net import Route, Rule
from deadhop.model.netns import NetNamespace, default_rules
from deadhop.model.record import NOWHERE

#: fib4_rule_action, fib6_rule_action: the errno of a rule that decides by itself.
ACTION_ERRORS = {"unreachable": ENETUNREACH, "prohibit": EACCES, "blackhole": EINVAL}


class FlowKey:
    """struct flowi4/flowi6: what a lookup is asked with. ``iif`` is ``lo`` for local output."""

    __slots__ = ("dport", "dst", "has_src", "iif", "mark", "oif", "proto", "sport", "src", "tos", "vrf")

    def __init__(
        self,
        dst: int,
        src: int,
        *,
        iif: str = "lo",
        oif: str | None = None,
        mark: int = 0,
        tos: int = 0,
        proto: int = 0,
        sport: int = 0,
        dport: int = 0,
        vrf: str | None = None,
        has_src: bool = True,
    ) -> None:
        self.dst = dst
        self.src = src
        self.iif = iif
        self.oif = oif
        self.mark = mark
        self.tos = tos
        self.proto = proto
        self.sport = sport
        self.dport = dport
        self.vrf = vrf
        self.has_src = has_src


Test = Callable[[FlowKey], bool]


class CompiledRule:
    """A rule with its selectors as one list of tests, inverted as a whole by ``not``."""

    __slots__ = (
        "action",
        "error",
        "group",
        "inverted",
        "l3mdev",
        "rule",
        "suppress",
        "table",
        "target",
        "tests",
        "text",
    )

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.text = str(rule)
        self.action = rule.action
        self.error = ACTION_ERRORS.get(rule.action, 0)
        self.table = rule.table or ""
        self.l3mdev = rule.l3mdev
        self.inverted = rule.inverted
        self.suppress = -1 if rule.suppress_prefixlength is None else rule.suppress_prefixlength
        self.group = rule.suppress_ifgroup
        self.target: int | None = None
        self.tests = _tests(rule)

    def matches(self, flow: FlowKey) -> bool:
        for test in self.tests:
            if not test(flow):
                return self.inverted
        return not self.inverted


def _tests(rule: Rule) -> list[Test]:
    tests: list[Test] = []
    version = rule.family
    if rule.unsupported:
        text = f"ip rule {rule.priority}: selector {', '.join(rule.unsupported)}"

        def refuse(_flow: FlowKey) -> bool:
            raise Unknown(text)

        return [refuse]
    if rule.iif is not None:
        iif = rule.iif
        tests.append(lambda f: f.iif == iif or f.vrf == iif)
    if rule.oif is not None:
        oif = rule.oif
        tests.append(lambda f: f.oif == oif)
    if rule.fwmark is not None or rule.fwmask is not None:
        mask = 0xFFFFFFFF if rule.fwmask is None else rule.fwmask
        mark = (rule.fwmark or 0) & mask
        tests.append(lambda f: f.mark & mask == mark)
    if rule.l3mdev:
        tests.append(lambda f: f.vrf is not None)
    if rule.uidrange is not None:
        low, high = rule.uidrange
        if not (low == 0 and high >= 0xFFFFFFFE):
            text = f"ip rule {rule.priority}: uidrange {low}-{high} and the sender's uid"

            def uid(f: FlowKey) -> bool:
                if f.iif != "lo":
                    return False  # INVALID_UID of a forwarded packet lies outside every range
                raise Unknown(text)

            tests.append(uid)
    if rule.dst != "all":
        network, length = ip.prefix(rule.dst, version)
        mask_dst = ip.mask(version, length)
        tests.append(lambda f: f.dst & mask_dst == network)
    if rule.src != "all":
        origin, length = ip.prefix(rule.src, version)
        if length:
            mask_src = ip.mask(version, length)
            if version == 4:
                tests.append(lambda f: f.src & mask_src == origin)
            else:
                tests.append(lambda f: f.has_src and f.src & mask_src == origin)
    if rule.tos:
        tos = rule.tos
        if version == 4:
            tests.append(lambda f: f.tos & TOS_MASK == tos)
        else:
            tests.append(lambda f: f.tos & 0xFC == tos)
    if rule.dscp is not None:
        dscp = rule.dscp << 2
        tests.append(lambda f: f.tos & 0xFC == dscp)
    if rule.ipproto is not None:
        proto = rule.ipproto
        tests.append(lambda f: f.proto == proto)
    if rule.sport is not None:
        sport_low, sport_high = rule.sport
        tests.append(lambda f: sport_low <= f.sport <= sport_high)
    if rule.dport is not None:
        dport_low, dport_high = rule.dport
        tests.append(lambda f: dport_low <= f.dport <= dport_high)
    return tests


def compile_rules(rules: tuple[Rule, ...]) -> list[CompiledRule]:
    """Rules in order, gotos resolved to the first rule of their target's priority."""
    compiled = [CompiledRule(rule) for rule in rules]
    for rule in compiled:
        if rule.action == "goto":
            wanted = rule.rule.goto
            rule.target = next((i for i, other in enumerate(compiled) if other.rule.priority == wanted), None)
    return compiled


def is_default(rules: tuple[Rule, ...]) -> bool:
    """Whether the rules are the built-in ones (net->ipv4.fib_has_custom_rules is false)."""
    wanted = default_rules(rules[0].family) if rules else ()
    if len(rules) != len(wanted):
        return False
    return (
        tuple(msgspec.structs.replace(rule, source=NOWHERE, time=None, where="") for rule in rules) == wanted
    )


class Fib4:
    """All IPv4 tables of a namespace behind its rules: ``lookup`` is fib_lookup."""

    def __init__(self, ns: NetNamespace, devices: dict[str, Device], routes: tuple[Route, ...]) -> None:
        objects = Objects(ns.nexthops)
        self.devices = devices
        tables: dict[str, list[Alias]] = {}
        for position, route in enumerate(routes):
            tables.setdefault(route.table, []).append(Alias(route, position, devices, objects))
        self.rules = compile_rules(ns.rules4) if ns.rules4 is not None else None
        self.custom = ns.rules4 is not None and not is_default(ns.rules4)
        self.covered = ns.route_tables4
        self.tables = {name: Table(aliases) for name, aliases in tables.items()}
        merged = [*tables.get("local", ()), *tables.get("main", ())]
        self.local = self.tables.get("local", Table(())) if self.custom else Table(merged)
        self.merged = self.local
        self.custom_local_routes = any(
            route.type == "local" and route.protocol not in ("kernel", None) for route in routes
        )
        self.wants_ports = any(
            rule.ipproto is not None or rule.sport is not None or rule.dport is not None
            for rule in ns.rules4 or ()
        )

    def _table(self, name: str) -> Table | None:
        if self.covered is not None and name not in self.covered and name not in ("local",):
            raise Unknown(f"routing table {name} (ip route show table {name})")
        return self.tables.get(name)

    def lookup(self, flow: FlowKey, *, ignore_linkstate: bool = False) -> Found:
        """fib_lookup: ``error`` is 0 or the errno; ``by`` is the rule that decided, None for the built-in ones."""
        if self.rules is None:
            raise Unknown("IPv4 policy rules (ip rule)")
        if not self.custom:
            return self._builtin(flow, ignore_linkstate)
        rules = self.rules
        index = 0
        while index < len(rules):
            rule = rules[index]
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
                return found
            name = rule.table
            if rule.l3mdev and flow.vrf is not None:
                name = self.devices[flow.vrf].vrf_table or ""
            table = self._table(name)
            found = (
                table.lookup(flow.dst, flow.tos, flow.oif, ignore_linkstate=ignore_linkstate)
                if table
                else MISS
            )
            if found.error == 0 and self._suppressed(rule, found):
                continue
            if found.error != EAGAIN:
                found.by = rule
                return found
        return Found(ENETUNREACH)

    def siblings(self, flow: FlowKey, alias: Alias, by: object | None) -> list[Alias]:
        """The default routes that local output may use in the place of ``alias`` (fib_select_default)."""
        if by is None and not self.custom and alias.table in ("main", "local"):
            return self.merged.default_siblings(alias, flow.tos)
        table = self.tables.get(alias.table)
        return table.default_siblings(alias, flow.tos) if table else [alias]

    def _suppressed(self, rule: CompiledRule, found: Found) -> bool:
        """fib4_rule_suppress: errors are never suppressed."""
        alias = found.alias
        if alias is None:
            return False
        if alias.length <= rule.suppress:
            return True
        if rule.group is not None and alias.legs:
            device = self.devices.get(alias.legs[0].dev)
            return device is not None and device.group == rule.group
        return False

    def _builtin(self, flow: FlowKey, ignore_linkstate: bool) -> Found:
        if self.covered is not None and "main" not in self.covered:
            raise Unknown("routing table main (ip route)")
        found = self.merged.lookup(flow.dst, flow.tos, flow.oif, ignore_linkstate=ignore_linkstate)
        if found.error == EAGAIN:
            default = self.tables.get("default")
            if default is not None:
                found = default.lookup(flow.dst, flow.tos, flow.oif, ignore_linkstate=ignore_linkstate)
        if found.error == EAGAIN:
            return Found(ENETUNREACH)
        return found
