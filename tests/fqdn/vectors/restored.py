"""Rules that outlive a restart of the agent: saved, read back and asked."""

from __future__ import annotations

import re
from typing import Any

from deadhop.fqdn import admission, dns_rules, restore
from deadhop.fqdn.options import Version

from .common import Area, UnknownOperation, Vector, same, same_set
from .proxy import ENDPOINTS, check, number, peer


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


def proxy_restored_json(v: Vector, _version: Version, _: Any) -> None:
    for text, wanted in v.get("keys", {}).items():
        protocol, _slash, port = text.partition("/")
        key = restore.PortProto(int(port), protocol)
        same(key.number, wanted)
        same(restore.PortProto.from_number(wanted), key)
    rules, complaints = restore.rules_from_json(v["expected_json"])
    same(complaints, [])
    same(restore.rules_to_json(rules), v["expected_json"])


def restore_ip_or_cidr(v: Vector, _version: Version, _: Any) -> None:
    wanted = v["expected"]
    try:
        server = restore.parse_rule_server(v["input"])
    except ValueError as error:
        same("error", wanted["kind"], str(error))
        same(isinstance(error, restore.RemoteClusterError), wanted.get("value") == "remote cluster")
        return
    same("addr" if server.is_addr else "cidr", wanted["kind"])
    same(str(server), wanted["value"])


AREAS: dict[str, Area] = {
    "proxy_restored": proxy_restored,
    "proxy_restored_json": proxy_restored_json,
    "proxy_restored_rules": proxy_restored_rules,
    "restore_ip_or_cidr": restore_ip_or_cidr,
}
