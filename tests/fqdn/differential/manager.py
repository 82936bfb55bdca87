"""The name manager: what names put on addresses, through GC."""

from __future__ import annotations

from typing import Any

from deadhop.fqdn.gc import Endpoint, dns_gc
from deadhop.fqdn.identity import NameManager
from deadhop.fqdn.options import V1_18, Options, Version
from deadhop.fqdn.selectors import FQDNSelector

from ..real_cilium import Oracle, call
from .cache import IPS, NAMES, ask_sequence, some
from .cases import Area, Case, Outcomes, Random

# The name manager: what names put on addresses, through GC. Cilium takes the time of its clock, so ours is 0.

MANAGER_KINDS = (
    *["learn"] * 6, *["collect"] * 3, "history", "register", "register", "unregister", "attach", "detach", "conntrack",
    "metadata", "global",
)  # fmt: skip
MANAGER_SELECTORS = (
    {"matchName": "a"},
    {"matchPattern": "*"},
    {"matchPattern": "*.io"},
    {"matchPattern": "*.*.io"},
    {"matchName": "c.io."},
    {"matchPattern": "**.io"},
    {"matchPattern": "c*.io"},
)


def make_manager_ops(rng: Random) -> Case:
    ops: Case = [["new", rng.choice((0, 120)), rng.choice((0, 0, 3)), rng.random() < 0.85]]
    clock = -1000
    registered: list[dict[str, str]] = []
    for _ in range(rng.randrange(4, 26)):
        clock = min(clock + rng.randrange(8) * 10, -10)  # no answer comes from the future
        kind = rng.choice(MANAGER_KINDS)
        match kind:
            case "learn" | "history":
                # Nothing runs out within a second of the collector's own clock.
                ips = some(rng, IPS, 2) or ["1.1.1.1"]
                ops.append(
                    [kind, rng.choice((1, 2)), clock, rng.choice(NAMES), ips, rng.choice((0, 45, 355, 5005))]
                )
            case "register" | "unregister":
                # The selector cache registers a selector for its first user only.
                selector = rng.choice(MANAGER_SELECTORS)
                if kind == "register" and selector in registered:
                    continue
                registered = [other for other in registered if other != selector]
                registered += [selector] if kind == "register" else []
                ops.append([kind, selector])
            case "attach" | "detach":
                ops.append([kind, rng.choice((1, 1, 2))])
            case "conntrack":
                ops.append([kind, rng.choice((1, 2)), clock, some(rng, IPS)])
            case _:
                ops.append([kind])
    return [*ops, ["metadata"], ["global"]]


def real_manager_calls(op: list[Any], _: Version, _at: int) -> list[dict[str, Any]]:
    kind, *rest = op
    if kind == "new":
        return [call("setIdleGrace", 0), call("namemanager.New", *rest, into="m")]
    return [call(f"$m.{kind.capitalize()}", *rest)]


def real_manager_outcome(kind: str, answer: Any, _: Version) -> Any:
    return answer if kind in ("learn", "metadata", "global") else None


def real_manager(oracle: Oracle, version: Version, case: Case) -> Outcomes:
    return ask_sequence(oracle, version, case, real_manager_calls, real_manager_outcome)


def our_manager(version: Version, case: Case) -> Outcomes:
    _, min_ttl, limit, bootstrapped = case[0]
    manager = NameManager(version, min_ttl=min_ttl)
    manager.bootstrapped = bootstrapped
    options = Options(min_ttl=0, max_ips_per_hostname=limit)
    every = {number: Endpoint(number, version, options) for number in (1, 2)}
    known: dict[int, Endpoint] = {}
    outcomes: Outcomes = [None]
    for op in case[1:]:
        outcome: Any = None
        match op:
            case ["learn", number, at, name, ips, ttl]:
                outcome = manager.update(at, name, ips, ttl, every[number].history).waits
            case ["history", number, at, name, ips, ttl]:
                every[number].history.update(at, name, ips, ttl)
            case ["register", selector]:
                if FQDNSelector.read(selector) not in manager.index:
                    manager.register(FQDNSelector.read(selector))
            case ["unregister", selector]:
                manager.unregister(FQDNSelector.read(selector))
            case ["attach", number]:
                known[number] = every[number]
            case ["detach", number]:
                known.pop(number, None)
            case ["conntrack", number, at, ips]:
                for ip in ips:
                    every[number].zombies.mark_alive(at, ip)
                every[number].zombies.set_ct_gc_time(at, at + 60)
            case ["collect"]:
                dns_gc(manager, list(known.values()), 0.5)
            case ["metadata"]:
                listed = {ip: manager.labels_by_name(ip) for ip in IPS}
                outcome = {
                    ip: {name: sorted(labels) for name, labels in by_name.items()}
                    for ip, by_name in listed.items()
                    if by_name
                }
            case ["global"]:
                outcome = {name: sorted(ips) for name, ips in manager.cache.forward.items()}
        outcomes.append(outcome)
    return outcomes


AREAS = (Area("name manager", make_manager_ops, real_manager, our_manager, V1_18),)
