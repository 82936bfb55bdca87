"""Random questions for Cilium's own code and for ``deadhop.fqdn``, area by area, and the smallest that tells them apart.

A case is a list; each element is asked or done in order and gives one outcome on either side. A disagreement is
shrunk by leaving elements out.
"""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec

from deadhop.fqdn import answers, dns_rules, flows, patterns, restore, rule_validation, selectors, zombies
from deadhop.fqdn.admission import AnyPeer, DNSProxy
from deadhop.fqdn.cache import DNSCache, Entry
from deadhop.fqdn.clock import ZERO
from deadhop.fqdn.formats import tabwriter
from deadhop.fqdn.gc import Endpoint, dns_gc
from deadhop.fqdn.identity import NameManager
from deadhop.fqdn.names import fqdn, is_fqdn
from deadhop.fqdn.options import V1_12, V1_13, V1_14, V1_16, V1_18, V1_19, V1_20, Options, Version
from deadhop.fqdn.selectors import FQDNSelector
from deadhop.wire.dns import read_message

from .real_cilium import Oracle, call

Case = list[Any]
Outcomes = list[Any]
Random = random.Random


class Area:
    """``make`` draws a case; ``real`` and ``ours`` give an outcome for each of its elements."""

    def __init__(
        self,
        name: str,
        make: Callable[[Random], Case],
        real: Callable[[Oracle, Version, Case], Outcomes],
        ours: Callable[[Version, Case], Outcomes],
        since: Version = V1_12,
    ) -> None:
        self.name = name
        self.make = make
        self.real = real
        self.ours = ours
        self.since = since

    def differ(self, oracle: Oracle, version: Version, case: Case) -> tuple[Any, Any, Any] | None:
        """The first element with two outcomes, as (element, real, ours).

        Limits evict the least important first, and between equals the order of a Go map decides, anew each time:
        what Cilium sometimes does is no disagreement.
        """
        ours = self.ours(version, case)
        found = None
        for _ in range(TRIES):
            real = self.real(oracle, version, case)
            if real == ours:
                return None
            found = next(both for both in zip(case, real, ours, strict=True) if both[1] != both[2])
        return found

    def shrink(self, oracle: Oracle, version: Version, case: Case) -> Case:
        """The case without the elements that the disagreement does not need."""
        size = max(1, len(case) // 2)
        first = int(isinstance(case[0], list) and case[0][0] == "new")
        while True:
            at = first
            while at < len(case):
                fewer = case[:at] + case[at + size :]
                if len(fewer) > first and self.differ(oracle, version, fewer):
                    case = fewer
                else:
                    at += size
            if size == 1:
                return case
            size //= 2


TRIES = 100

LABELS = ("a", "b", "cilium", "io", "www", "a-b", "x_y", "A", "Cilium", "9", "sub", "com", "k8s")
STARRED = ("*", "**", "***", "*a", "a*", "a*b", "**b", "a**", "*a*", "s*b", "*-*", "*_")
ODD = (
    "",
    "",
    " ",
    "\t",
    "\\",
    "a\\",
    "ü",
    "K",
    "İ",
    "ſ",
    "+",
    "[a]",
    "{",
    "a,b",
    "a?b",
    "(",
    "$",
    "^",
    "|",
    "#",
    "@",
    '"',
    "\n",
)


def text(rng: Random, *, stars: bool = True, odd: float = 0.15, long: float = 0.03) -> str:
    """A name or a pattern, mostly one that could be meant."""
    if rng.random() < long:
        labels = ["a" * rng.randrange(1, 64) for _ in range(rng.randrange(3, 6))]
        made = ".".join(labels)
        return made.ljust(rng.choice((253, 254, 255, 256)), rng.choice("ab"))[
            : rng.choice((253, 254, 255, 256))
        ]
    labels = []
    for _ in range(rng.randrange(1, 5)):
        pool = ODD if rng.random() < odd else STARRED if stars and rng.random() < 0.4 else LABELS
        labels.append(rng.choice(pool))
    made = ".".join(labels)
    made += rng.choice(("", "", ".", ".", "..", "\\.", "\\\\.")) if rng.random() < 0.6 else ""
    made = rng.choice(("", "", "", "", ".", "*", "**", "**.")) + made if stars else made
    return f" {made} " if rng.random() < odd / 10 else made


def plain_name(rng: Random) -> str:
    """A canonical name, near what patterns of :func:`text` match."""
    if rng.random() < 0.05:
        return rng.choice((".", "", "a", "..", "a..b.", ".a.", "a.b", "a.\n"))
    pool = (
        "a",
        "b",
        "ab",
        "aab",
        "cilium",
        "io",
        "www",
        "a-b",
        "x_y",
        "9",
        "sub",
        "sxb",
        "com",
        "k8s",
        "-",
        "_",
    )
    return ".".join(rng.choice(pool) for _ in range(rng.randrange(1, 5))) + "."


# Names and patterns.


def ascii_text(rng: Random) -> str:
    """As :func:`text`, in ASCII: a DNS message holds nothing else, and policies refuse it before."""
    return text(rng).encode("ascii", "ignore").decode()


def make_names(rng: Random) -> Case:
    return [ascii_text(rng) for _ in range(20)]


def real_names(oracle: Oracle, _: Version, case: Case) -> Outcomes:
    answers = oracle.ask([call(name, item) for item in case for name in ("dns.FQDN", "dns.isFQDN")])
    return list(zip(answers[::2], answers[1::2], strict=True))


def our_names(_: Version, case: Case) -> Outcomes:
    return [(fqdn(item), is_fqdn(item)) for item in case]


def compiles_here(pattern: str) -> bool:
    """Up to 1.18 Cilium lets through any character here, those with a meaning to RE2 too, and we do not."""
    return re.fullmatch(r"[-a-zA-Z0-9_.*]*", pattern.strip()) is not None


def make_patterns(rng: Random) -> Case:
    return [[ascii_text(rng), [plain_name(rng) for _ in range(6)]] for _ in range(8)]


def real_patterns(oracle: Oracle, version: Version, case: Case) -> Outcomes:
    outcomes = []
    for pattern, names in case:
        sanitized, anchored, checked = oracle.ask(
            [call(f"matchpattern.{name}", pattern) for name in ("Sanitize", "ToAnchoredRegexp", "Validate")]
        )
        unanchored = None
        if version >= V1_14:
            (unanchored,) = oracle.ask([call("matchpattern.ToUnAnchoredRegexp", pattern)])
        usable = compiles_here(pattern)
        matched: Any = "not compared"
        if usable and isinstance(checked, str):
            matched = oracle.ask([call("regexp.MatchString", anchored, name) for name in names])
        refused = isinstance(checked, dict) and "error parsing regexp" not in checked["error"]
        outcomes.append((sanitized, anchored, unanchored, checked if usable or refused else 0, matched))
    return outcomes


def our_patterns(version: Version, case: Case) -> Outcomes:
    outcomes: Outcomes = []
    for pattern, names in case:
        checked: Any = 0
        matched: Any = "not compared"
        try:
            patterns.check(pattern, version)
            if compiles_here(pattern):
                checked = patterns.to_anchored_regex(pattern, version)
                compiled = patterns.compile_pattern(pattern, version)
                matched = [compiled.matches(name) for name in names]
        except patterns.PatternError as error:
            checked = {"error": str(error)}
        outcomes.append(
            (
                patterns.sanitize(pattern, version),
                patterns.to_anchored_regex(pattern, version),
                patterns.to_unanchored_regex(pattern, version) if version >= V1_14 else None,
                checked,
                matched,
            )
        )
    return outcomes


# Selectors.


def any_selector(rng: Random) -> dict[str, str]:
    kind = rng.random()
    if kind < 0.45:
        return {"matchName": text(rng, stars=rng.random() < 0.1)}
    if kind < 0.9:
        return {"matchPattern": text(rng)}
    return {"matchName": text(rng, stars=False), "matchPattern": text(rng)} if kind < 0.95 else {}


def error_of(answer: Any) -> str:
    return answer["error"] if isinstance(answer, dict) and "error" in answer else ""


def make_selectors(rng: Random) -> Case:
    return [[any_selector(rng), [plain_name(rng) for _ in range(4)]] for _ in range(10)]


def real_selectors(oracle: Oracle, version: Version, case: Case) -> Outcomes:
    outcomes: Outcomes = []
    for item, names in case:
        made, checked, rule, regex = oracle.ask(
            [
                call("api.FQDNSelector.String", item),
                call("api.FQDNSelector.sanitize", item),
                call("api.PortRuleDNS.Sanitize", item),
                call("api.FQDNSelector.ToRegex", item),
            ]
        )
        label = oracle.ask([call("api.FQDNSelector.IdentityLabel", item)])[0] if version >= V1_16 else None
        matched = None
        if not error_of(checked) and not error_of(regex):
            matched = oracle.ask([call("regexp.MatchString", regex, name) for name in names])
        valid = not error_of(checked)
        outcomes.append((made, error_of(checked), error_of(rule), valid and regex, valid and label, matched))
    return outcomes


def our_selectors(version: Version, case: Case) -> Outcomes:
    outcomes: Outcomes = []
    for item, names in case:
        selector = FQDNSelector.read(item)
        complaint = selectors.selector_complaint(selector, version)
        regex: Any = False
        matched = None
        if not complaint:
            try:
                compiled = selector.compile(version)
                regex = selector.regex(version)
                matched = [compiled.matches(name) for name in names]
                index = selectors.SelectorIndex(version, [selector])
                assert matched == [bool(index.match(name)) for name in names], (item, names)
            except patterns.PatternError as error:
                regex = {"error": str(error)}
        outcomes.append(
            (
                str(selector),
                complaint,
                dns_rules.dns_rule_complaint(selector, version),
                regex,
                not complaint and (selector.label if version >= V1_16 else None),
                matched,
            )
        )
    return outcomes


# What the API server's schema says of the two fields; RE2 decides as it does.


def make_fields(rng: Random) -> Case:
    return [[rng.choice(("matchName", "matchPattern")), text(rng)] for _ in range(20)]


def real_fields(oracle: Oracle, _: Version, case: Case) -> Outcomes:
    asked = [call("regexp.MatchString", selectors.CRD_PATTERNS[field], value) for field, value in case]
    return oracle.ask(asked)


def our_fields(_: Version, case: Case) -> Outcomes:
    """As before the fields had a greatest length."""
    return [not selectors.crd_field_complaint(field, value, V1_16) for field, value in case]


# Rules.


def any_port(rng: Random) -> dict[str, Any]:
    port: Any = rng.choice(
        ("53", "53", "80", "0", "65535", "65536", "dns", "DNS", "a-b", "a--b", "-a", "1a", "0x10", "0x1g", "0b1",
         "0o17", "017", "08", "1_000", "1__0", "_1", "1_", "0_7", "", "-1", "+53", " 53", "53 ", "abcdefghijklmnop",
         "99999999999999999999", "0x", "0B1", "0X1F", "0x_1", "00", "5 3", "5.3", "dns-tcp", "1-2")
    )  # fmt: skip
    made: dict[str, Any] = {"port": port} if rng.random() < 0.97 else {}
    if rng.random() < 0.7:
        made["protocol"] = rng.choice(
            ("TCP", "UDP", "ANY", "TCP", "UDP", "ANY", "tcp", "udp", "SCTP", "ICMP", "ICMPv6", "ICMPV6", "VRRP",
             "IGMP", "igmp", "GRE", "X", "", "IPIP", "ESP", "AH", "IPv6", "any", "all")
        )  # fmt: skip
    if rng.random() < 0.2:
        made["endPort"] = rng.choice((0, 1, 52, 53, 54, 60, 80, 65535))
    return made


def any_port_rule(rng: Random) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if rng.random() < 0.95:
        count = rng.choice((0, 1, 1, 1, 2, 3, 40, 41)) if rng.random() < 0.3 else 1
        made["ports"] = [
            any_port(rng) if rng.random() < 0.5 else {"port": "53", "protocol": "ANY"} for _ in range(count)
        ]
    rules: dict[str, Any] = {}
    if rng.random() < 0.7:
        rules["dns"] = [any_selector(rng) for _ in range(rng.randrange(3))]
    if rng.random() < 0.15:
        rules["http"] = [{"method": "GET"}] if rng.random() < 0.8 else []
    if rules or rng.random() < 0.1:
        made["rules"] = rules
    if rng.random() < 0.05:
        made["serverNames"] = [rng.choice(("a.com", ""))]
    return made


CIDRS = (
    "10.0.0.0/8",
    "1.2.3.4/32",
    "1.2.3.4",
    "::/0",
    "10.0.0.1/33",
    "x",
    "",
    "1.2.3.4/08",
    "fe80::1%eth0/64",
    "::1",
)


def any_egress(rng: Random) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if rng.random() < 0.6:
        made["toFQDNs"] = [any_selector(rng) for _ in range(rng.randrange(3))]
    if rng.random() < 0.15:
        made["toCIDR"] = [rng.choice(CIDRS) for _ in range(rng.randrange(3))]
    if rng.random() < 0.15:
        made["toCIDRSet"] = [{"cidr": rng.choice(CIDRS)} for _ in range(rng.randrange(3))]
    if rng.random() < 0.15:
        made["toEntities"] = [
            rng.choice(("world", "cluster", "all", "host", "nobody", "none", "kube-apiserver"))
        ]
    if rng.random() < 0.15:
        made["toEndpoints"] = [{"matchLabels": {"a": "b"}}] if rng.random() < 0.8 else []
    if rng.random() < 0.1:
        made["toServices"] = [{"k8sService": {"serviceName": "a", "namespace": "b"}}]
    if rng.random() < 0.08:
        made["icmps"] = [{"fields": [{"type": 8, "family": "IPv4"}]}]
    if rng.random() < 0.6:
        made["toPorts"] = [any_port_rule(rng) for _ in range(rng.randrange(3))]
    return made


def make_port_rules(rng: Random) -> Case:
    return [[any_port_rule(rng), rng.random() < 0.15] for _ in range(20)]


def real_port_rules(oracle: Oracle, _: Version, case: Case) -> Outcomes:
    return [
        error_of(answer) for answer in oracle.ask([call("api.PortRule.sanitize", *item) for item in case])
    ]


def our_port_rules(version: Version, case: Case) -> Outcomes:
    return [
        rule_validation.port_rule_complaint(rule, ingress=ingress, version=version) for rule, ingress in case
    ]


def make_egress(rng: Random) -> Case:
    return [any_egress(rng) for _ in range(20)]


def any_order(complaint: str) -> str:
    """The members of a combination come out of a map; what Go's address parser says is not compared."""
    complaint = re.sub(r"(nable to parse CIDR(Rule \".*\")?: ).*", r"\1", complaint, flags=re.S)
    words = complaint.split(" ")
    if words[0].lower() == "combining" and words[3] != "ToPorts":
        words[1], words[3] = "X", "Y"
    return " ".join(words)


def real_egress(oracle: Oracle, _: Version, case: Case) -> Outcomes:
    return [
        any_order(error_of(answer))
        for answer in oracle.ask([call("api.EgressRule.sanitize", i) for i in case])
    ]


def our_egress(version: Version, case: Case) -> Outcomes:
    return [any_order(rule_validation.egress_complaint(item, version)) for item in case]


# Caches. Times are quarters of a second: exact in a float and in Go.

NAMES = ("a.", "b.", "c.io.", "d.io.", "x.c.io.", "*.io.")
IPS = ("1.1.1.1", "1.1.1.2", "1.1.1.3", "2.2.2.2", "10.0.0.1", "::1", "2001:db8::1")
REGEXES = ("^a[.]$", ".*io[.]", "^[ab][.]$", "^$", ".*")


def moment(rng: Random) -> float:
    return 1000.0 + rng.randrange(120) / rng.choice((1, 1, 4))


def some(rng: Random, pool: tuple[str, ...], most: int = 3) -> list[str]:
    return [rng.choice(pool) for _ in range(rng.randrange(most + 1))]


def make_cache_ops(rng: Random) -> Case:
    ops: Case = [["new", rng.choice((0, 0, 5, 30)), rng.choice((0, 0, 1, 2, 3)), rng.random() < 0.85]]
    for _ in range(rng.randrange(3, 25)):
        kind = rng.choice(CACHE_KINDS)
        match kind:
            case "update":
                # Under a limit one address at a time: those of one answer are equals.
                ips = some(rng, IPS, 1 if ops[0][2] and rng.random() < 0.8 else 3)
                ops.append([kind, moment(rng), rng.choice(NAMES), ips, rng.choice((0, 1, 5, 10, 60))])
            case "gc" | "cleanup_expired":
                ops.append([kind, moment(rng) + 20])
            case "lookup" | "lookup_at":
                ops.append([kind, rng.choice(NAMES), moment(rng)])
            case "lookup_ip" | "lookup_ip_at":
                ops.append([kind, rng.choice(IPS), moment(rng)])
            case "lookup_regex" | "lookup_regex_at":
                ops.append([kind, rng.choice(REGEXES), moment(rng)])
            case "force_expire":
                ops.append([kind, rng.choice((None, moment(rng))), rng.choice((None, *REGEXES))])
            case "update_from" | "replace":
                updates = [
                    [moment(rng), rng.choice(NAMES), some(rng, IPS), rng.choice((0, 5, 60))]
                    for _ in range(rng.randrange(1, 4))
                ]
                ops.append([kind, updates, sorted(set(some(rng, NAMES)))])
            case _:
                ops.append([kind])
    return ops


CACHE_KINDS = (
    *["update"] * 8, "gc", "gc", "lookup", "lookup_at", "lookup_ip", "lookup_ip_at", "lookup_regex",
    "lookup_regex_at", "cleanup_expired", "cleanup_over", "force_expire", "update_from", "replace", "dump", "names",
    "ips", "count", "last_cleanup", "cleanup_count", "json", "saved",
)  # fmt: skip


def as_list(answer: Any) -> list[str]:
    return sorted(answer or [])


def flat(removed: Any) -> list[list[Any]]:
    """Removed entries by address, as pairs of address and name."""
    return sorted([ip, entry["Name"]] for ip, entries in (removed or {}).items() for entry in entries)


def real_cache_calls(op: list[Any], version: Version, at: int) -> list[dict[str, Any]]:
    """The calls of one operation; the last one's answer is the outcome."""
    match op:
        case ["new", min_ttl, limit, tracked]:
            calls = [call("fqdn.NewDNSCacheWithLimit", min_ttl, limit, into="c")]
            return calls if tracked else [*calls, call("$c.DisableCleanupTrack")]
        case ["update", time, name, ips, ttl]:
            return [call("$c.Update", time, name, ips, ttl)]
        case ["gc", time]:
            return [call("$c.GC", time, None)]
        case ["cleanup_expired", time]:
            return [call("fqdn.DNSCache.cleanupExpiredEntries", "$c", time)]
        case ["cleanup_over"]:
            return [call("fqdn.DNSCache.cleanupOverLimitEntries", "$c")]
        case ["lookup", name, _]:
            return [call("$c.Lookup", name)]
        case ["lookup_at", name, time]:
            return [call("fqdn.DNSCache.lookupByTime", "$c", time, name)]
        case ["lookup_ip", ip, _]:
            return [call("$c.LookupIP", ip)]
        case ["lookup_ip_at", ip, time]:
            return [call("fqdn.DNSCache.lookupIPByTime", "$c", time, ip)]
        case ["lookup_regex", regex, _]:
            return [call("$c.LookupByRegexp", regex)]
        case ["lookup_regex_at", regex, time]:
            return [call("fqdn.DNSCache.lookupByRegexpByTime", "$c", time, regex)]
        case ["force_expire", before, regex]:
            return [call("$c.ForceExpire", before, regex)]
        case ["update_from", updates, names]:
            other = [call("fqdn.NewDNSCache", 0, into=f"o{at}")]
            other += [call(f"$o{at}.Update", *update) for update in updates]
            more = [] if version >= V1_19 else [names]
            return [*other, call("$c.UpdateFromCache", f"$o{at}", *more)]
        case ["replace", updates, names]:
            other = [call("fqdn.NewDNSCache", 0, into=f"o{at}")]
            other += [call(f"$o{at}.Update", *update) for update in updates]
            return [*other, call("$c.ReplaceFromCacheByNames", names, f"$o{at}")]
        case ["dump"]:
            return [call("$c.Dump")]
        case ["names"]:
            return [call("fqdn.DNSCache.names", "$c")]
        case ["ips"]:
            return [call("fqdn.DNSCache.ips", "$c")]
        case ["count"]:
            return [call("$c.Count")]
        case ["last_cleanup"]:
            return [call("fqdn.DNSCache.lastCleanup", "$c")]
        case ["cleanup_count"]:
            return [call("fqdn.DNSCache.cleanupCount", "$c")]
        case ["json"]:
            return [call("$c.MarshalJSON", into="json"), call("$c.UnmarshalJSON", "$json")]
        case ["saved"]:
            return [call("$c.MarshalJSON")]
    raise AssertionError(op)


def numeric(ips: list[str]) -> list[str]:
    return sorted(ips, key=lambda ip: (":" in ip, int(ip_address(ip))))


def entry_key(name: str, lookup: float, expiration: float, ttl: int, ips: list[str]) -> list[Any]:
    return [name, lookup, expiration, ttl, numeric(ips)]


def saved_entries(text: str) -> list[Any]:
    """A saved history, its entries and their addresses in an order of their own."""
    return sorted(
        json.dumps({**entry, "ips": sorted(entry.get("ips", []))}) for entry in json.loads(text) or []
    )


def saved_zombies(text: str) -> Any:
    return {
        ip: {**zombie, "names": sorted(zombie["names"])}
        for ip, zombie in json.loads(text).get("deletes", {}).items()
    }


def real_cache_outcome(kind: str, answer: Any, version: Version) -> Any:
    match kind:
        case "update":
            return [answer["Updated"], answer["Upserted"]] if version >= V1_19 else answer
        case "update nothing":
            return None
        case "gc" | "force_expire" | "names" | "ips":
            return as_list(answer)
        case "cleanup_expired" | "cleanup_over":
            return [as_list(answer[0]), flat(answer[1])]
        case "lookup" | "lookup_at":
            return numeric(answer or [])
        case "lookup_ip" | "lookup_ip_at":
            return answer or []
        case "lookup_regex" | "lookup_regex_at":
            return {name: numeric(ips) for name, ips in answer.items()}
        case "dump":
            keys = ("Name", "LookupTime", "ExpirationTime", "TTL", "IPs")
            return sorted(entry_key(*(entry[key] for key in keys)) for entry in answer)
        case "saved":
            return saved_entries(answer)
        case "new" | "replace" | "update_from":
            return None
    return answer


def ask_sequence(
    oracle: Oracle,
    version: Version,
    case: Case,
    calls_of: Callable[[list[Any], Version, int], list[dict[str, Any]]],
    outcome_of: Callable[[str, Any, Version], Any],
) -> Outcomes:
    calls: list[dict[str, Any]] = []
    last: list[int] = []
    for at, op in enumerate(case):
        calls += calls_of(op, version, at)
        last.append(len(calls) - 1)
    answers = oracle.ask(calls)
    # Up to 1.18 a name without addresses counts as a change when it is new; the agent never learns one.
    kinds = [f"{op[0]} nothing" if op[0] == "update" and not op[3] else op[0] for op in case]
    return [outcome_of(kind, answers[at], version) for kind, at in zip(kinds, last, strict=True)]


def real_cache(oracle: Oracle, version: Version, case: Case) -> Outcomes:
    return ask_sequence(oracle, version, case, real_cache_calls, real_cache_outcome)


def matcher(regex: str | None) -> Callable[[str], bool] | None:
    if regex is None:
        return None
    compiled = re.compile(regex.replace("$", r"\Z"))
    return lambda name: compiled.search(name) is not None


def entries(found: list[Entry]) -> list[Any]:
    return sorted(entry_key(e.name, e.lookup_time, e.expiration_time, e.ttl, list(e.ips)) for e in found)


def removed_pairs(removed: list[tuple[str, Entry]]) -> list[list[Any]]:
    return sorted([ip, entry.name] for ip, entry in removed)


def other_cache(updates: list[Any]) -> DNSCache:
    other = DNSCache()
    for time, name, ips, ttl in updates:
        other.update(time, name, ips, ttl)
    return other


def our_cache_op(cache: DNSCache, op: list[Any], version: Version) -> Any:
    match op:
        case ["update", time, name, ips, ttl]:
            status = cache.update(time, name, ips, ttl)
            if not ips:
                return None
            return [status.updated, status.upserted] if version >= V1_19 else status.is_news(version)
        case ["gc", time]:
            return sorted(cache.gc(time))
        case ["cleanup_expired", time]:
            names, removed = cache.cleanup_expired(time)
            return [sorted(names), removed_pairs(removed)]
        case ["cleanup_over"]:
            names, removed = cache.cleanup_over_limit()
            return [sorted(names), removed_pairs(removed)]
        case ["lookup", name, _]:
            return cache.lookup(name)
        case ["lookup_at", name, time]:
            return cache.lookup(name, time)
        case ["lookup_ip", ip, _]:
            return cache.lookup_ip(ip)
        case ["lookup_ip_at", ip, time]:
            return cache.lookup_ip(ip, time)
        case ["lookup_regex", regex, _]:
            return cache.lookup_matching(matcher(regex) or bool)
        case ["lookup_regex_at", regex, time]:
            return cache.lookup_matching(matcher(regex) or bool, time)
        case ["force_expire", before, regex]:
            return sorted(cache.force_expire(before, matcher(regex)))
        case ["update_from", updates, names]:
            cache.update_from(other_cache(updates), names if version < V1_19 else None)
            return None
        case ["replace", updates, names]:
            before = cache.pairs() if version >= V1_19 else None
            cache.replace(names, [other_cache(updates)], before)
            return None
        case ["dump"]:
            return entries(cache.dump())
        case ["names"]:
            return sorted(cache.forward)
        case ["ips"]:
            return sorted(cache.reverse)
        case ["count"]:
            return list(cache.count())
        case ["last_cleanup"]:
            return cache.last_cleanup
        case ["cleanup_count"]:
            return len(cache.cleanup)
        case ["json"]:
            return "; ".join(cache.load_json(cache.to_json())) or []
        case ["saved"]:
            return saved_entries(cache.to_json())
    raise AssertionError(op)


def our_cache(version: Version, case: Case) -> Outcomes:
    _, min_ttl, limit, tracked = case[0]
    cache = DNSCache(min_ttl, limit, tracked=tracked)
    return [None, *(our_cache_op(cache, op, version) for op in case[1:])]


# Zombies.

ZOMBIE_KINDS = (
    *["upsert"] * 6, *["mark"] * 3, *["ctgc"] * 4, *["gc"] * 3, "dump_alive", "force_expire", "force_name_ip", "json",
    "all", "saved",
)  # fmt: skip
PREFIXES = ("1.1.1.0/24", "::/0", "10.0.0.0/8")


def make_zombie_ops(rng: Random) -> Case:
    ops: Case = [["new", rng.choice((0, 1, 2, 3, 100)), rng.choice((0, 0, 1, 2)), rng.choice((0, 0, 0, 7))]]
    clock = 1000.0
    for _ in range(rng.randrange(3, 30)):
        clock += rng.randrange(8)
        kind = rng.choice(ZOMBIE_KINDS)
        match kind:
            case "upsert":
                ops.append(
                    [kind, clock + rng.randrange(-5, 20), rng.choice(IPS), some(rng, NAMES, 2) or ["a."]]
                )
            case "mark":
                ops.append([kind, clock, rng.choice(IPS)])
            case "ctgc":
                ops.append([kind, clock, clock + 60])
            case "dump_alive":
                ops.append([kind, rng.choice((None, *PREFIXES))])
            case "force_expire":
                ops.append([kind, rng.choice((None, clock)), rng.choice((None, *REGEXES))])
            case "force_name_ip":
                ops.append([kind, rng.choice((None, clock)), rng.choice(NAMES), some(rng, IPS)])
            case _:
                ops.append([kind])
    return ops


def real_zombie_calls(op: list[Any], version: Version, _at: int) -> list[dict[str, Any]]:
    match op:
        case ["new", most, limit, grace]:
            return [
                call("setIdleGrace", grace),
                call("fqdn.NewDNSZombieMappings", most, limit, into="z"),
                call("warnings"),
            ]
        case ["upsert", time, ip, names]:
            return [call("$z.Upsert", time, ip, *names)]
        case ["mark", time, ip]:
            return [call("$z.MarkAlive", time, ip)]
        case ["ctgc", time, following]:
            return [call("$z.SetCTGCTime", time, *([following] if version >= V1_16 else []))]
        case ["gc"]:
            return [call("fqdn.gcAndWarnings", "$z")]
        case ["dump_alive", prefix]:
            return [call("$z.DumpAlive", prefix)]
        case ["force_expire", before, regex]:
            return [call("$z.ForceExpire", before, regex)]
        case ["force_name_ip", before, name, ips]:
            return [call("$z.ForceExpireByNameIP", before, name, *ips)]
        case ["json"]:
            return [call("$z.MarshalJSON", into="json"), call("$z.UnmarshalJSON", "$json")]
        case ["saved"]:
            return [call("$z.MarshalJSON")]
        case ["all"]:
            return [call("fqdn.zombies", "$z")]
    raise AssertionError(op)


def real_zombie(item: Any) -> list[Any]:
    alive = item["AliveAt"]
    return [item["IP"], sorted(item["Names"]), ZERO if alive is None else alive, item["DeletePendingAt"]]


def real_zombie_outcome(kind: str, answer: Any, _version: Version) -> Any:
    match kind:
        case "gc":
            alive, dead, warnings = answer
            return [
                sorted(map(real_zombie, alive)),
                sorted({item["IP"] for item in dead}),
                sorted(set(warnings or [])),
            ]
        case "dump_alive" | "all":
            return sorted(map(real_zombie, answer or []))
        case "force_expire":
            return as_list(answer)
        case "new" | "force_name_ip" | "json":
            return None
        case "saved":
            return saved_zombies(answer)
        case "upsert":
            return answer
    return None


def real_zombies(oracle: Oracle, version: Version, case: Case) -> Outcomes:
    return ask_sequence(oracle, version, case, real_zombie_calls, real_zombie_outcome)


def our_zombie(item: zombies.Zombie) -> list[Any]:
    return [item.ip, sorted(item.names), item.alive_at, item.delete_pending_at]


def our_zombie_op(z: zombies.DNSZombieMappings, op: list[Any]) -> Any:
    match op:
        case ["upsert", time, ip, names]:
            return z.upsert(time, ip, *names)
        case ["mark", time, ip]:
            z.mark_alive(time, ip)
        case ["ctgc", time, following]:
            z.set_ct_gc_time(time, following)
        case ["gc"]:
            swept = z.gc()
            return [
                sorted(map(our_zombie, swept.alive)),
                sorted(item.ip for item in swept.dead),
                sorted(swept.warnings),
            ]
        case ["dump_alive", prefix]:
            network = ip_network(prefix) if prefix else None
            inside = (lambda ip: ip_address(ip) in network) if network else None
            return sorted(map(our_zombie, z.dump_alive(inside)))
        case ["force_expire", before, regex]:
            return sorted(z.force_expire(before, matcher(regex)))
        case ["force_name_ip", before, name, ips]:
            z.force_expire_by_name_ip(before, name, ips)
        case ["json"]:
            return z.load(json.loads(z.to_json())) or None
        case ["saved"]:
            return saved_zombies(z.to_json())
        case ["all"]:
            return sorted(map(our_zombie, z.dump()))
        case _:
            raise AssertionError(op)
    return None


def our_zombies(version: Version, case: Case) -> Outcomes:
    _, most, limit, grace = case[0]
    z = zombies.DNSZombieMappings(version, most, limit, grace)
    return [None, *(our_zombie_op(z, op) for op in case[1:])]


# From the cache to the zombies.


def make_cascade(rng: Random) -> Case:
    ops: Case = [
        ["new", rng.choice((0, 5)), rng.choice((0, 1, 2)), rng.choice((0, 1, 2)), rng.choice((1, 2, 100))]
    ]
    clock = 1000.0
    for _ in range(rng.randrange(4, 18)):
        clock += rng.randrange(8)
        kind = rng.choice(("update", "update", "update", "fqdn_gc", "mark", "ctgc", "relearn"))
        match kind:
            case "update" | "relearn":
                # No two expiries are equal: the map's order decides between equals.
                ops.append([kind, clock, rng.choice(NAMES), some(rng, IPS), rng.choice((0, 1, 5, 10, 60))])
            case "mark":
                ops.append([kind, clock, rng.choice(IPS)])
            case "ctgc":
                ops.append([kind, clock, clock + 60])
            case _:
                ops.append([kind, clock])
    return ops


def real_cascade_calls(op: list[Any], version: Version, at: int) -> list[dict[str, Any]]:
    match op:
        case ["new", min_ttl, limit, zombie_limit, most]:
            return [
                call("setIdleGrace", 0),
                call("fqdn.NewDNSCacheWithLimit", min_ttl, limit, into="c"),
                call("fqdn.NewDNSZombieMappings", most, zombie_limit, into="z"),
                call("warnings"),
            ]
        case ["update", *_]:
            return real_cache_calls(op, version, at)
        case ["relearn", time, name, ips, ttl]:
            return [call("$c.Update", time, name, ips, ttl), call("$z.ForceExpireByNameIP", time, name, *ips)]
        case ["fqdn_gc", time]:
            return [call("fqdn.gcBoth", "$c", "$z", time)]
    return real_zombie_calls(op, version, at)


def real_cascade_outcome(kind: str, answer: Any, version: Version) -> Any:
    match kind:
        case "fqdn_gc":
            affected, ips, *swept = answer
            return [as_list(affected), as_list(ips), *real_zombie_outcome("gc", swept, version)]
        case "update":
            return real_cache_outcome(kind, answer, version)
    return None


def real_cascade(oracle: Oracle, version: Version, case: Case) -> Outcomes:
    return ask_sequence(oracle, version, case, real_cascade_calls, real_cascade_outcome)


def our_cascade(version: Version, case: Case) -> Outcomes:
    _, min_ttl, limit, zombie_limit, most = case[0]
    cache = DNSCache(min_ttl, limit)
    z = zombies.DNSZombieMappings(version, most, zombie_limit)
    outcomes: Outcomes = [None]
    for op in case[1:]:
        match op:
            case ["update", *_]:
                outcomes.append(our_cache_op(cache, op, version))
            case ["relearn", time, name, ips, ttl]:
                cache.update(time, name, ips, ttl)
                z.force_expire_by_name_ip(time, name, ips)
                outcomes.append(None)
            case ["fqdn_gc", time]:
                affected = sorted(cache.gc(time, z))
                outcomes.append([affected, sorted(cache.reverse), *our_zombie_op(z, ["gc"])])
            case _:
                outcomes.append(our_zombie_op(z, op))
    return outcomes


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


# DNS messages.


def any_wire_name(rng: Random) -> list[bytes]:
    labels = [
        rng.choice((b"a", b"b", b"Foo", b"foo", b"cilium", b"IO", b"io")) for _ in range(rng.randrange(1, 4))
    ]
    if rng.random() < 0.08:
        labels.insert(
            0, rng.choice((b"*", b"a.b", b"a b", b"\\", b"\x00", b'"', b"\xc3\xbc", b"(;@$)", b"_x", b"\x7f"))
        )
    return labels if rng.random() < 0.98 else []


def packed_name(labels: list[bytes]) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def any_data(rng: Random, kind: int, names: list[list[bytes]]) -> bytes:
    match kind:
        case 1:
            return bytes([10, 0, 0, rng.randrange(9)])
        case 28:
            mapped = bytes(10) + b"\xff\xff" + bytes([10, 0, 0, rng.randrange(9)])
            return rng.choice(
                (mapped, b"\x20\x01" + bytes(13) + bytes([rng.randrange(9)]), bytes(16), bytes(15) + b"\1")
            )
        case 5 | 2 | 12:
            return packed_name(rng.choice(names))
        case 15:
            return b"\0\1" + packed_name(rng.choice(names))
        case 33:
            return bytes(6) + packed_name(rng.choice(names))
        case 16:
            return b"\1x"
    return b"x"


def any_message(rng: Random) -> list[int]:
    names = [any_wire_name(rng) for _ in range(3)]
    response = rng.random() < 0.9
    questions = rng.choice((0, 1, 1, 1, 1, 1, 1, 1, 2))
    body = b""
    for number in range(questions):
        body += packed_name(names[number]) + struct.pack(">HH", rng.choice((1, 28, 255, 33, 64, 65, 1234)), 1)
    answers = rng.randrange(5) if response else 0
    owner = names[0]
    for _ in range(answers):
        kind = rng.choice((1, 1, 28, 28, 5, 5, 2, 15, 33, 16, 65280))
        data = any_data(rng, kind, names)
        body += packed_name(owner if rng.random() < 0.8 else rng.choice(names))
        body += struct.pack(">HHIH", kind, 1, rng.choice((0, 30, 60, 3600, 0xFFFFFFFF)), len(data)) + data
        if kind == 5 and rng.random() < 0.8:
            owner = next(name for name in names if packed_name(name) == data)
    flags = response << 15 | rng.choice((0, 0x0400, 0x0200)) | rng.choice((0, 0, 0, 2, 3, 5, 11))
    return list(struct.pack(">6H", 7, flags, questions, answers, 0, 0) + body)


def make_messages(rng: Random) -> Case:
    return [any_message(rng) for _ in range(10)]


def real_messages(oracle: Oracle, _: Version, case: Case) -> Outcomes:
    outcomes: Outcomes = []
    for answer in oracle.ask([call("dnsproxy.Extract", message) for message in case]):
        if error_of(answer):
            outcomes.append("error")
            continue
        keys = ("QName", "IPs", "TTL", "CNAMEs", "RCode", "AnswerTypes", "QTypes")
        outcomes.append([answer[key] for key in keys])
    return outcomes


def our_messages(version: Version, case: Case) -> Outcomes:
    outcomes: Outcomes = []
    for packed in case:
        try:
            message = read_message(bytes(packed))
            if message.response:
                found = answers.extract_response(message, version)
            else:
                found = answers.extract_request(message, version)
        except ValueError:
            outcomes.append("error")
            continue
        ttl = 0 if version >= V1_20 and not message.response else found.ttl
        rcode = 0 if version >= V1_20 and not message.response else message.rcode
        lists = (found.cnames, rcode, found.answer_types, found.qtypes)
        outcomes.append(
            [found.qname, list(found.ips), ttl, *(list(i) if isinstance(i, tuple) else i for i in lists)]
        )
    return outcomes


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
    for _ in range(rng.randrange(4, 26)):
        clock += rng.randrange(8) * 10
        kind = rng.choice(MANAGER_KINDS)
        match kind:
            case "learn" | "history":
                # Nothing runs out within a second of the collector's own clock.
                ips = some(rng, IPS, 2) or ["1.1.1.1"]
                ops.append(
                    [kind, rng.choice((1, 2)), clock, rng.choice(NAMES), ips, rng.choice((0, 45, 355, 5005))]
                )
            case "register" | "unregister":
                ops.append([kind, rng.choice(MANAGER_SELECTORS)])
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


# Hubble's words for a DNS exchange.


def make_flows(rng: Random) -> Case:
    """Any type but NAPTR (35): whether it has a name hangs on the age of the packet library."""
    return [
        [
            rng.choice(("Request", "Response")),
            text(rng, stars=False, odd=0.05),
            some(rng, IPS),
            rng.choice((0, 5, 0xFFFFFFFF)),
            [text(rng, stars=False, odd=0.1) for _ in range(rng.randrange(3))],
            rng.choice(("proxy", "proxy", "", "other")),
            rng.choice((0, 0, 0, *range(24), 4095)),
            [rng.choice((1, 28, 255, rng.randrange(35), 65280)) for _ in range(rng.randrange(3))],
            [rng.choice((1, 28, 5, rng.randrange(36, 300))) for _ in range(rng.randrange(4))],
        ]
        for _ in range(20)
    ]


def real_flows(oracle: Oracle, _: Version, case: Case) -> Outcomes:
    return [
        [summary, json.loads(made)] for summary, made in oracle.ask([call("seven.summary", *i) for i in case])
    ]


def our_flows(_: Version, case: Case) -> Outcomes:
    outcomes: Outcomes = []
    for kind, query, ips, ttl, cnames, source, rcode, qtypes, answer_types in case:
        details = answers.MessageDetails(
            qname=query,
            qtypes=tuple(qtypes),
            response=kind == "Response",
            ttl=ttl,
            ips=tuple(ips),
            cnames=tuple(cnames),
            rcode=rcode,
            answer_types=tuple(answer_types),
        )
        made = json.loads(msgspec.json.encode(flows.flow_dns(details, source)))
        outcomes.append([flows.dns_summary(details, source), made])
    return outcomes


# Hubble's compact line.


def any_end(rng: Random) -> dict[str, Any]:
    made: dict[str, Any] = {"identity": rng.choice((rng.randrange(13), 100, 26450, 16777217))}
    if rng.random() < 0.6:
        made["namespace"] = rng.choice(("default", "kube-system", ""))
    if rng.random() < 0.5:
        made["pod_name"] = "web-1"
    return made


def any_flow(rng: Random) -> dict[str, Any]:
    """A flow as protojson has it: DNS, drops, traces, policy verdicts."""
    made: dict[str, Any] = {
        "time": f"2024-0{rng.randrange(1, 9)}-0{rng.randrange(1, 9)}T15:35:25.{rng.choice(('091', '091500', '999999'))}Z",
        "node_name": "k8s1",
        "Summary": rng.choice(("", "TCP Flags: SYN", "DNS Query a. A")),
    }
    if rng.random() < 0.95:
        made["verdict"] = rng.choice(
            (
                "FORWARDED",
                "DROPPED",
                "ERROR",
                "AUDIT",
                "REDIRECTED",
                "TRACED",
                "TRANSLATED",
                "VERDICT_UNKNOWN",
            )
        )
    if rng.random() < 0.95:
        made["IP"] = {"source": rng.choice(IPS), "destination": rng.choice(IPS)}
    if rng.random() < 0.9:
        made["l4"] = {
            rng.choice(("TCP", "UDP", "SCTP")): {
                "source_port": rng.choice((0, 45240)),
                "destination_port": 53,
            }
        }
    for side in ("source", "destination"):
        if rng.random() < 0.9:
            made[side] = any_end(rng)
        if rng.random() < 0.2:
            made[f"{side}_service"] = {"name": "api", "namespace": rng.choice(("", "default"))}
        if rng.random() < 0.3:
            made[f"{side}_names"] = rng.choice((["a.io"], ["a.io", "b.io"]))
    kind = rng.choice(("dns", "drop", "trace", "verdict", "none"))
    if kind == "dns":
        made["l7"] = {
            "type": rng.choice(("REQUEST", "RESPONSE", "SAMPLE")),
            "dns": {"observation_source": "proxy"},
        }
        made["event_type"] = {"type": 129}
    elif kind != "none":
        number = {"drop": 1, "trace": 4, "verdict": 5}[kind]
        # Drop reasons that every version has, and numbers that none has.
        reasons = {"drop": (*range(130, 204), 1, 20, 129, 250), "trace": range(13), "verdict": (0,)}
        made["event_type"] = {"type": number, "sub_type": rng.choice(reasons[kind])}
    if kind == "verdict":
        made["policy_match_type"] = rng.randrange(8)
    if rng.random() < 0.8:
        made["traffic_direction"] = rng.choice(("EGRESS", "INGRESS", "TRAFFIC_DIRECTION_UNKNOWN"))
    if rng.random() < 0.8:
        made["is_reply"] = rng.random() < 0.5
    return made


def make_lines(rng: Random) -> Case:
    return [[any_flow(rng), rng.random() < 0.3] for _ in range(10)]


def real_lines(oracle: Oracle, _: Version, case: Case) -> Outcomes:
    asked = [call("printer.compact", json.dumps(flow), node) for flow, node in case]
    return [line.removesuffix("\n") for line in oracle.ask(asked)]


def our_lines(_: Version, case: Case) -> Outcomes:
    outcomes: Outcomes = []
    for flow, node in case:
        line = flows.decode_line(json.dumps({"flow": flow}))
        outcomes.append(flows.compact_line(line.flow, node=node))
    return outcomes


# Tables.


def make_tables(rng: Random) -> Case:
    cells = ("", "a", "IDENTITY", "fqdn:*.cilium.io", "ü", "1.1.1.1,2.2.2.2", "x" * 20, "a b")
    return [
        [[rng.choice(cells) for _ in range(rng.randrange(1, 6))] for _ in range(rng.randrange(1, 7))]
        for _ in range(10)
    ]


def real_tables(oracle: Oracle, _: Version, case: Case) -> Outcomes:
    answers_ = oracle.ask([call("tabwriter", ["\t".join(line) for line in lines]) for lines in case])
    return [text_.removesuffix("\n").split("\n") for text_ in answers_]


def our_tables(_: Version, case: Case) -> Outcomes:
    return [tabwriter(lines) for lines in case]


AREAS = (
    Area("names", make_names, real_names, our_names),
    Area("patterns", make_patterns, real_patterns, our_patterns),
    Area("selectors", make_selectors, real_selectors, our_selectors),
    Area("schema fields", make_fields, real_fields, our_fields),
    Area("port rules", make_port_rules, real_port_rules, our_port_rules),
    Area("egress rules", make_egress, real_egress, our_egress),
    Area("cache", make_cache_ops, real_cache, our_cache),
    Area("zombies", make_zombie_ops, real_zombies, our_zombies),
    Area("cache to zombies", make_cascade, real_cascade, our_cascade),
    Area("saved servers", make_servers, real_servers, our_servers, V1_18),
    Area("proxy expressions", make_proxy_patterns, real_proxy_patterns, our_proxy_patterns),
    Area("proxy", make_proxy_ops, real_proxy, our_proxy),
    Area("messages", make_messages, real_messages, our_messages),
    Area("name manager", make_manager_ops, real_manager, our_manager, V1_18),
    Area("hubble", make_flows, real_flows, our_flows, V1_18),
    Area("tables", make_tables, real_tables, our_tables),
    Area("compact lines", make_lines, real_lines, our_lines, V1_18),
)
