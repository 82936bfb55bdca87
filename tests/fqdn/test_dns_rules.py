"""``rules.dns``: expressions by version, merging, validation, and the proxy that decides with them."""

from __future__ import annotations

from typing import Any

import pytest

from deadhop.fqdn import admission
from deadhop.fqdn.admission import AnyPeer, DNSProxy, Failure, Identities, Precheck, precheck, reply_rcode
from deadhop.fqdn.dns_rules import (
    PortRuleDNS,
    expression_from_regex,
    generate_pattern,
    merge,
    without_l7_on_shutdown,
)
from deadhop.fqdn.options import LATEST, V1_13, V1_14, V1_16, V1_18, V1_19, VERSIONS
from deadhop.fqdn.patterns import PatternError
from deadhop.fqdn.restore import PortProto, RestoredRule, parse_rule_server, servers_to_save
from deadhop.fqdn.rule_validation import egress_complaint, port_rule_complaint
from deadhop.model.dns import Rcode

NAME = PortRuleDNS(match_name="Cilium.io")
PATTERN = PortRuleDNS(match_pattern="*.cilium.io")
ALL = PortRuleDNS(match_pattern="*")


def test_expression_since_1_14() -> None:
    assert generate_pattern(None, LATEST).regex == "(?:)"
    assert generate_pattern([], LATEST).regex == "(?:)"
    assert generate_pattern([NAME, ALL], LATEST).regex == "(?:)"
    assert generate_pattern([NAME, PATTERN], V1_14).regex == (
        "^(?:cilium[.]io[.]|[-a-zA-Z0-9_]*[.]cilium[.]io[.])$"
    )
    both = PortRuleDNS("a.io", "b.*")
    assert generate_pattern([both], LATEST).regex == "^(?:a[.]io[.]|b[.][-a-zA-Z0-9_]*[.])$"
    empty = generate_pattern([PortRuleDNS()], LATEST)
    assert empty.regex == "^(?:)$"
    assert not empty.matches("a.io.")


def test_expression_until_1_13() -> None:
    expression = generate_pattern([NAME, ALL], V1_13)
    assert expression.regex == "(^cilium[.]io[.]$)|((^([-a-zA-Z0-9_]+[.])+$)|(^[.]$))"
    assert expression.matches("x.y.")
    assert not expression.matches(".x.")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "rules", [[NAME], [NAME, PATTERN], [ALL], [PortRuleDNS(match_pattern="**.a.io")], []]
)
def test_saved_expressions_read_back(version: Any, rules: list[PortRuleDNS]) -> None:
    expression = generate_pattern(rules, version)
    again = expression_from_regex(expression.regex)
    for name in ("cilium.io.", "a.cilium.io.", "x.a.io.", "y.x.a.io.", "other."):
        assert again.matches(name) == expression.matches(name), (expression.regex, name)


@pytest.mark.parametrize("text", ["^(?:(a+)+)$", "^a$", "(a*)*", "^(?:a.b)$)", "((", "^(?:A)$"])
def test_foreign_expressions_are_refused(text: str) -> None:
    with pytest.raises(PatternError):
        expression_from_regex(text)


def test_merging() -> None:
    assert merge([None]) is None
    assert merge([(NAME,), (PATTERN, NAME)]) == (NAME, PATTERN)
    assert merge([(NAME,), None]) == (NAME, ALL)
    assert without_l7_on_shutdown([NAME, ALL])
    assert not without_l7_on_shutdown([PortRuleDNS(match_pattern="**")])


def ports(*listed: dict[str, Any], **rules: Any) -> dict[str, Any]:
    return {"ports": list(listed), "rules": rules}


DNS = [{"matchName": "a.io"}]


