"""Why the agent refuses a rule: ``pkg/policy/api/rule_validation.go``, its checks in its order and its words.

Words and order changed: errors begin with a small letter since 1.17, an egress item's peers are looked at before its
ports since 1.17. What needs flags or the cluster is left out (``toNodes``, listeners, selectors' labels).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from deadhop.fqdn.dns_rules import dns_rule_complaint
from deadhop.fqdn.gotext import parse_uint16, quote
from deadhop.fqdn.options import V1_12, V1_13, V1_14, V1_15, V1_16, V1_17, V1_19, V1_20, Version
from deadhop.fqdn.selectors import FQDNSelector, selector_complaint

MAX_PORTS = 40
L3_MEMBERS = (
    "toCIDR",
    "toCIDRSet",
    "toEndpoints",
    "toEntities",
    "toServices",
    "toFQDNs",
    "toGroups",
    "toNodes",
)

_SERVICE_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-zA-Z])[a-zA-Z0-9](?:[a-zA-Z0-9]|-(?!-))*(?<!-)\Z")
_PROTOCOLS = (
    (V1_12, ("tcp", "udp")),
    (V1_13, ("tcp", "udp", "sctp")),
    (V1_19, ("tcp", "udp", "sctp", "vrrp", "igmp")),
    (V1_20, ("tcp", "udp", "sctp", "vrrp", "igmp", "gre", "ipip", "ipv6", "esp", "ah")),
)
_WITH_PORTS = ("tcp", "udp", "sctp")
_ENTITIES = frozenset(
    (
        "all",
        "world",
        "cluster",
        "host",
        "init",
        "ingress",
        "unmanaged",
        "remote-node",
        "health",
        "none",
        "kube-apiserver",
    )
)
_ENTITIES_SINCE = {"world-ipv4": V1_15, "world-ipv6": V1_15, "cluster-mesh": V1_20}


def _since_1_17(text: str, version: Version) -> str:
    """Errors began with a capital up to 1.16."""
    return text if version >= V1_17 else text[0].upper() + text[1:]


def protocols(version: Version) -> tuple[str, ...]:
    """The protocols a port may name beside ``any``, in the order of the complaint about another one."""
    return next((named for since, named in reversed(_PROTOCOLS) if version >= since), _PROTOCOLS[0][1])


def rules_of(items: Any) -> list[FQDNSelector]:
    """The entries of ``toFQDNs`` or ``rules.dns``."""
    listed = items if isinstance(items, list) else []
    return [FQDNSelector.read(item) for item in listed if isinstance(item, Mapping)]


def _port_complaint(port: Mapping[str, Any], kinds: Sequence[str], version: Version) -> tuple[bool, str]:
    """(the port is 0, complaint) as ``PortProtocol.sanitize`` decides. ``kinds``: what L7 rules there are."""
    text = str(port.get("port") if port.get("port") is not None else "")
    if not text:
        return False, f"{'p' if version >= V1_19 else 'P'}ort must be specified"
    named = str(port.get("protocol") or "")
    zero = False
    if not _SERVICE_NAME.match(text):
        portless = [name.upper() for name in protocols(version) if name not in _WITH_PORTS]
        if text != "0" and named in portless:
            return False, "port must be empty or 0"
        try:
            number = parse_uint16(text)
        except ValueError as error:
            return False, _since_1_17(f"unable to parse port: {error}", version)
        zero = number == 0
        end = port.get("endPort") or 0
        if isinstance(end, int) and end > number:
            if "dns" in kinds and version >= V1_17:
                return zero, "DNS rules do not support port ranges"
            if kinds and V1_16 <= version < V1_17:
                return zero, "L7 rules do not support port ranges"
    protocol = named.upper() or "ANY"
    allowed = (*protocols(version), "any")
    if protocol.lower() not in allowed:
        return zero, f"invalid protocol {quote(protocol)}, must be {{ {' | '.join(allowed)} }}"
    return zero, ""


def _l7_complaint(rules: Mapping[str, Any], ports: Sequence[Any], version: Version) -> str:
    """``L7Rules.sanitize``: a list counts as a type even where it is empty, if it is there."""
    types = sum(rules.get(kind) is not None for kind in ("http", "dns"))
    dns = rules.get("dns")
    if dns is not None and not ports:
        return _since_1_17("port 53 must be specified for DNS rules", version)
    for rule in rules_of(dns):
        if complaint := dns_rule_complaint(rule, version):
            return complaint
    if version < V1_20:
        if rules.get("l7") is not None and not rules.get("l7proto"):
            return "'l7' may only be specified when a 'l7proto' is also specified"
        types += (rules.get("kafka") is not None) + bool(rules.get("l7proto"))
    return "multiple L7 protocol rule types specified in single rule" if types > 1 else ""


def _l7_kinds(rules: Mapping[str, Any], version: Version) -> list[str]:
    """The kinds of L7 rules that make a rule one (``L7Rules.IsEmpty``); up to 1.12 an empty list was enough."""
    known = ("http", "dns") if version >= V1_20 else ("http", "kafka", "dns", "l7")
    if version < V1_13:
        return [kind for kind in known if rules.get(kind) is not None]
    return [kind for kind in known if rules.get(kind)]


def port_rule_complaint(port_rule: Mapping[str, Any], *, ingress: bool, version: Version) -> str:
    """Why the agent refuses one ``toPorts`` item, or an empty string (``PortRule.sanitize``)."""
    given = port_rule.get("rules")
    rules: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    kinds = _l7_kinds(rules, version)
    has_dns = bool(rules.get("dns"))
    if version >= V1_13:
        if ingress and has_dns:
            return "DNS rules are not allowed on ingress"
        servers = port_rule.get("serverNames") or []
        if servers and kinds and not port_rule.get("terminatingTLS"):
            return "ServerNames are not allowed with L7 rules without TLS termination"
        if "" in servers:
            return _since_1_17("empty server name is not allowed", version)
    ports = [p for p in port_rule.get("ports") or [] if isinstance(p, Mapping)]
    if len(ports) > MAX_PORTS:
        return f"too many ports, the max is {MAX_PORTS}"
    zero = False
    for port in ports:
        is_zero, complaint = _port_complaint(port, kinds, version)
        if complaint:
            return complaint
        zero = zero or is_zero
        protocol = str(port.get("protocol") or "ANY").upper()
        if kinds and not has_dns and protocol != "TCP":
            return f"L7 rules can only apply to TCP (not {protocol}) except for DNS rules"
        if version < V1_13 and ingress and has_dns:
            return "DNS rules are not allowed on ingress"
    if not kinds:
        return ""
    return "L7 rules can not be used when a port is 0" if zero else _l7_complaint(rules, ports, version)


def _cidr_complaint(cidr: Any, version: Version) -> str:
    """``CIDR.sanitize``; the reason that Go's parser gives is not repeated."""
    if not cidr:
        return "IP must be specified"
    if _is_prefix(str(cidr), version) or _is_address(str(cidr), version):
        return ""
    return f"{'u' if version >= V1_15 else 'U'}nable to parse CIDR: {cidr}"


