"""The DNS proxy's decision: may this endpoint ask this server for this name (``dnsproxy.CheckAllowed``), and its refusals.

Rules are kept per endpoint and port as selector → expression. Any match allows, order and query type do not
matter, there is no deny. While an endpoint has no rules on a port, rules restored from before the restart apply,
matched by the server's address; the first update of the endpoint drops all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from deadhop.fqdn.dns_rules import Expression, PortRuleDNS, generate_pattern
from deadhop.fqdn.names import fqdn
from deadhop.fqdn.options import V1_16, V1_17, V1_18, V1_20, Version
from deadhop.fqdn.restore import PortProto, RestoredRule, RestoredRules, servers_to_save
from deadhop.model.dns import Rcode


class L3Selector(Protocol):
    """The peer of a DNS rule: which identities of DNS servers it selects. Hashable."""

    def selects(self, identity: int) -> bool: ...


class Identities(msgspec.Struct, frozen=True):
    """A selector that selects a fixed set of identities."""

    members: frozenset[int]

    def selects(self, identity: int) -> bool:
        return identity in self.members


class AnyPeer(msgspec.Struct, frozen=True):
    """The wildcard selector."""

    def selects(self, identity: int) -> bool:  # noqa: ARG002
        return True


PROTOCOL_IN_KEY_BACKPORTS = (Version(1, 13, 15), Version(1, 14, 10), Version(1, 15, 4))

RulesBySelector = Mapping[L3Selector, Sequence[PortRuleDNS] | None]


class Verdict(msgspec.Struct, frozen=True):
    """The decision on one query, and the expression that allowed it."""

    allowed: bool
    by: Expression | None = None
    restored: bool = False

    def __bool__(self) -> bool:
        return self.allowed


DENIED = Verdict(False)


class DNSProxy:
    """The proxy's rules on one node.

    Up to 1.15 they are keyed by port alone, whatever the protocol; the key with the protocol (cilium/cilium PR 31328)
    came to late patches of 1.13 to 1.15 as well.
    """

    def __init__(self, version: Version) -> None:
        self.version = version
        self.allowed: dict[int, dict[PortProto, dict[L3Selector, Expression]]] = {}
        self.restored: dict[int, dict[PortProto, tuple[RestoredRule, ...]]] = {}
        self.used_servers: set[str] = set()

    def _keys(self, port: int, protocol: str | None) -> tuple[PortProto, ...]:
        """The keys to look under, first one first."""
        exact = PortProto(port, protocol.upper() if protocol else None)
        if not self.version.has(V1_16, *PROTOCOL_IN_KEY_BACKPORTS):
            return (exact.without_protocol,)
        if self.version < V1_20 and protocol:
            return exact, exact.without_protocol
        return (exact,)

    def update_allowed(
        self, endpoint: int, port: int, protocol: str | None, rules: RulesBySelector | None
    ) -> None:
        """Replace the rules of one port. No selectors removes the port, and the endpoint with its last port.

        Raises :class:`~deadhop.fqdn.patterns.PatternError` where a rule does not compile; nothing changes then.
        """
        compiled = {
            selector: generate_pattern(listed, self.version) for selector, listed in (rules or {}).items()
        }
        key = self._keys(port, protocol)[0]
        ports = self.allowed.setdefault(endpoint, {})
        if compiled:
            ports[key] = compiled
        else:
            ports.pop(key, None)
        if not ports:
            del self.allowed[endpoint]
        self.restored.pop(endpoint, None)

    def remove_endpoint(self, endpoint: int) -> None:
        self.allowed.pop(endpoint, None)
        self.restored.pop(endpoint, None)

    def restore_rules(self, endpoint: int, rules: RestoredRules) -> None:
        """Install rules saved before a restart, until the first :meth:`update_allowed` of the endpoint."""
        self.restored[endpoint] = {key: tuple(listed) for key, listed in rules.items()}

    def saved_rules(
        self, endpoint: int, addresses: Mapping[L3Selector, Iterable[str]], limit: int
    ) -> dict[PortProto, list[RestoredRule]]:
        """The rules to save for an endpoint; ``addresses`` are those of the identities each selector selects.

        The wildcard selector saves no servers. Restored rules still in force, where there are no others, are saved as they are.
        """
        if endpoint in self.restored and endpoint not in self.allowed:
            return {key: list(listed) for key, listed in self.restored[endpoint].items()}
        saved: dict[PortProto, list[RestoredRule]] = {}
        for key, by_selector in self.allowed.get(endpoint, {}).items():
            for selector, expression in by_selector.items():
                listed: Iterable[str] = () if isinstance(selector, AnyPeer) else addresses.get(selector, ())
                servers, _ = servers_to_save(listed, self.used_servers, limit)
                saved.setdefault(key, []).append(RestoredRule(expression, servers))
        return saved

    def check_allowed(
        self, endpoint: int, port: int, protocol: str | None, dest_identity: int, dest_ip: str, name: str
    ) -> Verdict:
        """Decide one query. ``dest_*`` describe the server as the client addressed it, after service translation."""
        qname = fqdn(name)
        keys = self._keys(port, protocol)
        ports = self.allowed.get(endpoint, {})
        for key in keys:
            if key in ports:
                for selector, expression in ports[key].items():
                    if selector.selects(dest_identity) and expression.matches(qname):
                        return Verdict(True, expression)
                return DENIED
        restored = self.restored.get(endpoint, {})
        for key in keys:
            if key in restored:
                for rule in restored[key]:
                    if rule.allows(dest_ip, qname, as_text=self.version < V1_17):
                        return Verdict(True, rule.expression, restored=True)
                return DENIED
        return DENIED


class Failure(StrEnum):
    """Why the proxy does not forward a query or its answer."""

    POLICY = "policy"
    UPSTREAM_TIMEOUT = "upstream timeout"
    UPSTREAM_ERROR = "upstream error"
    SEMAPHORE_FULL = "failed to acquire DNS proxy semaphore"
    SEMAPHORE_TIMED_OUT = "timed out acquiring DNS proxy semaphore"
    NO_QUESTION = "no question"
    NO_ENDPOINT = "cannot extract endpoint ID from DNS request"
    NO_TARGET = "cannot find target DNS server"
    BAD_RESPONSE = "invalid response"
    OTHER = "other error"

    @property
    def is_timeout(self) -> bool:
        """Whether the metrics count it as a timeout (``ProxyRequestContext.IsTimeout``)."""
        return self in (Failure.UPSTREAM_TIMEOUT, Failure.SEMAPHORE_FULL, Failure.SEMAPHORE_TIMED_OUT)


def reject_rcode(option: str) -> Rcode:
    """The reply to a denied query for ``tofqdns-dns-reject-response-code``; anything unknown stays REFUSED."""
    return Rcode.NXDOMAIN if option.lower() == "nameerror" else Rcode.REFUSED


def reply_rcode(failure: Failure, option: str, version: Version) -> Rcode | None:
    """What the client is answered; None where it gets no answer at all (the upstream did not answer in time).

    Errors other than policy were answered with the reject code up to 1.17, with SERVFAIL since.
    """
    if failure is Failure.UPSTREAM_TIMEOUT:
        return None
    if failure is Failure.POLICY or version < V1_18:
        return reject_rcode(option)
    return Rcode.SERVFAIL


class Precheck(StrEnum):
    """What the proxy's DNS library does with a message before the proxy sees it."""

    ACCEPT = "accept"
    IGNORE = "ignore"
    NOTIMP = "NOTIMP"
    FORMERR = "FORMERR"


OPCODE_QUERY = 0
OPCODE_NOTIFY = 4


def precheck(
    *, response: bool, opcode: int, questions: int, answers: int, authority: int, additional: int
) -> Precheck:
    """``DefaultMsgAcceptFunc`` of the DNS library, on the header's counts."""
    if response:
        return Precheck.IGNORE
    if opcode not in (OPCODE_QUERY, OPCODE_NOTIFY):
        return Precheck.NOTIMP
    if questions != 1 or answers > 1 or authority > 1 or additional > 2:
        return Precheck.FORMERR
    return Precheck.ACCEPT


def compresses(enabled: bool, uncompressed: int, edns_size: int | None) -> bool:
    """Whether the reply is sent with name compression. Sizes in bytes; ``edns_size`` is what the client announced."""
    return enabled and uncompressed > (512 if edns_size is None else edns_size)


UPSTREAM_TIMEOUT = 10.0
"""Seconds to wait for the server. Some paths waited 2 s from 1.11 to 1.15 (cilium/cilium issue 31999)."""
