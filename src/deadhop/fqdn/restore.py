"""What an agent saves and reads back: DNS rules by server address, and the state file of an endpoint.

``ep_config.json`` (base64 inside ``ep_config.h`` up to 1.15) holds ``DNSRulesV2`` (``DNSRules`` with plain ports up
to 1.15, both from 1.16 to 1.19), ``DNSHistory`` and ``DNSZombies``. Until the policy is computed again the proxy
matches saved rules by the server's address instead of its identity.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

import msgspec

from deadhop.fqdn.cache import canonical_ip
from deadhop.fqdn.dns_rules import Expression, expression_from_regex
from deadhop.fqdn.gotext import address_text
from deadhop.fqdn.patterns import PatternError

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}
NO_ADDRESS = "invalid IP"
_V2 = 1 << 24


class RemoteClusterError(ValueError):
    """The address belongs to another cluster of the mesh (``@`` with a cluster id)."""


class RuleServer(msgspec.Struct, frozen=True):
    """A DNS server of a saved rule: one address, or a CIDR with its prefix length."""

    address: str
    bits: int | None = None

    @property
    def is_addr(self) -> bool:
        return self.bits is None

    def __str__(self) -> str:
        return self.address if self.bits is None else f"{self.address}/{self.bits}"

    def network(self) -> IPv4Network | IPv6Network:
        return ip_network(str(self), strict=False)

    def contains(self, ip: str) -> bool:
        """Whether ``ip`` is this address, or inside this CIDR."""
        try:
            address = ip_address(ip)
            return address == ip_address(self.address) if self.bits is None else address in self.network()
        except ValueError:
            return False


def parse_rule_server(text: str) -> RuleServer:
    """Read ``1.2.3.4``, ``10.0.0.0/8`` or either with ``@0`` (``restore.ParseRuleIPOrCIDR``).

    A zone is dropped, and no address at all is one that equals none. Raises ``ValueError``, :class:`RemoteClusterError` for another cluster's.
    """
    body, at, cluster = text.partition("@")
    if at and (not re.fullmatch(r"0*[0-9]{1,10}", cluster) or int(cluster) >= 1 << 32):
        raise ValueError(f"invalid cluster ID in {text!r}")
    if at and int(cluster):
        raise RemoteClusterError(f"{text!r} is an address of a remote cluster")
    if not body:
        return RuleServer(NO_ADDRESS)
    address, slash, length = body.partition("/")
    if not slash:
        address, percent, zone = body.partition("%")
        if percent and (not zone or ":" not in address):
            raise ValueError(f"not an address: {text!r}")
        return RuleServer(address_text(ip_address(address)))
    if "%" in address:
        raise ValueError(f"IPv6 zones are not allowed in a prefix: {text!r}")
    parsed = ip_address(address)
    if not re.fullmatch(r"0|[1-9][0-9]{0,2}", length) or int(length) > parsed.max_prefixlen:
        raise ValueError(f"invalid prefix length in {text!r}")
    return RuleServer(address_text(parsed), int(length))


class PortProto(msgspec.Struct, frozen=True, order=True):
    """The key of a rule set. ``protocol`` None is the key of versions up to 1.15: the port alone, any protocol."""

    port: int
    protocol: str | None = None

    @classmethod
    def from_number(cls, number: int) -> PortProto:
        """Raises ``ValueError`` where the number is neither a port nor a port with protocol."""
        if 0 <= number < 1 << 16:
            return cls(number)
        names = {value: name for name, value in PROTOCOLS.items()}
        protocol = (number >> 16) & 0xFF
        if number >> 24 != 1 or protocol not in names:
            raise ValueError(f"not a port and protocol: {number}")
        return cls(number & 0xFFFF, names[protocol])

    @property
    def number(self) -> int:
        """As the state file has it: ``1<<24 | protocol<<16 | port``."""
        return self.port if self.protocol is None else _V2 | PROTOCOLS[self.protocol] << 16 | self.port

    @property
    def without_protocol(self) -> PortProto:
        return PortProto(self.port)

    def __str__(self) -> str:
        return f"{self.protocol or 'ANY'}/{self.port}"


class RestoredRule(msgspec.Struct, frozen=True):
    """One saved expression and the servers it applies to; no servers means any."""

    expression: Expression
    servers: tuple[RuleServer, ...] = ()

    def allows(self, server_ip: str, name: str, *, as_text: bool = False) -> bool:
        """Whether the rule lets a name through to a server.

        ``as_text``: servers are compared as they are written, which is how it was up to 1.16: a CIDR holds nothing,
        and an IPv4-mapped address is an IPv4 address where it is asked but not where it is saved.
        """
        if self.servers and not self._holds(server_ip, as_text=as_text):
            return False
        return self.expression.matches(name)

    def _holds(self, server_ip: str, *, as_text: bool) -> bool:
        if not as_text:
            return any(server.contains(server_ip) for server in self.servers)
        try:
            return canonical_ip(server_ip) in map(str, self.servers)
        except ValueError:
            return False


RestoredRules = Mapping[PortProto, Sequence[RestoredRule]]


def rules_to_json(rules: RestoredRules) -> dict[str, Any]:
    """The object under ``DNSRulesV2``."""
    return {
        str(key.number): [
            {
                "Re": rule.expression.regex,
                "IPs": {str(server): {} for server in rule.servers} if rule.servers else None,
            }
            for rule in listed
        ]
        for key, listed in sorted(rules.items(), key=lambda item: str(item[0].number))
    }


def rules_from_json(saved: Mapping[str, Any]) -> tuple[dict[PortProto, list[RestoredRule]], list[str]]:
    """Read saved rules; the second value says what was passed over."""
    found: dict[PortProto, list[RestoredRule]] = {}
    complaints: list[str] = []
    for number, listed in saved.items():
        try:
            key = PortProto.from_number(int(number))
        except ValueError as error:
            complaints.append(f"{number}: {error}")
            continue
        for item in listed if isinstance(listed, list) else []:
            try:
                servers = tuple(parse_rule_server(str(ip)) for ip in item.get("IPs") or ())
                rule = RestoredRule(expression_from_regex(item["Re"]), servers)
                found.setdefault(key, []).append(rule)
            except (PatternError, ValueError, KeyError, TypeError, AttributeError) as error:
                complaints.append(f"{key}: {error}")
    return found, complaints


def servers_to_save(
    addresses: Iterable[str], used_servers: Collection[str], limit: int
) -> tuple[tuple[RuleServer, ...], tuple[str, ...]]:
    """The servers saved for a rule whose selector has ``addresses``: (servers, warnings).

    Once a server has been used, only used addresses are saved (CIDRs always are); no servers left means any
    server after the restart. Addresses of remote clusters are passed over. The one that exceeds ``limit`` is saved
    and ends the list (``DNSProxy.GetRules``).
    """
    servers: list[RuleServer] = []
    for text in addresses:
        try:
            server = parse_rule_server(text)
        except ValueError:
            continue
        if server.is_addr and used_servers and server.address not in used_servers:
            continue
        servers.append(server)
        if len(servers) > limit:
            return tuple(dict.fromkeys(servers)), ("Too many IPs for a DNS rule, skipping the rest",)
    return tuple(dict.fromkeys(servers)), ()


class EndpointState(msgspec.Struct, frozen=True, kw_only=True):
    """What a state file says of one endpoint. ``history`` and ``zombies`` are still JSON values."""

    id: int = 0
    namespace: str = ""
    pod: str = ""
    ipv4: str = ""
    ipv6: str = ""
    labels: tuple[str, ...] = ()
    identity: int | None = None
    rules: tuple[tuple[PortProto, tuple[RestoredRule, ...]], ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    zombies: dict[str, Any] = msgspec.field(default_factory=dict)
    complaints: tuple[str, ...] = ()


_HEADER_STATE = re.compile(r"CILIUM_BASE64_(?:[^\s:]*:)?([A-Za-z0-9+/=]+)\s*$", re.M)


def read_endpoint_state(text: str) -> EndpointState:
    """Read ``ep_config.json``, or ``ep_config.h`` of versions up to 1.15. Raises ``ValueError`` where it is neither."""
    body = text
    if not text.lstrip().startswith("{"):
        found = _HEADER_STATE.search(text)
        if not found:
            raise ValueError("not an endpoint's state file")
        try:
            body = base64.b64decode(found[1], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ValueError(f"not an endpoint's state file: {error}") from error
    state = json.loads(body)
    if not isinstance(state, dict):
        raise ValueError("not an endpoint's state file")
    saved = state.get("DNSRulesV2") or state.get("DNSRules") or {}
    rules, complaints = rules_from_json(saved if isinstance(saved, dict) else {})
    history = state.get("DNSHistory")
    zombies = state.get("DNSZombies")
    label_sets = state.get("OpLabels")
    identity_labels = label_sets.get("OrchestrationIdentity") if isinstance(label_sets, dict) else None
    security = state.get("SecLabel")
    identity = security.get("id") if isinstance(security, dict) else None
    return EndpointState(
        id=state["ID"] if isinstance(state.get("ID"), int) else 0,
        namespace=str(state.get("K8sNamespace") or ""),
        pod=str(state.get("K8sPodName") or ""),
        ipv4=str(state.get("IPv4") or ""),
        ipv6=str(state.get("IPv6") or ""),
        labels=tuple(sorted(identity_labels)) if isinstance(identity_labels, dict) else (),
        identity=identity if isinstance(identity, int) else None,
        rules=tuple((key, tuple(listed)) for key, listed in sorted(rules.items(), key=lambda i: i[0].number)),
        history=tuple(i for i in history if isinstance(i, dict)) if isinstance(history, list) else (),
        zombies=zombies if isinstance(zombies, dict) else {},
        complaints=tuple(complaints),
    )
