"""What the comparison with Cilium's own code (``test_real_cilium``) has taught, one small case each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deadhop.fqdn.admission import DNSProxy, Identities
from deadhop.fqdn.answers import MessageDetails, extract_request, extract_response
from deadhop.fqdn.cache import DNSCache
from deadhop.fqdn.clock import ZERO
from deadhop.fqdn.dns_rules import PortRuleDNS, generate_pattern
from deadhop.fqdn.flows import EventType, Flow, FlowEndpoint, compact_line, dns_summary
from deadhop.fqdn.gotext import parse_uint16, quote
from deadhop.fqdn.identity import NameManager
from deadhop.fqdn.names import from_presentation
from deadhop.fqdn.options import (
    LATEST,
    V1_12,
    V1_13,
    V1_14,
    V1_15,
    V1_16,
    V1_17,
    V1_18,
    V1_19,
    V1_20,
    Version,
)
from deadhop.fqdn.patterns import PatternError, check
from deadhop.fqdn.restore import parse_rule_server, rules_from_json
from deadhop.fqdn.rule_validation import egress_complaint, port_rule_complaint, protocols
from deadhop.fqdn.zombies import WARN_PER_HOST, DNSZombieMappings
from deadhop.model.dns import RR, Message, Question

# Rules.


@pytest.mark.parametrize(
    "text, number",
    [
        ("53", 53),
        ("0x35", 53),
        ("0b101", 5),
        ("0o17", 15),
        ("017", 15),
        ("1_000", 1000),
        ("0_7", 7),
        ("0", 0),
        ("00", 0),
    ],
)
def test_ports_are_go_literals(text: str, number: int) -> None:
    assert parse_uint16(text) == number


@pytest.mark.parametrize(
    "text, why",
    [
        ("08", "invalid syntax"),
        ("1__0", "invalid syntax"),
        ("_1", "invalid syntax"),
        ("1_", "invalid syntax"),
        ("+53", "invalid syntax"),
        ("0x", "invalid syntax"),
        ("65536", "value out of range"),
        ("655360x", "value out of range"),
        ("5 3", "invalid syntax"),
    ],
)
def test_what_is_no_port(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        parse_uint16(text)
    assert str(error.value) == f'strconv.ParseUint: parsing "{text}": {why}'


def test_quoting() -> None:
    assert quote('a"\n\x01\x7fü\u200b') == '"a\\"\\n\\x01\\x7fü\\u200b"'


def port_rule(port: dict[str, Any], **rules: Any) -> dict[str, Any]:
    return {"ports": [port], "rules": rules}


DNS = [{"matchName": "a.io"}]


def complaint(item: dict[str, Any], version: Version, *, ingress: bool = False) -> str:
    return port_rule_complaint(item, ingress=ingress, version=version)


def test_words_begin_small_since_1_17() -> None:
    bad = {"port": "x!"}
    assert complaint(port_rule(bad), V1_16).startswith("Unable to parse port: ")
    assert complaint(port_rule(bad), V1_17).startswith("unable to parse port: ")
    assert complaint({"rules": {"dns": DNS}}, V1_16) == "Port 53 must be specified for DNS rules"
    assert complaint({"rules": {"dns": DNS}}, V1_17) == "port 53 must be specified for DNS rules"
    assert complaint(port_rule({}), V1_18) == "Port must be specified"
    assert complaint(port_rule({}), V1_19) == "port must be specified"
    both = {"toFQDNs": DNS, "toCIDR": ["1.1.1.1"]}
    assert egress_complaint(both, V1_16) == "Combining ToFQDNs and ToCIDR is not supported yet"
    assert egress_complaint(both, V1_17) == "combining ToFQDNs and ToCIDR is not supported yet"


def test_ranges_of_ports() -> None:
    item = port_rule({"port": "53", "endPort": 60, "protocol": "UDP"}, dns=DNS)
    assert complaint(item, V1_15) == ""
    assert complaint(item, V1_16) == "L7 rules do not support port ranges"
    assert complaint(item, V1_17) == "DNS rules do not support port ranges"


def test_protocols_by_version() -> None:
    assert protocols(V1_12) == ("tcp", "udp")
    assert complaint(port_rule({"port": "53", "protocol": "SCTP"}), V1_12) == (
        'invalid protocol "SCTP", must be { tcp | udp | any }'
    )
    assert complaint(port_rule({"port": "53", "protocol": "icmp"}), V1_18) == (
        'invalid protocol "ICMP", must be { tcp | udp | sctp | any }'
    )
    assert complaint(port_rule({"port": "53", "protocol": "VRRP"}), V1_19) == "port must be empty or 0"
    assert complaint(port_rule({"port": "0", "protocol": "GRE"}), V1_20) == ""


def test_an_empty_list_of_rules_is_a_type() -> None:
    tcp = {"port": "53", "protocol": "TCP"}
    two = "multiple L7 protocol rule types specified in single rule"
    assert complaint(port_rule(tcp, dns=DNS, http=[]), LATEST) == two
    assert complaint(port_rule(tcp, dns=DNS, kafka=[]), V1_19) == two
    assert complaint(port_rule(tcp, dns=DNS, kafka=[]), V1_20) == ""
    assert complaint(port_rule({"port": "0"}, dns=[]), V1_13) == ""
    assert complaint(port_rule({"port": "53"}, dns=[]), V1_12) == (
        "L7 rules can only apply to TCP (not ANY) except for DNS rules"
    )


def test_dns_on_ingress_came_after_the_ports_in_1_12() -> None:
    item = {"rules": {"dns": DNS}}
    assert complaint(item, V1_13, ingress=True) == "DNS rules are not allowed on ingress"
    assert complaint(item, V1_12, ingress=True) == "Port 53 must be specified for DNS rules"


def test_peers_are_checked_before_ports_since_1_17() -> None:
    item = {"toEntities": ["moon"], "toPorts": [port_rule({"port": "x!"})]}
    assert egress_complaint(item, V1_17) == "unsupported entity: moon"
    assert egress_complaint(item, V1_16).startswith("Unable to parse port")
    fqdns = {"toFQDNs": [{"matchName": "a!"}], "toPorts": [port_rule({})]}
    assert egress_complaint(fqdns, LATEST) == "port must be specified"


def test_peers() -> None:
    assert egress_complaint({"toCIDR": ["1.2.3.4/33"]}, LATEST).startswith("unable to parse CIDR: ")
    assert egress_complaint({"toCIDR": [""]}, LATEST) == "IP must be specified"
    assert egress_complaint({"toCIDRSet": [{"cidr": "1.2.3.4"}]}, LATEST).startswith(
        'unable to parse CIDRRule "1.2.3.4": '
    )
    assert egress_complaint({"toCIDRSet": [{}]}, LATEST) == (
        "one of cidr, cidrGroupRef, or cidrGroupSelector is required"
    )
    zeros = {"toCIDRSet": [{"cidr": "10.0.0.0/08"}]}
    assert egress_complaint(zeros, V1_14) == ""
    assert egress_complaint(zeros, V1_15).startswith("Unable to parse CIDRRule")
    assert egress_complaint({"toEntities": ["world-ipv4"]}, V1_14) == "unsupported entity: world-ipv4"
    services = {"toServices": [{"k8sService": {}}], "toPorts": [port_rule({"port": "53"})]}
    assert egress_complaint(services, V1_13) == ""
    assert egress_complaint(services, V1_16) == "Combining ToServices and ToPorts is not supported yet"
    assert egress_complaint(services, V1_17) == ""


def test_blanks_and_bytes_of_a_pattern_since_1_19() -> None:
    check(" *.io ", V1_18)
    with pytest.raises(PatternError, match="Invalid characters"):
        check(" *.io ", V1_19)
    with pytest.raises(PatternError, match="Must be <= 255"):
        check('"' + "ü" * 128, V1_19)


# Cache and zombies.


def test_an_entry_keeps_repeated_addresses_and_its_name() -> None:
    cache = DNSCache()
    cache.update(0, "a.", ["1.1.1.1", "1.1.1.1"], 5)
    assert cache.dump()[0].ips == ("1.1.1.1", "1.1.1.1")
    cache.update(0, "b.", [], 5)
    assert cache.count() == (2, 1)


def test_no_names_are_all_names_and_known_pairs_make_a_smaller_entry() -> None:
    source, cache = DNSCache(), DNSCache()
    source.update(0, "a.", ["1.1.1.1", "1.1.1.2"], 5)
    cache.replace([], [source])
    assert cache.lookup("a.") == ["1.1.1.1", "1.1.1.2"]
    cache.replace(["a."], [source], {("a.", "1.1.1.2")})
    assert [entry.ips for entry in cache.dump()] == [("1.1.1.2",)]


def test_backports_of_zombie_changes() -> None:
    for version, passes in (
        (V1_15, 1),
        (Version(1, 15, 1), 1),
        (Version(1, 15, 2), 2),
        (Version(1, 14, 8), 2),
        (V1_16, 2),
    ):
        zombies = DNSZombieMappings(version)
        zombies.upsert(0, "1.1.1.1", "a.")
        for start in range(1, passes):
            zombies.set_ct_gc_time(start)
            assert zombies.gc().alive
        zombies.set_ct_gc_time(passes)
        assert zombies.gc().dead, version
    for version, seen in ((Version(1, 16, 4), ZERO), (Version(1, 16, 5), 9.0), (V1_17, 9.0)):
        zombies = DNSZombieMappings(version)
        zombies.set_ct_gc_time(9.0)
        zombies.upsert(20, "1.1.1.1", "a.")
        assert zombies.dump()[0].alive_at == seen


def test_dead_siblings_count_since_1_12_5() -> None:
    for version, left in ((Version(1, 12, 4), 2), (Version(1, 12, 5), 1)):
        zombies = DNSZombieMappings(version, per_host_limit=1)
        zombies.upsert(1, "1.1.1.1", "a.")
        zombies.upsert(9, "1.1.1.2", "a.")
        zombies.set_ct_gc_time(5)
        assert len(zombies.gc().alive) == left


def test_expired_entries_are_due_now_since_two_passes_are_needed() -> None:
    for version, due in ((V1_13, 5.0), (V1_16, 60.0)):
        cache, zombies = DNSCache(), DNSZombieMappings(version)
        cache.update(0, "a.", ["1.1.1.1"], 5)
        cache.gc(60, zombies)
        assert zombies.dump()[0].delete_pending_at == due


def test_evicting_what_no_pass_had_seen_was_worth_the_warning() -> None:
    for version, warnings in ((V1_15, (WARN_PER_HOST,)), (V1_17, ())):
        zombies = DNSZombieMappings(version, per_host_limit=1)
        zombies.upsert(1, "1.1.1.1", "a.")
        zombies.upsert(2, "1.1.1.2", "a.")
        assert zombies.gc().warnings == warnings


def test_saved_zombies_join_the_present_ones() -> None:
    for version, seen in ((V1_15, ZERO), (V1_17, 7.0)):
        zombies = DNSZombieMappings(version)
        zombies.upsert(1, "1.1.1.1", "a.")
        zombies.mark_alive(7.0, "1.1.1.1")
        saved = json.loads(zombies.to_json())
        zombies.upsert(1, "2.2.2.2", "b.")
        assert zombies.load(saved) == []
        assert {zombie.ip: zombie.alive_at for zombie in zombies.dump()}["1.1.1.1"] == seen
        assert "2.2.2.2" in zombies


def test_a_star_that_was_asked_for_took_other_names_along() -> None:
    for version, left in ((V1_17, False), (V1_18, True)):
        zombies = DNSZombieMappings(version)
        zombies.upsert(1, "1.1.1.1", "c.io.")
        zombies.force_expire_by_name_ip(5, "*.io.", ["1.1.1.1"])
        assert ("1.1.1.1" in zombies) is left


def test_a_later_expiry_is_no_news_to_the_name_manager() -> None:
    for version in (V1_16, V1_18, V1_19):
        manager = NameManager(version)
        manager.register(PortRuleDNS(match_name="a"))
        assert manager.update(0, "a.", ["1.1.1.1"], 5).waits
        assert not manager.update(1, "a.", ["1.1.1.1"], 5).waits


# The proxy.


def test_no_rules_were_the_wildcard_until_1_13() -> None:
    assert generate_pattern(None, V1_13).regex == "((^([-a-zA-Z0-9_]+[.])+$)|(^[.]$))"
    assert generate_pattern((), V1_13).regex == ""
    assert not generate_pattern(None, V1_13).matches("a b.")
    assert generate_pattern(None, V1_14).matches("a b.")


def test_protocol_is_part_of_the_key_in_late_patches() -> None:
    for version, told_apart in (
        (V1_15, False),
        (Version(1, 15, 4), True),
        (Version(1, 13, 15), True),
        (Version(1, 14, 9), False),
        (Version(1, 14, 10), True),
    ):
        proxy = DNSProxy(version)
        proxy.update_allowed(1, 53, "UDP", {Identities(frozenset({7})): None})
        assert bool(proxy.check_allowed(1, 53, "TCP", 7, "1.1.1.1", "a.")) is not told_apart


def test_saved_cidrs_held_nothing_until_1_16() -> None:
    rules, _ = rules_from_json({"53": [{"Re": "", "IPs": {"10.0.0.0/8": {}}}]})
    for version, allowed in ((V1_16, False), (V1_17, True)):
        proxy = DNSProxy(version)
        proxy.restore_rules(1, rules)
        assert bool(proxy.check_allowed(1, 53, None, 0, "10.1.1.1", "a.")) is allowed


def test_saved_servers_as_go_reads_them() -> None:
    assert str(parse_rule_server("fe80::1%eth0")) == "fe80::1"
    assert str(parse_rule_server("::ffff:1.2.3.4/120")) == "::ffff:1.2.3.4/120"
    assert str(parse_rule_server("")) == "invalid IP"
    assert not parse_rule_server("").contains("1.2.3.4")
    assert str(parse_rule_server("1.2.3.4@0000000000000")) == "1.2.3.4"


def test_names_as_the_dns_library_prints_them() -> None:
    assert from_presentation("a\\032b\\$c\\.d.io.") == "a\\ b$c\\.d.io."
    assert from_presentation("it's.\\195\\188.io.") == "it\\'s.\\195\\188.io."
    asked = (Question("A\\032b.", "A"), Question("c.", "AAAA"))
    answer = RR("a\\032b.", 5, "CNAME", "x\\$y.")
    found = extract_response(Message(response=True, questions=asked, answers=(answer,)), V1_19)
    assert (found.qname, found.cnames, found.qtypes) == ("a\\ b.", ("x$y.",), (1, 28))
    assert extract_request(Message(questions=asked), V1_20).qtypes == (1,)


# Flows.


def test_taking_a_selector_away_labels_its_names_anew() -> None:
    manager = NameManager(V1_18)
    manager.register(PortRuleDNS(match_pattern="*"))
    manager.cache.update(0, "c.io.", ["1.1.1.1"], 60)  # as GC brings it
    assert manager.labels_of("1.1.1.1") is None
    manager.unregister(PortRuleDNS(match_pattern="*.io"))
    assert manager.labels_of("1.1.1.1") == {"fqdn:*", "reserved:world"}


def test_words_of_flows() -> None:
    details = MessageDetails(qname="a.", response=True, ttl=5, cnames=("x\\.b.",), rcode=0)
    assert dns_summary(details) == r'DNS Answer CNAMEs: "x\\.b." TTL: 5 (Proxy a. )'
    assert "RCode: Bad OPT Version" in dns_summary(MessageDetails(qname="a.", response=True, rcode=16))
    assert "RCode" not in dns_summary(MessageDetails(qname="a.", response=True, rcode=256))
    verdict = Flow(event_type=EventType(type=5), policy_match_type=3)
    assert compact_line(verdict).endswith(
        "policy-verdict:L4-Only TRAFFIC_DIRECTION_UNKNOWN VERDICT_UNKNOWN ()"
    )
    assert "(aggregate-cluster)" in compact_line(Flow(source=FlowEndpoint(identity=11)))
    assert "(ID:15)" in compact_line(Flow(source=FlowEndpoint(identity=15)))
    for number, text in ((196, "TTL exceeded"), (20, "20, 0")):
        dropped = Flow(event_type=EventType(type=1, sub_type=number), verdict="DROPPED")
        assert f"{text} DROPPED" in compact_line(dropped)