def _cidr_rule_complaint(rule: Mapping[str, Any], version: Version) -> str:
    """``CIDRRule.sanitize``: an address without a length is none here."""
    cidr = str(rule.get("cidr") or "")
    if version >= V1_17:
        given = sum(bool(rule.get(key)) for key in ("cidr", "cidrGroupRef", "cidrGroupSelector"))
        if not given:
            return "one of cidr, cidrGroupRef, or cidrGroupSelector is required"
        if given > 1:
            return "more than one of cidr, cidrGroupRef, or cidrGroupSelector may not be set"
    if rule.get("cidrGroupRef") or rule.get("cidrGroupSelector"):
        return ""
    if not _is_prefix(cidr, version):
        return _since_1_17(f"unable to parse CIDRRule {quote(cidr)}: {cidr}", version)
    network = _network(cidr)
    for excluded in rule.get("except") or []:
        if not _is_prefix(str(excluded), version):
            return f"not a prefix: {excluded}"
        inner = _network(str(excluded))
        inside = inner.version == network.version and inner.network_address in network
        if not inside or (version >= V1_20 and network.prefixlen > inner.prefixlen):
            return f"allow CIDR prefix {cidr} does not contain exclude CIDR prefix {excluded}"
    return ""


def _network(prefix: str) -> IPv4Network | IPv6Network:
    address, _, bits = prefix.partition("/")
    return ip_network(f"{address}/{int(bits)}", strict=False)


