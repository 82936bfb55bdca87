"""Saved servers, the proxy's expressions and its decisions."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from deadhop.fqdn import dns_rules, restore
from deadhop.fqdn.admission import AnyPeer, DNSProxy
from deadhop.fqdn.options import V1_13, V1_18, V1_19, Version
from deadhop.fqdn.selectors import FQDNSelector

from ..real_cilium import Oracle, call
from .cache import ask_sequence, some
from .cases import Area, Case, Outcomes, Random, plain_name
from .selectors import any_selector, error_of

# Saved servers.

SERVERS = (
    "1.2.3.4", "::1", "10.0.0.0/8", "10.1.2.3/8", "1.2.3.4@0", "1.2.3.4@5", "1.2.3.4@", "1.2.3.4@x", "172.18.0.0/16@0",
    "172.18.0.1/16@5", "", "x", "1.2.3", "1.2.3.04", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/08", "::1/129", "fe80::1%eth0",
    "fe80::1%eth0/64", "::ffff:1.2.3.4", "::ffff:1.2.3.4/120", "2001:DB8::1", "2001:db8:0:0::1", "0.0.0.0/0", "::/0",
    "1.2.3.4/+8", "1.2.3.4@4294967296", "1.2.3.4@4294967295", "1.2.3.4@00", "@0", "@", "/", "1.2.3.4@0@0", "1.2.3.4/8/8",
    " 1.2.3.4", "1.2.3.4/8@00000000000000", "fe80::1%", "1.2.3.4%eth0",
)  # fmt: skip


def make_servers(rng: Random) -> Case:
    case = []
    for _ in range(20):
        item = rng.choice(SERVERS)
        if rng.random() < 0.4:
            at = rng.randrange(len(item) + 1)
            item = item[:at] + rng.choice("0123456789abcdef:./@%") + item[at + rng.randrange(2) :]
        case.append(item)
    return case


def real_servers(oracle: Oracle, _: Version, case: Case) -> Outcomes:
    answers = oracle.ask([call("restore.parse", item) for item in case])
    return [
        ("error", answer["error"] == "IP or CIDR from remote cluster") if isinstance(answer, dict) else answer
        for answer in answers
    ]


def our_servers(_: Version, case: Case) -> Outcomes:
    outcomes: Outcomes = []
    for item in case:
        try:
            server = restore.parse_rule_server(item)
            outcomes.append([server.is_addr, str(server)])
        except ValueError as error:
            outcomes.append(("error", isinstance(error, restore.RemoteClusterError)))
    return outcomes


# The proxy's rules.


def any_rule(rng: Random) -> dict[str, str]:
    """A rule that every version's policy accepts."""
    while True:
        rule = any_selector(rng)
        if not dns_rules.dns_rule_complaint(FQDNSelector.read(rule), V1_19):
            return rule


def any_rules(rng: Random) -> dict[str, Any]:
    if rng.random() < 0.1:
        return {"Plain": True}
    return {"DNS": [any_rule(rng) for _ in range(rng.randrange(4))]}


def rules_read(item: dict[str, Any]) -> tuple[FQDNSelector, ...] | None:
    return None if item.get("Plain") else tuple(FQDNSelector.read(rule) for rule in item["DNS"])


def make_proxy_patterns(rng: Random) -> Case:
    return [[any_rules(rng), [plain_name(rng) for _ in range(6)]] for _ in range(8)]


def real_proxy_patterns(oracle: Oracle, _: Version, case: Case) -> Outcomes:
    outcomes: Outcomes = []
    for rules, names in case:
        (regex,) = oracle.ask([call("dnsproxy.Pattern", rules)])
        matched = oracle.ask([call("regexp.MatchString", regex, name) for name in names])
        outcomes.append((regex, matched))
    return outcomes


def our_proxy_patterns(version: Version, case: Case) -> Outcomes:
    outcomes: Outcomes = []
    for rules, names in case:
        expression = dns_rules.generate_pattern(rules_read(rules), version)
        matched = [expression.matches(name) for name in names]
        reread = dns_rules.expression_from_regex(expression.regex)
        assert matched == [reread.matches(name) for name in names], expression.regex
        outcomes.append((expression.regex, matched))
    return outcomes


# The proxy's decisions, with rules restored after a restart.

IDENTITIES = (101, 102, 103)
SERVERS_OF = {101: ["1.2.3.4", "1.2.3.5", "::1"], 102: ["1.2.3.4", "10.9.0.1"], 103: []}
PROTOCOL_NUMBERS = {None: 0, "TCP": 6, "UDP": 17}


def any_selected(rng: Random) -> dict[str, Any]:
    peer: dict[str, Any] = {"Any": True}
    if rng.random() < 0.8:
        peer = {"Identities": sorted({rng.choice(IDENTITIES) for _ in range(rng.randrange(1, 3))})}
    return {**peer, **any_rules(rng)}


def make_proxy_ops(rng: Random) -> Case:
    ops: Case = [["new", rng.choice((0, 1, 2, 1000)), rng.choice(("plain", "cidr"))]]
    for _ in range(rng.randrange(4, 22)):
        endpoint, port = rng.randrange(1, 4), rng.choice((53, 54))
        protocol = rng.choice(("UDP", "UDP", "TCP", None))
        kind = rng.choice(
            ("update", "update", *["check"] * 8, "restore", "used", "restored", "allowed", "rules")
        )
        match kind:
            case "update":
                ops.append(
                    [kind, endpoint, port, protocol, [any_selected(rng) for _ in range(rng.randrange(4))]]
                )
            case "check":
                server = rng.choice(("1.2.3.4", "1.2.3.5", "10.9.0.1", "::1", "::ffff:10.9.0.1"))
                name = plain_name(rng)
                name = rng.choice((name, name.upper(), name.removesuffix(".")))
                ops.append([kind, endpoint, port, protocol, rng.choice((*IDENTITIES, 999)), server, name])
            case "restore":
                saved = {}
                for _ in range(rng.randrange(1, 4)):
                    key = restore.PortProto(rng.choice((53, 54)), rng.choice(("UDP", "TCP", None)))
                    saved[str(key.number)] = [[any_rules(rng), some(rng, RESTORED_SERVERS, 2)]]
                ops.append([kind, endpoint, saved])
            case "used":
                ops.append([kind, rng.choice(("1.2.3.4", "10.9.0.1"))])
            case _:
                ops.append([kind, endpoint])
    return ops


