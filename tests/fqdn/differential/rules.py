"""Items of ``toPorts`` and ``egress``: the exact complaint."""

from __future__ import annotations

import re
from typing import Any

from deadhop.fqdn import rule_validation
from deadhop.fqdn.options import Version

from ..real_cilium import Oracle, call
from .cases import Area, Case, Outcomes, Random
from .selectors import any_selector, error_of

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


AREAS = (
    Area("port rules", make_port_rules, real_port_rules, our_port_rules),
    Area("egress rules", make_egress, real_egress, our_egress),
)
