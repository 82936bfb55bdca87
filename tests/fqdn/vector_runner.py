# ruff: noqa: ARG001
"""Runs one expectation of a vectors file against ``deadhop.fqdn``. One function per area; an unknown one is an error.

A vector describes the newest version of its range; where it names a ``since``, it is run at that version too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from typing import Any

from deadhop.fqdn import (
    admission,
    answers,
    dns_rules,
    flow_words,
    flows,
    formats,
    identity,
    patterns,
    restore,
    selectors,
    zombies,
)
from deadhop.fqdn.cache import DNSCache
from deadhop.fqdn.clock import ZERO, from_rfc3339
from deadhop.fqdn.gc import Endpoint, dns_gc
from deadhop.fqdn.names import fqdn, is_fqdn
from deadhop.fqdn.node import Node
from deadhop.fqdn.options import VERSIONS, Options, Version, options_for
from deadhop.fqdn.policy import CIDRAllow, DNSAllow, EgressPolicy, FQDNAllow
from deadhop.fqdn.selectors import FQDNSelector
from deadhop.model.dns import RR, Message, Question, rcode_name

Vector = dict[str, Any]


class UnknownOperation(Exception):
    """The vector asks for something this runner does not know."""


def versions_of(vector: Vector) -> list[Version]:
    newest = Version.parse(vector["until"]) if vector.get("until") else VERSIONS[-1]
    oldest = Version.parse(vector["since"]) if vector.get("since") else newest
    return [newest] if oldest >= newest else [oldest, newest]


def run(vector: Vector, everything: dict[str, Vector]) -> None:
    area = AREAS.get(vector["area"])
    if area is None:
        raise UnknownOperation(f"area {vector['area']}")
    for version in versions_of(vector):
        area(vector, version, everything)


def same(got: Any, wanted: Any, what: str = "") -> None:
    assert got == wanted, f"{what}: got {got!r}, wanted {wanted!r}"


def same_set(got: Iterable[Any], wanted: Iterable[Any], what: str = "") -> None:
    same(sorted(got), sorted(wanted), what)


def selector_of(item: dict[str, str]) -> FQDNSelector:
    unknown = set(item) - {"matchName", "matchPattern"}
    if unknown:
        raise UnknownOperation(f"selector fields {unknown}")
    return FQDNSelector(item.get("matchName", ""), item.get("matchPattern", ""))


def matcher(regex: str | None) -> Callable[[str], bool] | None:
    if regex is None:
        return None
    compiled = re.compile(regex.replace("$", r"\Z"))
    return lambda name: compiled.search(name) is not None


# --- names and patterns


def fqdn_canonical(v: Vector, version: Version, _: Any) -> None:
    for case in v.get("cases", [v]):
        same(fqdn(case["input"]), case["expected"], case["input"])


def is_fqdn_area(v: Vector, version: Version, _: Any) -> None:
    for case in v.get("cases", [v]):
        same(is_fqdn(case["input"]), case["expected"], case["input"])


def matchpattern_sanitize(v: Vector, version: Version, _: Any) -> None:
    for case in v.get("cases", [v]):
        same(patterns.sanitize(case["input"], version), case["expected"], case["input"])


def matchpattern_regex(v: Vector, version: Version, _: Any) -> None:
    pattern = v["pattern"] if "pattern" in v else patterns.sanitize(v["raw_policy_pattern"], version)
    if "expected_anchored_regex" in v:
        same(patterns.to_anchored_regex(pattern, version), v["expected_anchored_regex"])
    if "expected_unanchored_regex" in v:
        same(patterns.to_unanchored_regex(pattern, version), v["expected_unanchored_regex"])


def matchpattern_match(v: Vector, version: Version, _: Any) -> None:
    pattern = v["pattern"] if "pattern" in v else patterns.sanitize(v["raw_policy_pattern"], version)
    compiled = patterns.compile_pattern(pattern, version)
    text = re.compile(patterns.to_anchored_regex(pattern, version).replace("$", r"\Z"))
    for wanted, key in ((True, "expected_match"), (False, "expected_no_match")):
        for name in v.get(key, []):
            same(compiled.matches(name), wanted, name)
            same(text.match(name) is not None, wanted, f"{name} by regex")


# --- selectors


def selector_string(v: Vector, version: Version, _: Any) -> None:
    same(str(selector_of(v["selector"])), v["expected_selector_string"])


def selector_regex(v: Vector, version: Version, _: Any) -> None:
    selector = selector_of(v["selector"])
    same(selector.regex(version), v["expected_regex"])
    listing = json.loads(formats.fqdn_names([selector], version))
    same(listing["FQDNPolicySelectors"][0]["regexString"], v["expected_regex"])


def selector_validation(v: Vector, version: Version, _: Any) -> None:
    selector = selector_of(v["selector"])
    if v["kind"] == "toFQDNs":
        complaint = selectors.selector_complaint(selector, version)
    elif v["kind"] == "rules.dns":
        complaint = dns_rules.dns_rule_complaint(selector, version)
    else:
        raise UnknownOperation(f"kind {v['kind']}")
    same("error" if complaint else "ok", v["expected"], complaint)
    for key in ("expected_message", "expected_message_main"):
        if v.get(key) and (key != "expected_message_main" or version == VERSIONS[-1]):
            same(complaint, v[key])


def selector_labels(v: Vector, version: Version, _: Any) -> None:
    if "expected_label" in v:
        same(selector_of(v["selector"]).label, v["expected_label"])
    if "expected_labels" in v:
        listed = v.get("selectors") or [v["selector"]]
        index = selectors.SelectorIndex(version, map(selector_of, listed))
        got = index.labels(v["dns_name"]) if "dns_name" in v else {s.label for s in index}
        same_set(got, v["expected_labels"])
    if "expected_label_sets" in v:
        sets = identity.preallocated_label_sets(
            selector_of(v["selector"]), ipv4=v.get("ipv4", False), ipv6=v.get("ipv6", False)
        )
        same_set([sorted(s) for s in sets], [sorted(s) for s in v["expected_label_sets"]])


def crd_schema_validation(v: Vector, version: Version, _: Any) -> None:
    field = v["field"]
    same(selectors.CRD_PATTERNS[field], v["regex"])
    if "max_length" in v:
        same(selectors.CRD_MAX_LENGTH, v["max_length"])
        since = Version.parse(v.get("max_length_since", "1.17"))
        same(selectors.CRD_MAX_LENGTH_SINCE, since)
        same(selectors.crd_field_complaint(field, "a" * (v["max_length"] + 1), since) != "", True)
    for case in v["cases"]:
        same(
            selectors.crd_field_complaint(field, case["input"], version) == "",
            case["expected"],
            case["input"],
        )


def rule_validation(v: Vector, version: Version, _: Any) -> None:
    if "toPorts" in v:
        complaint = dns_rules.port_rule_complaint(
            v["toPorts"], ingress=v.get("direction") == "ingress", version=version
        )
    elif "egress_rule" in v:
        complaint = dns_rules.egress_complaint(v["egress_rule"], version)
    elif "egress_deny_rule" in v:
        complaint = dns_rules.egress_deny_complaint(v["egress_deny_rule"])
    else:
        raise UnknownOperation(f"rule fields {sorted(v)}")
    same(complaint != "", v["expected"] != "ok", complaint)
    if v.get("expected_message"):
        same(complaint, v["expected_message"])
    if v.get("expected_message_contains"):
        assert v["expected_message_contains"] in complaint, complaint


# --- the proxy's rules and decisions

ENDPOINTS: dict[str, int] = {}
IDENTITIES: dict[str, int] = {}


def number(name: Any, table: dict[str, int]) -> int:
    if isinstance(name, int):
        return name
    return table.setdefault(name, len(table) + 1001)


def rules_of(items: list[dict[str, str]] | None) -> tuple[FQDNSelector, ...] | None:
    return None if items is None else tuple(selector_of(item) for item in items)


def peer(name: str) -> admission.L3Selector:
    if name == "*":
        return admission.AnyPeer()
    return admission.Identities(frozenset({number(name, IDENTITIES)}))


def check(proxy: admission.DNSProxy, q: Vector) -> bool:
    return bool(
        proxy.check_allowed(
            number(q["endpoint"], ENDPOINTS),
            q["port"],
            q.get("protocol"),
            number(q.get("dst", "nobody"), IDENTITIES),
            q.get("dst_ip", ""),
            q.get("query") or q["name"],
        )
    )


def proxy_rule_regex(v: Vector, version: Version, _: Any) -> None:
    try:
        expression = dns_rules.generate_pattern(rules_of(v["dns_rules"]), version)
    except patterns.PatternError as error:
        same("error", v.get("expected"), str(error))
        return
    assert v.get("expected") != "error"
    if "expected_regex" in v:
        same(expression.regex, v["expected_regex"])
    if "equivalent_to" in v:
        same(expression.regex, dns_rules.generate_pattern(rules_of(v["equivalent_to"]), version).regex)
    reread = dns_rules.expression_from_regex(expression.regex)
    for wanted, key in ((True, "expected_match"), (False, "expected_no_match")):
        for name in v.get(key, []):
            same(expression.matches(name), wanted, name)
            same(reread.matches(name), wanted, f"{name} read back")


def proxy_from_table(table: Vector, version: Version) -> admission.DNSProxy:
    proxy = admission.DNSProxy(version)
    for row in table["rules_table"]:
        rules = {peer(dst): rules_of(listed) for dst, listed in row["rules"].items()}
        proxy.update_allowed(number(row["endpoint"], ENDPOINTS), row["port"], row["protocol"], rules)
    return proxy


def proxy_allowed_table(v: Vector, version: Version, _: Any) -> None:
    proxy = proxy_from_table(v, version)
    for case in v["cases"]:
        same(check(proxy, case), case["expected_allowed"], f"case {case.get('case')}")


def proxy_allowed(v: Vector, version: Version, everything: dict[str, Vector]) -> None:
    proxy = proxy_from_table(everything[v["table_ref"]], version)
    same(check(proxy, v), v["expected_allowed"])


def proxy_allowed_simple(v: Vector, version: Version, _: Any) -> None:
    proxy = admission.DNSProxy(version)
    for row in v["rules"]:
        rules = {peer(row["dst"]): rules_of(row["dns"])}
        proxy.update_allowed(number(row["endpoint"], ENDPOINTS), row["port"], row.get("protocol"), rules)
    same(check(proxy, v["query"]), v["expected_allowed"])


def proxy_rule_updates(v: Vector, version: Version, _: Any) -> None:
    proxy = admission.DNSProxy(version)
    for op in v["ops"]:
        endpoint = number(op["endpoint"], ENDPOINTS)
        if op["op"] == "set":
            rules = {peer(op.get("dst", "*")): rules_of(op["dns"])}
            try:
                proxy.update_allowed(endpoint, op["port"], op.get("protocol"), rules)
                failed = False
            except patterns.PatternError:
                failed = True
            same(failed, op.get("expected") == "error")
        elif op["op"] == "clear":
            proxy.update_allowed(endpoint, op["port"], op.get("protocol"), None)
        elif op["op"] == "check":
            same(check(proxy, op), op["expected_allowed"])
        else:
            raise UnknownOperation(op["op"])


def restored_rules(spec: Vector) -> restore.RestoredRules:
    rules: dict[restore.PortProto, list[restore.RestoredRule]] = {}
    for key, listed in spec.items():
        protocol, slash, port = key.partition("/")
        where = restore.PortProto(int(port), protocol) if slash else restore.PortProto.from_number(int(key))
        for item in listed:
            expression = dns_rules.expression_from_regex(item["regex"])
            servers = tuple(restore.parse_rule_server(ip) for ip in item["ips"] or ())
            rules.setdefault(where, []).append(restore.RestoredRule(expression, servers))
    return rules


def restored_case(spec: Vector, case: Vector, version: Version) -> None:
    proxy = admission.DNSProxy(version)
    endpoint = number(case.get("endpoint", "EP1"), ENDPOINTS)
    proxy.restore_rules(endpoint, restored_rules(spec["restored_rules"]))
    same(check(proxy, {"endpoint": endpoint, **case}), case["expected_allowed"], str(case))


def proxy_restored(v: Vector, version: Version, everything: dict[str, Vector]) -> None:
    restored_case(everything[v["ref"]], v, version)


def proxy_restored_rules(v: Vector, version: Version, _: Any) -> None:
    known = False
    for case in v.get("cases", []):
        restored_case(v, case, version)
        known = True
    if "used_servers" in v:
        for dst, wanted in v["expected_saved_ips"].items():
            servers, _warnings = restore.servers_to_save(
                v["selector_ips"][dst], set(v["used_servers"]), v.get("limit", 1000)
            )
            same_set(map(str, servers), wanted, dst)
        known = True
    if "expected_restored" in v:
        proxy = admission.DNSProxy(version)
        for op in v["ops"]:
            if found := re.fullmatch(r"restore (\w+)", op):
                proxy.restore_rules(number(found[1], ENDPOINTS), {})
            elif found := re.fullmatch(r"UpdateAllowed\((\w+), *(\w+)/(\d+), *(nil|\*)\)", op):
                rules = None if found[4] == "nil" else {peer("*"): None}
                proxy.update_allowed(number(found[1], ENDPOINTS), int(found[3]), found[2], rules)
            else:
                raise UnknownOperation(op)
        same_set(proxy.restored, [number(e, ENDPOINTS) for e in v["expected_restored"]])
        known = True
    if not known:
        raise UnknownOperation(str(v.get("scenario")))


def proxy_restored_json(v: Vector, version: Version, _: Any) -> None:
    for text, wanted in v.get("keys", {}).items():
        protocol, _slash, port = text.partition("/")
        key = restore.PortProto(int(port), protocol)
        same(key.number, wanted)
        same(restore.PortProto.from_number(wanted), key)
    rules, complaints = restore.rules_from_json(v["expected_json"])
    same(complaints, [])
    same(restore.rules_to_json(rules), v["expected_json"])


def restore_ip_or_cidr(v: Vector, version: Version, _: Any) -> None:
    wanted = v["expected"]
    try:
        server = restore.parse_rule_server(v["input"])
    except ValueError as error:
        same("error", wanted["kind"], str(error))
        same(isinstance(error, restore.RemoteClusterError), wanted.get("value") == "remote cluster")
        return
    same("addr" if server.is_addr else "cidr", wanted["kind"])
    same(str(server), wanted["value"])


FAILURES = (
    ("upstream timeout", admission.Failure.UPSTREAM_TIMEOUT),
    ("wrapped context deadline", admission.Failure.UPSTREAM_TIMEOUT),
    ("without wrapping", admission.Failure.OTHER),
    ("timed out", admission.Failure.SEMAPHORE_TIMED_OUT),
    ("semaphore", admission.Failure.SEMAPHORE_FULL),
    ("endpoint id", admission.Failure.NO_ENDPOINT),
    ("target dns server", admission.Failure.NO_TARGET),
    ("question", admission.Failure.NO_QUESTION),
    ("timeout", admission.Failure.UPSTREAM_TIMEOUT),
    ("response", admission.Failure.BAD_RESPONSE),
)


def failure_of(text: str) -> admission.Failure:
    lowered = text.lower()
    return next((failure for words, failure in FAILURES if words in lowered), admission.Failure.OTHER)


def proxy_reject_rcode(v: Vector, version: Version, _: Any) -> None:
    failure = admission.Failure.POLICY if v["policy_rejected"] else failure_of(v["error"])
    rcode = admission.reply_rcode(failure, v["option"], version)
    same(None if rcode is None else int(rcode), v["expected_rcode"])
    if v.get("expected_rcode_name"):
        same(rcode_name(v["expected_rcode"]), v["expected_rcode_name"])


def proxy_timeout_classification(v: Vector, version: Version, _: Any) -> None:
    for case in v.get("cases", [v]):
        same(failure_of(case["error"]).is_timeout, case["expected"], case["error"])


# --- messages


def message_of(item: Vector, *, response: bool) -> Message:
    def section(name: str) -> tuple[RR, ...]:
        return tuple(RR(owner, ttl, kind, data) for owner, ttl, kind, data in item.get(name, []))

    return Message(
        response=item.get("response", response),
        rcode=item.get("rcode", 0),
        questions=tuple(Question(name, kind) for name, kind in item.get("questions", [])),
        answers=section("answers"),
        authority=section("authority"),
        additional=section("additional"),
    )


def same_details(details: answers.MessageDetails, wanted: Vector) -> None:
    for key, value in wanted.items():
        got = getattr(details, key)
        same(list(got) if isinstance(got, tuple) else got, value, key)


def extract(
    cases: list[Vector], read: Callable[[Message], answers.MessageDetails], *, response: bool
) -> None:
    for case in cases:
        try:
            details = read(message_of(case["message"], response=response))
        except answers.ExtractError:
            same("error", case["expected"])
            continue
        assert case["expected"] != "error", details
        same_details(details, case["expected"])
        if "learned" in case:
            same(details.learned, case["learned"])


def dns_extract(v: Vector, version: Version, _: Any) -> None:
    extract(v.get("cases", [v]), lambda m: answers.extract_response(m, version), response=True)


def dns_request_extract(v: Vector, version: Version, _: Any) -> None:
    extract(v.get("cases", [v]), answers.extract_request, response=False)


# --- cache and zombies


def names_and_ips(op: Vector) -> tuple[str, list[str]]:
    return op["name"], op["ips"]


def make_cache(config: Vector) -> DNSCache:
    return DNSCache(config.get("min_ttl", 0), config.get("per_host_limit", 0))


def make_zombies(
    config: Vector, version: Version, limit: str = "per_host_limit"
) -> zombies.DNSZombieMappings:
    return zombies.DNSZombieMappings(
        version,
        config.get("max_deferred", 10000),
        config.get(limit, config.get("per_host_limit", 1000)),
        config.get("idle_grace", 0),
    )


def do_update(cache: DNSCache, op: Vector) -> None:
    status = cache.update(op["t"], op["name"], op["ips"], op["ttl"])
    if "expected" in op:
        same(status._asdict(), op["expected"])


def cache_op(cache: DNSCache, op: Vector, version: Version) -> None:
    kind, wanted = op["op"], op.get("expected")
    match kind:
        case "update":
            do_update(cache, op)
        case "lookup" | "lookup_at":
            same(cache.lookup(op["name"], op.get("t")), _sorted_ips(wanted), kind)
        case "lookup_ip" | "lookup_ip_at":
            same(cache.lookup_ip(op["ip"], op.get("t")), sorted(wanted), kind)
        case "lookup_regex" | "lookup_by_regex" | "lookup_regexp" | "lookup_by_regexp":
            regex = op.get("name_regex") or op.get("regex")
            got = cache.lookup_matching(matcher(regex) or (lambda _: True), op.get("t"))
            same(got, {name: _sorted_ips(ips) for name, ips in wanted.items()}, kind)
        case "lookup_pattern":
            pattern = patterns.compile_pattern(patterns.sanitize(op["pattern"], version), version)
            got = cache.lookup_matching(pattern.matches, op.get("t"))
            same(got, {name: _sorted_ips(ips) for name, ips in wanted.items()}, kind)
        case "gc":
            same_set(cache.gc(op["t"]), wanted if wanted is not None else [], kind)
        case "cleanup_expired":
            same_set(cache.cleanup_expired(op["t"])[0], wanted, kind)
        case "cleanup_overlimit":
            same_set(cache.cleanup_over_limit()[0], wanted, kind)
        case "set_last_cleanup":
            cache.last_cleanup = op["t"]
        case "last_cleanup":
            same(cache.last_cleanup, wanted, kind)
        case "add_cleanup" | "set_cleanup":
            cache.cleanup[int(op["t"])] = list(op.get("names") or [op["name"]])
        case "flag_overlimit" | "set_overlimit" | "mark_overlimit":
            cache.over_limit[op["name"]] = None
        case "force_expire":
            same_set(cache.force_expire(op.get("before"), matcher(op.get("name_regex"))), wanted, kind)
        case "force_expire_names" | "force_expire_by_names":
            listed = set(op["names"])
            same_set(cache.force_expire(op.get("before"), listed.__contains__), wanted or listed, kind)
        case "names":
            same_set(cache.forward, wanted, kind)
        case "ips":
            same_set(cache.reverse, wanted, kind)
        case "dump":
            same_set(({e.name for e in cache.dump()}), wanted, kind)
        case "dump_count":
            same(len(cache.dump()), wanted, kind)
        case "count":
            same(list(cache.count()), list(wanted), kind)
        case "cleanup_count":
            same(len(cache.cleanup), wanted, kind)
        case "json_roundtrip" | "marshal_roundtrip":
            cache.load_json(cache.to_json())
        case _:
            raise UnknownOperation(kind)


def _sorted_ips(ips: list[str]) -> list[str]:
    return sorted(ips, key=lambda ip: (":" in ip, int(ip_address(ip))))


def cache_sequence(v: Vector, version: Version, _: Any) -> None:
    cache = make_cache(v["config"])
    for op in v["ops"]:
        cache_op(cache, op, version)


def cache_json(v: Vector, version: Version, _: Any) -> None:
    cache = make_cache(v.get("config", {}))
    for op in v["updates"]:
        do_update(cache, op)
    text = cache.to_json()
    saved = json.loads(text)
    same(len(saved), v["expected_entries"])
    for item in saved:
        same_set(item, v.get("entry_keys", item))
    reloaded = DNSCache()
    same(reloaded.load_json(text), [])
    end = max(op["t"] + max(op["ttl"], cache.min_ttl) for op in v["updates"])
    for name in cache.forward:
        for at in (0, end, end + 1, end + 10):
            same(reloaded.lookup(name, at), cache.lookup(name, at), name)
        same(reloaded.lookup(name, end + 1), [], name)


def as_names(found: Iterable[zombies.Zombie]) -> dict[str, list[str]]:
    return {zombie.ip: sorted(zombie.names) for zombie in found}


def same_zombies(got: Iterable[zombies.Zombie], wanted: dict[str, list[str]], what: str) -> None:
    same(as_names(got), {ip: sorted(names) for ip, names in wanted.items()}, what)


def zombie_gc(z: zombies.DNSZombieMappings, op: Vector) -> None:
    swept = z.gc()
    for key, got in (("expected_alive", swept.alive), ("expected_dead", swept.dead)):
        if key in op:
            same_zombies(got, op[key], key)
    if "expected_warnings" in op:
        same(list(swept.warnings), op["expected_warnings"])


def zombie_op(z: zombies.DNSZombieMappings, op: Vector) -> None:
    match op["op"]:
        case "upsert":
            existed = z.upsert(op["t"], op["ip"], *(op.get("names") or [op["name"]]))
            if "expected" in op:
                same(existed, op["expected"])
        case "mark_alive":
            z.mark_alive(op["t"], op["ip"])
        case "ctgc":
            z.set_ct_gc_time(op["t"], op.get("next", op["t"] + 300))
        case "gc" | "zombie_gc":
            zombie_gc(z, op)
        case "force_expire":
            affected = z.force_expire(op.get("before"), matcher(op.get("name_regex")))
            if "expected" in op:
                same_set(affected, op["expected"])
        case "force_expire_name_ip":
            z.force_expire_by_name_ip(op.get("before"), op["name"], op.get("ips") or [op["ip"]])
        case "dump_alive":
            same_zombies(z.dump_alive(cidr_test(op.get("cidr"))), op["expected"], "dump_alive")
        case "assert_zombie_present":
            assert op["ip"] in z, op
        case "assert_zombie_absent":
            assert op["ip"] not in z, op
        case "assert_zombies":
            same_set([zombie.ip for zombie in z.dump()], op["ips"], "zombies")
        case "json_roundtrip" | "restore" | "restart":
            same(z.load(json.loads(z.to_json())), [])
        case _:
            raise UnknownOperation(op["op"])


def cidr_test(cidr: str | None) -> Callable[[str], bool] | None:
    if cidr is None or cidr in ("any", "all"):
        return None
    if cidr == "none":
        return lambda _: False
    network = ip_network(cidr)
    return lambda ip: ip_address(ip) in network


def zombie_sequence(v: Vector, version: Version, _: Any) -> None:
    z = make_zombies(v["config"], version)
    for op in v["ops"]:
        zombie_op(z, op)


def zombie_liveness_legacy(v: Vector, version: Version, _: Any) -> None:
    z = make_zombies(v.get("config", {}), version)
    for op in v["ops"]:
        zombie_op(z, op)
    zombie_gc(z, v)


def zombie_sort(v: Vector, version: Version, _: Any) -> None:
    for case in v["cases"]:
        made = [
            zombies.Zombie(
                str(place),
                tuple(item.get("names") or ()),
                item.get("alive_at", ZERO),
                item.get("delete_pending_at", ZERO),
            )
            for place, item in enumerate(case["input"])
        ]
        same([int(z.ip) for z in zombies.eviction_order(made)], case["expected_order"])


def cache_zombie_cascade(v: Vector, version: Version, _: Any) -> None:
    cache = make_cache(v["config"])
    z = make_zombies(v["config"], version, "zombie_per_host_limit")
    for op in v["ops"]:
        match op["op"]:
            case "update":
                do_update(cache, op)
            case "gc_into_zombies" | "fqdn_gc":
                affected = cache.gc(op["t"], z)
                if "expected_affected" in op:
                    same_set(affected, op["expected_affected"])
                if "expected_cache_ips" in op:
                    same_set(cache.reverse, op["expected_cache_ips"])
                if "expected_cache_count" in op:
                    same(cache.count()[1], op["expected_cache_count"])
                if op["op"] == "fqdn_gc":
                    zombie_gc(z, op)
            case "lookup" | "lookup_at" | "count" | "names":
                cache_op(cache, op, version)
            case _:
                zombie_op(z, op)


# --- the name manager


def same_ipcache(manager: identity.NameManager, wanted: dict[str, list[str] | None]) -> None:
    got = manager.ipcache()
    for prefix, labels in wanted.items():
        same(
            sorted(got[prefix]) if prefix in got else None,
            sorted(labels) if labels is not None else None,
            prefix,
        )


def namemanager_ipcache(v: Vector, version: Version, _: Any) -> None:
    manager = identity.NameManager(version, min_ttl=1, dual_stack=v.get("dual_stack", False))
    for step in v["steps"]:
        match step["op"]:
            case "register":
                manager.register(selector_of(step["selector"]))
            case "unregister":
                manager.unregister(selector_of(step["selector"]))
            case "dns":
                manager.update(step.get("t", 0), step["name"], step["ips"], step.get("ttl", 60))
            case "check":
                pass
            case _:
                raise UnknownOperation(step["op"])
        same_ipcache(manager, step.get("expected", {}))


def namemanager_gc(v: Vector, version: Version, _: Any) -> None:
    config = v["config"]
    manager = identity.NameManager(version, min_ttl=config.get("global_min_ttl", 0))
    endpoint = Endpoint(
        1, version, Options(min_ttl=config.get("endpoint_min_ttl", 0), max_ips_per_hostname=10000)
    )
    known: list[Endpoint] = []
    name = "cilium.io."
    for step in v["steps"]:
        ips, ttl, now = [step.get("ip", "")], step.get("ttl", 10), step.get("t", 0)
        named = fqdn(step.get("name", name))
        match step["op"]:
            case "register":
                selector = selector_of(step["selector"])
                manager.register(selector)
                name = fqdn(selector.match_name or name)
            case "unregister":
                manager.unregister(selector_of(step["selector"]))
            case "endpoint_cache_only":
                endpoint.history.update(now, named, ips, ttl)
            case "dns_global":
                manager.update(now, named, ips, ttl, endpoint.history)
            case "endpoint_cache_expired_entry_plus_dns_global":
                endpoint.history.update(now - 3600, named, ips, ttl)
                manager.update(now, named, ips, ttl, endpoint.history)
            case "endpoint_added":
                known = [endpoint]
            case "endpoint_removed":
                known = []
            case "gc":
                dns_gc(manager, known, now)
            case _:
                raise UnknownOperation(step["op"])
        if "expected_global" in step:
            same_set(manager.cache.reverse, step["expected_global"], "global")
        for ip in step.get("expected_global_absent", []):
            assert ip not in manager.cache.reverse, ip
        if "expected_ipcache" in step:
            same_set([p.rpartition("/")[0] for p in manager.ipcache()], step["expected_ipcache"], "ipcache")


# --- output


def cache_row(item: Vector) -> formats.CacheRow:
    return formats.CacheRow(
        endpoint=item.get("endpoint", 0),
        source=item["source"],
        fqdn=item["fqdn"],
        ttl=item.get("ttl", 0),
        expiration=from_rfc3339(item["expiration"]),
        ips=tuple(item["ips"]),
    )


def cli_fqdn_cache_list(v: Vector, version: Version, _: Any) -> None:
    lines = formats.cache_list([cache_row(row) for row in v["rows"]])
    if "expected_lines_rstripped" in v:
        same([line.rstrip() for line in lines], v["expected_lines_rstripped"])
    if "expected_lines" in v:
        same(lines, v["expected_lines"])


def cli_policy_selectors(v: Vector, version: Version, _: Any) -> None:
    if "expected_header" in v:
        same("\t".join(formats.selectors_header(version)), v["expected_header"])
    if "legacy_header_until_1_14" in v:
        same("\t".join(formats.selectors_header(Version(1, 14))), v["legacy_header_until_1_14"])
    if "rows" in v:
        rows = []
        for item in v["rows"]:
            labels = []
            for text in item.get("labels") or ():
                namespace, slash, policy = text.rpartition("/")
                if slash:
                    labels.append(formats.Label(formats.POLICY_NAMESPACE, "k8s", namespace))
                labels.append(formats.Label(formats.POLICY_NAME, "k8s", policy))
            rows.append(
                formats.SelectorRow(
                    selector=item["selector"],
                    users=item["users"],
                    identities=tuple(item.get("identities") or ()),
                    labels=tuple(labels),
                )
            )
        lines = [line.rstrip() for line in formats.policy_selectors(rows, version)]
        same(lines, v["expected_lines_rstripped"])


TYPES_BY_TEXT = {text: code for code, text in flow_words.TYPE_TEXTS.items()}
SUMMARY_KEYS = {"q", "qt", "ips", "cn", "ttl", "rc", "src"}


def hubble_summary(v: Vector, version: Version, _: Any) -> None:
    item = v["dns"]
    if unknown := set(item) - SUMMARY_KEYS:
        raise UnknownOperation(f"dns fields {unknown}")
    types = item.get("qt", "A")
    listed = types.split(",") if isinstance(types, str) else types
    details = answers.MessageDetails(
        qname=item["q"],
        qtypes=tuple(t if isinstance(t, int) else TYPES_BY_TEXT.get(t, 65280) for t in listed),
        response=v["flow_type"] == "response",
        ttl=item.get("ttl", 0),
        ips=tuple(item.get("ips") or ()),
        cnames=tuple(item.get("cn") or ()),
        rcode=item.get("rc", 0),
    )
    same(flows.dns_summary(details, item.get("src", "proxy")), v["expected_summary"])


def hubble_l7_dns(v: Vector, version: Version, _: Any) -> None:
    record = v["log_record"]
    details = answers.MessageDetails(
        qname=record["query"],
        qtypes=tuple(record.get("qtypes") or ()),
        response=record["type"] == "response",
        ttl=record.get("ttl", 0),
        ips=tuple(record.get("ips") or ()),
        cnames=tuple(record.get("cnames") or ()),
        rcode=record.get("rcode", 0),
        answer_types=tuple(record.get("answer_types") or ()),
    )
    line = flows.encode_line(
        flows.FlowLine(flows.Flow(l7=flows.Layer7(dns=flows.flow_dns(details, record["source"]))))
    )
    same(json.loads(line)["flow"]["l7"]["dns"], v["expected_dns"])


def hubble_jsonpb(v: Vector, version: Version, _: Any) -> None:
    same(flows.encode_line(flows.decode_line(v["expected_line"])), v["expected_line"])


SAMPLE_FLOW = {
    "time": "1970-01-01T00:20:34.567800Z",
    "node_name": "k8s1",
    "src": "1.1.1.1:31793",
    "src_identity": 4,
    "dst": "2.2.2.2:8080",
    "dst_identity": 12345,
    "verdict": "DROPPED",
    "is_reply": False,
    "summary": "TCP Flags: SYN",
}


def flow_end(text: str, number_: int) -> tuple[str, int, flows.FlowEndpoint]:
    host, _colon, port = text.rpartition(":")
    namespace, slash, pod = host.rpartition("/")
    end = flows.FlowEndpoint(identity=number_, namespace=namespace, pod_name=pod if slash else "")
    return ("" if slash else host.strip("[]")), int(port), end


def hubble_compact(v: Vector, version: Version, _: Any) -> None:
    """The flow of a vector is laid over Hubble's own test flow; the summary is not part of it."""
    item = {**SAMPLE_FLOW, **v["flow"]}
    wanted = v.get("expected_line") or v["expected_line_without_timestamp"]
    src_ip, sport, source = flow_end(item["src"], item["src_identity"])
    dst_ip, dport, destination = flow_end(item["dst"], item["dst_identity"])
    dns = re.fullmatch(r"dns-(request|response) (\w+)", item.get("type", ""))
    event = {"Policy denied": (flow_words.EVENT_DROP, 133)}.get(item.get("type", "Policy denied"))
    for point, text in flow_words.TRACE_POINTS.items():
        if item.get("type") == text:
            event = (flow_words.EVENT_TRACE, point)
    if item.get("policy_verdict"):
        event = (flow_words.EVENT_POLICY_VERDICT, 0)
    if not dns and event is None:
        raise UnknownOperation(f"flow type {item.get('type')}")
    summary = item["summary"]
    if dns and "summary" not in v["flow"]:
        summary = wanted.partition(f" {item['verdict']} (")[2].removesuffix(")")
    l7 = flows.Layer7(dns[1].upper(), flows.FlowDNS(observation_source=dns[2])) if dns else None
    flow = flows.Flow(
        time=item["time"],
        node_name=item["node_name"],
        verdict=item["verdict"],
        ip=flows.IPPair(src_ip, dst_ip),
        l4=flows.Layer4(tcp=flows.Ports(sport, dport)),
        source=source,
        destination=destination,
        l7=l7,
        event_type=flows.EventType(*event) if event else None,
        traffic_direction=item.get("direction", ""),
        policy_match_type=item.get("policy_match_type", 0),
        is_reply=item["is_reply"],
        summary=summary,
    )
    line = flows.compact_line(flow, node="[" in wanted.split(": ")[0])
    same(line if "expected_line" in v else line.split(": ", 1)[1], wanted)


