"""What the DNS proxy lets through, and what it answers where it does not."""

from __future__ import annotations

from typing import Any

from deadhop.fqdn import admission, dns_rules, patterns
from deadhop.fqdn.options import Version
from deadhop.model.dns import rcode_name

from .common import Area, UnknownOperation, Vector, rules_of, same

ENDPOINTS: dict[str, int] = {}
IDENTITIES: dict[str, int] = {}


def number(name: Any, table: dict[str, int]) -> int:
    if isinstance(name, int):
        return name
    return table.setdefault(name, len(table) + 1001)


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


def proxy_timeout_classification(v: Vector, _version: Version, _: Any) -> None:
    for case in v.get("cases", [v]):
        same(failure_of(case["error"]).is_timeout, case["expected"], case["error"])


AREAS: dict[str, Area] = {
    "proxy_allowed": proxy_allowed,
    "proxy_allowed_simple": proxy_allowed_simple,
    "proxy_allowed_table": proxy_allowed_table,
    "proxy_reject_rcode": proxy_reject_rcode,
    "proxy_rule_regex": proxy_rule_regex,
    "proxy_rule_updates": proxy_rule_updates,
    "proxy_timeout_classification": proxy_timeout_classification,
}