@pytest.mark.parametrize(
    "item, ingress, complaint",
    [
        (ports(dns=DNS), False, "port 53 must be specified for DNS rules"),
        (
            ports({"port": "0", "protocol": "UDP"}, dns=DNS),
            False,
            "L7 rules can not be used when a port is 0",
        ),
        (ports({"port": "53", "endPort": 54}, dns=DNS), False, "DNS rules do not support port ranges"),
        (ports({"port": "53", "endPort": 53}, dns=DNS), False, ""),
        (ports({"port": "dns", "protocol": "ANY"}, dns=DNS), False, ""),
        (ports({"port": "53"}, dns=DNS), True, "DNS rules are not allowed on ingress"),
        (ports(*[{"port": str(n)} for n in range(1, 42)], dns=DNS), False, "too many ports, the max is 40"),
        (ports(*[{"port": str(n)} for n in range(1, 41)], dns=DNS), False, ""),
        (
            ports({"port": "53", "protocol": "TCP"}, dns=DNS, http=[{"path": "/"}]),
            False,
            "multiple L7 protocol rule types specified in single rule",
        ),
        (
            ports({"port": "80", "protocol": "UDP"}, http=[{"path": "/"}]),
            False,
            "L7 rules can only apply to TCP (not UDP) except for DNS rules",
        ),
        (ports({"protocol": "UDP"}, dns=DNS), False, "port must be specified"),
        (ports({"port": "0x35", "protocol": "UDP"}, dns=DNS), False, ""),
    ],
)
def test_port_rules(item: dict[str, Any], ingress: bool, complaint: str) -> None:
    assert port_rule_complaint(item, ingress=ingress, version=LATEST) == complaint


def test_egress_items() -> None:
    fqdns = {"toFQDNs": [{"matchName": "a.io"}]}
    assert not egress_complaint({**fqdns, "toPorts": [ports({"port": "443", "protocol": "TCP"})]}, LATEST)
    for other in ("toCIDR", "toCIDRSet", "toEndpoints", "toEntities", "toServices"):
        complaint = egress_complaint({**fqdns, other: ["x"]}, LATEST)
        assert complaint == f"combining ToFQDNs and T{other[1:]} is not supported yet"
    assert "only one of" in egress_complaint({"toFQDNs": [{"matchName": "a", "matchPattern": "b"}]}, LATEST)


def test_protocol_is_part_of_the_key_since_1_16() -> None:
    for version in VERSIONS:
        proxy = DNSProxy(version)
        proxy.update_allowed(1, 53, "UDP", {AnyPeer(): [NAME]})
        assert proxy.check_allowed(1, 53, "UDP", 9, "", "CILIUM.IO")
        assert bool(proxy.check_allowed(1, 53, "TCP", 9, "", "cilium.io.")) is (version < V1_16)


def test_fall_back_to_the_bare_port_from_1_16_to_1_19() -> None:
    for version in VERSIONS:
        proxy = DNSProxy(version)
        rule = RestoredRule(generate_pattern([NAME], version))
        proxy.restore_rules(1, {PortProto(53): [rule]})
        assert bool(proxy.check_allowed(1, 53, "UDP", 9, "10.0.0.1", "cilium.io")) is (version <= V1_19)


def test_restored_rules_end_with_the_first_update() -> None:
    proxy = DNSProxy(LATEST)
    servers = (
        parse_rule_server("10.0.0.1"),
        parse_rule_server("10.1.0.0/16@0"),
        parse_rule_server("::1/128"),
    )
    proxy.restore_rules(1, {PortProto(53, "UDP"): [RestoredRule(generate_pattern([NAME], LATEST), servers)]})
    assert proxy.check_allowed(1, 53, "UDP", 0, "10.0.0.1", "cilium.io").restored
    assert proxy.check_allowed(1, 53, "UDP", 0, "10.1.2.3", "cilium.io")
    assert proxy.check_allowed(1, 53, "UDP", 0, "::1", "cilium.io")
    assert not proxy.check_allowed(1, 53, "UDP", 0, "10.0.0.2", "cilium.io")
    assert not proxy.check_allowed(1, 53, "TCP", 0, "10.0.0.1", "cilium.io")
    proxy.update_allowed(1, 8053, "UDP", None)
    assert not proxy.check_allowed(1, 53, "UDP", 0, "10.0.0.1", "cilium.io")
    assert proxy.allowed == {}