# --- end to end


class World:
    """A zone, a policy and two endpoints of one node."""

    def __init__(self, vector: Vector, version: Version) -> None:
        self.version = version
        zone = vector["zone"]
        self.ttl = zone.get("ttl", 30)
        self.records: dict[str, list[tuple[str, str]]] = {}
        self.addresses: dict[str, str] = {}
        for owner, kind, data in zone["records"]:
            for value in data if isinstance(data, list) else [data]:
                target = value if kind == "CNAME" else self.address(value)
                if kind == "CNAME" and not target.endswith("."):
                    target = f"{target}.{owner.partition('.')[2]}"
                self.records.setdefault(owner.lower(), []).append((kind, target.lower()))
        self.node = Node(version, options_for(version)[0])
        self.policy = self.policy_of(vector["policy"])
        self.now = 0.0
        for endpoint in (1, 2):
            self.node.apply(endpoint, self.policy)

    def address(self, name: str) -> str:
        try:
            return str(ip_address(name))
        except ValueError:
            return self.addresses.setdefault(name, f"198.51.100.{len(self.addresses) + 1}")

    def policy_of(self, item: Vector) -> EgressPolicy:
        dns = item.get("dns_rules_port53")
        extra = item.get("extra_egress") or {}
        if unknown := set(extra) - {"toCIDRSet", "toCIDR", "toEntities"}:
            raise UnknownOperation(f"egress {unknown}")
        listed = [*(i["cidr"] for i in extra.get("toCIDRSet", [])), *extra.get("toCIDR", [])]
        if {"world", "all"} & set(extra.get("toEntities", [])):
            listed += ["0.0.0.0/0", "::/0"]
        cidrs = []
        for text in listed:
            ip, _slash, bits = text.partition("/")
            cidrs.append(CIDRAllow(cidr=f"{self.address(ip)}/{bits}"))
        return EgressPolicy(
            dns=() if dns is None else (DNSAllow(rules=rules_of(dns)),),
            fqdns=(FQDNAllow(selectors=rules_of(item.get("toFQDNs") or []) or ()),),
            cidrs=tuple(cidrs),
        )

    def answer(self, qname: str, qtype: str) -> Message:
        chain: list[RR] = []
        at, seen = qname, set()
        while at not in seen:
            seen.add(at)
            records = self.records.get(at, [])
            chain.extend(RR(at, self.ttl, kind, data) for kind, data in records if kind in (qtype, "CNAME"))
            at = next((data for kind, data in records if kind == "CNAME"), at)
        return Message(
            response=True,
            rcode=0 if qname in self.records else 3,
            questions=(Question(qname, qtype),),
            answers=tuple(chain),
        )

    def resolve(self, endpoint: int, name: str, *, intercepted: bool = True) -> list[str] | None:
        """The addresses that the endpoint is told, None where the query is refused or lost."""
        answer = self.answer(fqdn(name), "A")
        addresses = [rr.data for rr in answer.answers if rr.type == "A"]
        if not intercepted:
            return addresses
        outcome = self.node.query(endpoint, name, server="10.96.0.10")
        if not outcome.answered:
            return None
        if outcome == "forwarded":
            self.node.response(endpoint, answers.extract_response(answer, self.version), self.now)
        return addresses

    def connect(self, endpoint: int, ip: str) -> str:
        return "allowed" if self.node.connect(endpoint, ip, port=80) else "denied"

    def step(self, step: Vector) -> None:
        self.now += step.get("advance", 1)
        wanted = step.get("expected")
        if step.get("gc"):
            self.node.dns_gc(self.now)
        elif "policy" in step:
            self.policy = self.policy_of(step["policy"])
            for endpoint in (1, 2):
                self.node.apply(endpoint, self.policy)
        elif "resolve_and_connect" in step:
            for _ in range(step.get("times", 1)):
                for endpoint in range(1, step.get("endpoints", 1) + 1):
                    same(self.resolve_and_connect(endpoint, step), wanted, str(step))
        elif "connect_ip" in step:
            same(self.connect(1, self.address(step["connect_ip"])), wanted, str(step))
        elif "query" in step:
            addresses = self.resolve(1, step["query"])
            if "then_connect" in step:
                same(self.connect(1, self.address(step["then_connect"])), wanted, str(step))
            else:
                refused = wanted if wanted in ("refused", "denied") else "denied"
                same(refused if addresses is None else "allowed", wanted, str(step))
        else:
            raise UnknownOperation(str(step))

    def resolve_and_connect(self, endpoint: int, step: Vector) -> str:
        before = step.get("before_policy", False)
        addresses = self.resolve(endpoint, step["resolve_and_connect"], intercepted=not before)
        if not addresses:
            return "denied"
        if before:
            return "allowed"
        return "allowed" if all(self.connect(endpoint, ip) == "allowed" for ip in addresses) else "denied"