def _is_address(text: str, version: Version) -> bool:
    """``netip.ParseAddr``, which takes any zone; up to 1.14 ``net.ParseIP``, which takes none."""
    body, percent, zone = text.partition("%")
    if percent and (version < V1_15 or not zone or ":" not in body):
        return False
    try:
        ip_address(body)
    except ValueError:
        return False
    return True


def _is_prefix(text: str, version: Version) -> bool:
    """``netip.ParsePrefix``; up to 1.14 ``net.ParseCIDR``, which lets the length begin with zeros."""
    address, slash, bits = text.partition("/")
    if not slash or "%" in address or not _is_address(address, version):
        return False
    form = r"0|[1-9][0-9]{0,2}" if version >= V1_15 else r"[0-9]{1,7}"
    return re.fullmatch(form, bits) is not None and int(bits) <= ip_address(address).max_prefixlen


def _entity_complaint(entity: Any, version: Version) -> str:
    since = _ENTITIES_SINCE.get(str(entity))
    known = version >= since if since else entity in _ENTITIES
    return "" if known else f"unsupported entity: {entity}"


def _peers_complaint(item: Mapping[str, Any], version: Version) -> str:
    checks: tuple[tuple[str, Callable[[Any, Version], str]], ...] = (
        ("toCIDR", _cidr_complaint),
        ("toCIDRSet", _cidr_rule_complaint),
        ("toEntities", _entity_complaint),
    )
    for member, check in checks:
        for entry in item.get(member) or []:
            if complaint := check(entry, version):
                return complaint
    return ""


def _combination_complaint(item: Mapping[str, Any], version: Version) -> str:
    """Two kinds of peers in one item, named in the order of a Go map: in none."""
    present = [member for member in L3_MEMBERS if item.get(member)]
    if "toFQDNs" in present:
        present.sort(key=lambda member: member != "toFQDNs")
    names = [f"T{member[1:]}" for member in present[:2]]
    if len(names) > 1:
        return _since_1_17(f"combining {names[0]} and {names[1]} is not supported yet", version)
    return ""


def _ports_complaint(item: Mapping[str, Any], version: Version) -> str:
    ports = item.get("toPorts") or []
    if ports and item.get("icmps"):
        end = "." if version < V1_17 else ""
        text = (
            f"the ICMPs block may only be present without ToPorts. Define a separate rule to use ToPorts{end}"
        )
        return _since_1_17(text, version)
    for port_rule in ports:
        if isinstance(port_rule, Mapping):
            complaint = port_rule_complaint(port_rule, ingress=False, version=version)
            if complaint:
                return complaint
    return ""


def egress_complaint(item: Mapping[str, Any], version: Version) -> str:
    """Why the agent refuses one ``egress`` item, or an empty string (``EgressRule.sanitize``).

    ``toFQDNs`` stands alone among the L3 peers of an item and may be combined with ``toPorts``.
    """
    if complaint := _combination_complaint(item, version):
        return complaint
    if V1_14 <= version < V1_17 and item.get("toServices") and item.get("toPorts"):
        return "Combining ToServices and ToPorts is not supported yet"
    checks = (
        (_peers_complaint, _ports_complaint) if version >= V1_17 else (_ports_complaint, _peers_complaint)
    )
    for check in checks:
        if complaint := check(item, version):
            return complaint
    for selector in rules_of(item.get("toFQDNs")):
        if complaint := selector_complaint(selector, version):
            return complaint
    return ""


def egress_deny_complaint(item: Mapping[str, Any]) -> str:
    """Why an ``egressDeny`` item is not possible: it has no ``toFQDNs`` (cilium/cilium issue 35494)."""
    return 'unknown field "spec.egressDeny[].toFQDNs"' if item.get("toFQDNs") else ""