def test_a_bad_rule_leaves_the_old_ones() -> None:
    proxy = DNSProxy(LATEST)
    proxy.update_allowed(1, 53, "UDP", {AnyPeer(): [NAME]})
    with pytest.raises(PatternError):
        proxy.update_allowed(
            1, 53, "UDP", {AnyPeer(): [PATTERN, PortRuleDNS(match_pattern="-invalid-pattern(")]}
        )
    assert proxy.check_allowed(1, 53, "UDP", 0, "", "cilium.io")
    assert not proxy.check_allowed(1, 53, "UDP", 0, "", "a.cilium.io")


def test_saved_rules_name_used_servers_only() -> None:
    proxy = DNSProxy(LATEST)
    kube_dns = Identities(frozenset({100}))
    proxy.update_allowed(1, 53, "UDP", {kube_dns: [NAME], AnyPeer(): None})
    addresses = {kube_dns: ["10.0.0.1", "10.0.0.2", "10.9.0.0/16", "10.0.0.3@7"]}
    saved = proxy.saved_rules(1, addresses, 1000)[PortProto(53, "UDP")]
    assert [str(s) for s in saved[0].servers] == ["10.0.0.1", "10.0.0.2", "10.9.0.0/16"]
    proxy.used_servers.add("10.0.0.2")
    saved = proxy.saved_rules(1, addresses, 1000)[PortProto(53, "UDP")]
    assert [str(s) for s in saved[0].servers] == ["10.0.0.2", "10.9.0.0/16"]
    assert saved[1] == RestoredRule(generate_pattern(None, LATEST))
    servers, warnings = servers_to_save(["10.0.0.1", "10.0.0.2", "10.0.0.3"], (), 1)
    assert len(servers) == 2  # the one that exceeds the limit is saved
    assert warnings


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "10.0.0.1/33",
        "10.0.0.0/08",
        "10.0.0.0/-1",
        "1.2.3.4@",
        "1.2.3.4@x",
        "fe80::1%1/64",
        "010.0.0.1",
    ],
)
def test_bad_servers(text: str) -> None:
    with pytest.raises(ValueError):
        parse_rule_server(text)


def test_replies() -> None:
    for version in VERSIONS:
        assert reply_rcode(Failure.POLICY, "refused", version) == Rcode.REFUSED
        assert reply_rcode(Failure.POLICY, "NameError", version) == Rcode.NXDOMAIN
        assert reply_rcode(Failure.POLICY, "nonsense", version) == Rcode.REFUSED
        assert reply_rcode(Failure.UPSTREAM_TIMEOUT, "refused", version) is None
        for failure in (Failure.SEMAPHORE_FULL, Failure.NO_ENDPOINT, Failure.UPSTREAM_ERROR):
            wanted = Rcode.SERVFAIL if version >= V1_18 else Rcode.NXDOMAIN
            assert reply_rcode(failure, "nameError", version) == wanted


def test_precheck() -> None:
    plain = {"response": False, "opcode": 0, "questions": 1, "answers": 0, "authority": 0, "additional": 0}
    assert precheck(**plain) is Precheck.ACCEPT
    assert (
        precheck(**{**plain, "additional": 2, "answers": 1, "authority": 1, "opcode": 4}) is Precheck.ACCEPT
    )
    assert precheck(**{**plain, "response": True}) is Precheck.IGNORE
    assert precheck(**{**plain, "opcode": 5}) is Precheck.NOTIMP
    for field, number in (
        ("questions", 2),
        ("questions", 0),
        ("answers", 2),
        ("authority", 2),
        ("additional", 3),
    ):
        assert precheck(**{**plain, field: number}) is Precheck.FORMERR


def test_compression() -> None:
    assert not admission.compresses(True, 512, None)
    assert admission.compresses(True, 513, None)
    assert not admission.compresses(True, 1232, 1232)
    assert admission.compresses(True, 1233, 1232)
    assert not admission.compresses(False, 4000, None)
