"""DestinationRules: which one a client's proxy uses for a host, and what it says about a port and a subset.

Lookup levels: the client's namespace (unless it is the root), the service's namespace, the root namespace; the
first level with a match wins and levels never merge. Reference: istio ``pilot/pkg/model/push_context.go``
(``destinationRule``), ``destination_rule.go`` (``mergeDestinationRule``) and
``pilot/pkg/networking/util/util.go`` (``MergeTrafficPolicy``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from deadhop.hops.mesh.decode import (
    Meta,
    dig,
    duration,
    integer,
    labels,
    meta_of,
    port_number,
    rows,
    selector_matches,
    strings,
    table,
    text,
)
from deadhop.hops.mesh.hosts import covers, fqdn, specificity


class ClientTls(msgspec.Struct, frozen=True):
    """``trafficPolicy.tls``: DISABLE, SIMPLE, MUTUAL or ISTIO_MUTUAL."""

    mode: str
    sans: tuple[str, ...] = ()


class Pool(msgspec.Struct, frozen=True):
    """``trafficPolicy.connectionPool``; None where a limit is not set."""

    connect_timeout: float | None = None
    max_connections: int | None = None
    max_pending: int | None = None
    max_requests: int | None = None
    h2_upgrade: str = ""


class Policy(msgspec.Struct, frozen=True):
    """The parts of a traffic policy that decide about a request; None where a part is not set."""

    tls: ClientTls | None = None
    pool: Pool | None = None
    load_balancer: str | None = None


class TrafficPolicy(msgspec.Struct, frozen=True):
    """A traffic policy with its port-level settings, which replace it as a whole for their port."""

    own: Policy
    ports: Mapping[int, Policy]

    def over(self, base: Policy, port: int) -> Policy:
        """This policy laid over ``base`` for one port (``MergeTrafficPolicy``)."""
        at_port = self.ports.get(port)
        if at_port is not None:
            return at_port
        own = self.own
        return Policy(own.tls or base.tls, own.pool or base.pool, own.load_balancer or base.load_balancer)


NOTHING = TrafficPolicy(Policy(), {})


class Subset(msgspec.Struct, frozen=True):
    """A named subset: the endpoint labels it selects and its own policy."""

    labels: Mapping[str, str]
    policy: TrafficPolicy


class DestinationRule(msgspec.Struct, frozen=True):
    """One rule, or several of one host merged."""

    meta: Meta
    host: str
    policy: TrafficPolicy
    said_policy: bool
    subsets: Mapping[str, Subset]
    export_to: frozenset[str]
    workload_selector: Mapping[str, str]

    def effective(self, port: int, subset: str = "") -> Policy:
        """Port level above subset above top level."""
        top = self.policy.over(Policy(), port)
        chosen = self.subsets.get(subset)
        return chosen.policy.over(top, port) if chosen else top


def _policy(value: object) -> Policy:
    p = table(value)
    tls = table(p.get("tls"))
    pool = table(p.get("connectionPool"))
    tcp, http = table(pool.get("tcp")), table(pool.get("http"))
    return Policy(
        ClientTls(text(tls.get("mode")) or "DISABLE", strings(tls.get("subjectAltNames")))
        if "tls" in p
        else None,
        Pool(
            duration(tcp.get("connectTimeout")),
            integer(tcp.get("maxConnections")),
            integer(http.get("http1MaxPendingRequests")),
            integer(http.get("http2MaxRequests")),
            text(http.get("h2UpgradePolicy")),
        )
        if pool
        else None,
        text(dig(p, "loadBalancer", "simple")) or None,
    )


def _traffic_policy(value: object) -> TrafficPolicy:
    levels = {
        n: _policy(p)
        for p in rows(table(value).get("portLevelSettings"))
        if (n := port_number(dig(p, "port", "number"))) is not None
    }
    return TrafficPolicy(_policy(value), levels)


def compile_destination_rule(
    doc: Mapping[str, Any], domain: str, default_export: frozenset[str]
) -> DestinationRule:
    """A DestinationRule document."""
    meta, spec = meta_of(doc), table(doc.get("spec"))
    return DestinationRule(
        meta,
        fqdn(text(spec.get("host")), meta.namespace, domain),
        _traffic_policy(spec.get("trafficPolicy")),
        bool(table(spec.get("trafficPolicy"))),
        {
            text(s.get("name")): Subset(labels(s.get("labels")), _traffic_policy(s.get("trafficPolicy")))
            for s in rows(spec.get("subsets"))
        },
        frozenset(strings(spec.get("exportTo"))) or default_export,
        labels(dig(spec, "workloadSelector", "matchLabels")),
    )


class DestinationRules:
    """All rules, indexed by the namespace they stand in and their host."""

    def __init__(self, rules: Iterable[DestinationRule], root_namespace: str) -> None:
        self.root = root_namespace
        self.exact: dict[str, dict[str, list[DestinationRule]]] = {}
        self.wild: dict[str, dict[str, list[DestinationRule]]] = {}
        for rule in sorted(rules, key=lambda r: r.meta.order):
            table_ = self.wild if rule.host.startswith("*") else self.exact
            table_.setdefault(rule.meta.namespace, {}).setdefault(rule.host, []).append(rule)

    def find(
        self, host: str, service_namespace: str, client_namespace: str, client_labels: Mapping[str, str]
    ) -> DestinationRule | None:
        """The rule that a client's proxy uses for ``host``."""
        levels: list[tuple[str, bool]] = []
        if client_namespace != self.root:
            levels.append((client_namespace, True))
        if service_namespace:
            levels.append((service_namespace, False))
        levels.append((self.root, False))
        for namespace, private in levels:
            found = self._at(namespace, host, client_namespace, client_labels, private)
            if found is not None:
                return found
        return None

    def _at(
        self, namespace: str, host: str, client: str, client_labels: Mapping[str, str], private: bool
    ) -> DestinationRule | None:
        def usable(rule: DestinationRule) -> bool:
            if rule.workload_selector and not (
                private and selector_matches(rule.workload_selector, client_labels)
            ):
                return False
            if private:
                return True
            shown = rule.export_to
            return "*" in shown or client in shown or ("." in shown and client == namespace)

        candidates = [r for r in self.exact.get(namespace, {}).get(host, ()) if usable(r)]
        if not candidates:
            wild = self.wild.get(namespace, {})
            for pattern in sorted((p for p in wild if covers(p, host)), key=specificity, reverse=True):
                candidates = [r for r in wild[pattern] if usable(r)]
                if candidates:
                    break
        return _merged(candidates) if candidates else None


def _merged(rules: list[DestinationRule]) -> DestinationRule:
    """Rules of one host at one level: a rule for selected workloads stands alone, the others join (oldest first)."""
    first = next((r for r in rules if r.workload_selector), rules[0])
    if len(rules) == 1 or first.workload_selector:
        return first
    subsets: dict[str, Subset] = {}
    for rule in rules:
        for name, subset in rule.subsets.items():
            subsets.setdefault(name, subset)
    speaking = next((r for r in rules if r.said_policy), first)
    return msgspec.structs.replace(
        first, policy=speaking.policy, said_policy=speaking.said_policy, subsets=subsets
    )