RESTORED_SERVERS = ("1.2.3.4", "10.9.0.1", "::1", "10.0.0.0/8", "1.2.3.5/32", "::/0", "::ffff:10.9.0.1")


def saved_rules_of(saved: dict[str, Any], version: Version) -> dict[str, Any]:
    """A state file's rules; up to 1.12 the key is the port."""
    made: dict[str, Any] = {}
    for key, listed in saved.items():
        number = str(int(key) & 0xFFFF) if version < V1_13 else key
        made[number] = [
            {
                "Re": dns_rules.generate_pattern(rules_read(rules), version).regex,
                "IPs": {ip: {} for ip in servers} or None,
            }
            for rules, servers in listed
        ]
    return made


def servers_of(kind: str) -> dict[int, list[str]]:
    extra = {103: ["10.0.0.0/8", "1.2.3.4@7"]} if kind == "cidr" else {}
    return {**SERVERS_OF, **extra}


def real_proxy_calls(op: list[Any], version: Version, _at: int) -> list[dict[str, Any]]:
    match op:
        case ["new", limit, kind]:
            return [call("dnsproxy.New", limit, servers_of(kind if version >= V1_18 else "plain"), into="p")]
        case ["update", endpoint, port, protocol, rules]:
            return [call("$p.Update", endpoint, port, PROTOCOL_NUMBERS[protocol], rules)]
        case ["check", endpoint, port, protocol, *rest]:
            return [call("$p.Check", endpoint, port, PROTOCOL_NUMBERS[protocol], *rest)]
        case ["restore", endpoint, saved]:
            return [call("$p.Restore", endpoint, saved_rules_of(saved, version))]
        case ["used", ip]:
            return [call("$p.Used", ip)]
        case ["restored", _]:
            return [call("$p.Restored")]
        case ["allowed", endpoint]:
            return [call("$p.Allowed", endpoint)]
        case ["rules", endpoint]:
            return [call("$p.RulesJSON", endpoint)]
    raise AssertionError(op)


def saved_outcome(saved: dict[str, Any]) -> dict[str, Any]:
    return {
        key: sorted([rule["Re"], sorted(rule["IPs"] or {})] for rule in listed)
        for key, listed in saved.items()
    }


def real_proxy_outcome(kind: str, answer: Any, _: Version) -> Any:
    match kind:
        case "check" | "restored" | "allowed":
            return answer
        case "rules":
            return saved_outcome(json.loads(answer))
    return error_of(answer) or None


def real_proxy(oracle: Oracle, version: Version, case: Case) -> Outcomes:
    return ask_sequence(oracle, version, case, real_proxy_calls, real_proxy_outcome)


class Peer(msgspec.Struct, frozen=True):
    """A selector that is equal to no other."""

    number: int
    members: tuple[int, ...]

    def selects(self, identity: int) -> bool:
        return identity in self.members


def our_proxy_op(proxy: DNSProxy, op: list[Any], known: dict[int, list[str]], limit: int) -> Any:
    match op:
        case ["update", endpoint, port, protocol, rules]:
            listed: dict[Any, Any] = {}
            for number, one in enumerate(rules):
                peer = Everyone(number) if one.get("Any") else Peer(number, tuple(one["Identities"]))
                listed[peer] = rules_read(one)
            proxy.update_allowed(endpoint, port, protocol, listed)
        case ["check", endpoint, port, protocol, identity, ip, name]:
            return bool(proxy.check_allowed(endpoint, port, protocol, identity, ip, name))
        case ["restore", endpoint, saved]:
            rules, complaints = restore.rules_from_json(saved_rules_of(saved, proxy.version))
            proxy.restore_rules(endpoint, rules)
            return "; ".join(complaints) or None
        case ["used", ip]:
            proxy.used_servers.add(ip)
        case ["restored", _]:
            return sorted(proxy.restored)
        case ["allowed", endpoint]:
            return len(proxy.allowed.get(endpoint, {}))
        case ["rules", endpoint]:
            if endpoint not in proxy.allowed:
                return {}
            addresses = {
                peer: [ip for one in peer.members for ip in known[one]]
                for ports in proxy.allowed.get(endpoint, {}).values()
                for peer in ports
                if isinstance(peer, Peer)
            }
            return saved_outcome(restore.rules_to_json(proxy.saved_rules(endpoint, addresses, limit)))
    return None


class Everyone(AnyPeer, frozen=True):
    """The wildcard selector, as many times as rules have it."""

    number: int


def our_proxy(version: Version, case: Case) -> Outcomes:
    _, limit, kind = case[0]
    proxy = DNSProxy(version)
    known = servers_of(kind if version >= V1_18 else "plain")
    return [None, *(our_proxy_op(proxy, op, known, limit) for op in case[1:])]


AREAS = (
    Area("saved servers", make_servers, real_servers, our_servers, V1_18),
    Area("proxy expressions", make_proxy_patterns, real_proxy_patterns, our_proxy_patterns),
    Area("proxy", make_proxy_ops, real_proxy, our_proxy),
)