def e2e_scenario(v: Vector, version: Version, _: Any) -> None:
    world = World(v, version)
    for step in v["steps"]:
        world.step(step)


Area = Callable[[Vector, Version, dict[str, Vector]], None]

AREAS: dict[str, Area] = {
    "cache_json": cache_json,
    "cache_sequence": cache_sequence,
    "cache_zombie_cascade": cache_zombie_cascade,
    "cli_fqdn_cache_list": cli_fqdn_cache_list,
    "cli_policy_selectors": cli_policy_selectors,
    "crd_schema_validation": crd_schema_validation,
    "dns_extract": dns_extract,
    "dns_request_extract": dns_request_extract,
    "e2e_scenario": e2e_scenario,
    "fqdn_canonical": fqdn_canonical,
    "hubble_compact": hubble_compact,
    "hubble_jsonpb": hubble_jsonpb,
    "hubble_l7_dns": hubble_l7_dns,
    "hubble_summary": hubble_summary,
    "is_fqdn": is_fqdn_area,
    "matchpattern_match": matchpattern_match,
    "matchpattern_regex": matchpattern_regex,
    "matchpattern_sanitize": matchpattern_sanitize,
    "namemanager_gc": namemanager_gc,
    "namemanager_ipcache": namemanager_ipcache,
    "proxy_allowed": proxy_allowed,
    "proxy_allowed_simple": proxy_allowed_simple,
    "proxy_allowed_table": proxy_allowed_table,
    "proxy_reject_rcode": proxy_reject_rcode,
    "proxy_restored": proxy_restored,
    "proxy_restored_json": proxy_restored_json,
    "proxy_restored_rules": proxy_restored_rules,
    "proxy_rule_regex": proxy_rule_regex,
    "proxy_rule_updates": proxy_rule_updates,
    "proxy_timeout_classification": proxy_timeout_classification,
    "restore_ip_or_cidr": restore_ip_or_cidr,
    "rule_validation": rule_validation,
    "selector_labels": selector_labels,
    "selector_regex": selector_regex,
    "selector_string": selector_string,
    "selector_validation": selector_validation,
    "zombie_liveness_legacy": zombie_liveness_legacy,
    "zombie_sequence": zombie_sequence,
    "zombie_sort": zombie_sort,
}
