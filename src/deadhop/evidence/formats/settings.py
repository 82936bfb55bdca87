"""Settings of the network components without a manifest around them: Helm values, machine configs, CNI options."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deadhop.evidence.fields import tabbed
from deadhop.evidence.format import Context, LineFormat, Lines, Locate, ValueFormat
from deadhop.evidence.formats.kube_objects import options
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.record import Record

#: Top-level keys by which such a document is known (Cilium Helm values and cilium-config keys, Talos, Istio).
KNOWN = frozenset(
    """autoDirectNodeRoutes bpf endpointRoutes kubeProxyReplacement tunnel tunnelProtocol routingMode ipam ipv4NativeRoutingCIDR
    enableIPv4Masquerade enable-ipv4-masquerade masquerade install-iptables-rules auto-direct-node-routes
    native-routing-cidr ipv4-native-routing-cidr kube-proxy-replacement enable-bpf-masquerade hostFirewall encryption
    hubble operator dnsProxy machine cluster meshConfig global proxy pilot outboundTrafficPolicy enablePolicy socketLB
    ingress ingressController controller service networkPolicy nodeinit cni eni l7Proxy envoy enableXTSocketFallback
    installNoConntrackIptablesRules enableCiliumEndpointSlice enable-endpoint-routes monitor-aggregation enable-ipv4
    enable-node-port cluster-pool-ipv4-cidr policyAuditMode policy-audit-mode
    tofqdns-endpoint-max-ip-per-hostname tofqdns-min-ttl policy-cidr-match-mode install-no-conntrack-iptables-rules nonMasqueradeCIDRs clusterIpv4Cidr servicesIpv4Cidr""".split()
)


def _match(value: Any) -> bool:
    return isinstance(value, dict) and "kind" not in value and len(value.keys() & KNOWN) >= 1


def _read(value: Any, locate: Locate, context: Context) -> Iterable[Record]:  # noqa: ARG001 - the protocol's shape
    return options(value, locate)


#: One option by itself, as ``grep`` leaves it of cilium-config: how the agent's flags begin (pkg/option/config.go).
_OPTION = re.compile(
    r"^\s*(?:--)?(?P<key>(?:enable|disable|policy|tofqdns|dnsproxy|kube-proxy|bpf|install|auto-direct|ipv4|ipv6|routing|tunnel|"
    r"monitor|cluster|identity|proxy|mesh-auth|egress|node-port|cni|ipam|encrypt|mtu|host|direct-routing|devices|"
    r"native-routing|masquerade|sidecar|local-router|restore|preallocate|socket|load-balancer|loadbalancer|arping|"
    r"conntrack-gc|ct-global|annotate)(?:-[a-z0-9]+)+)(?:\s*:\s+|=)"
    r"[\"']?(?P<value>true|false|\d+[smh]?|[\w./:,-]+)[\"']?\s*$"
)


def _read_option(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _OPTION.match(lines.text[i])
    if not match:
        return i, []
    return i + 1, [
        CiliumOption(source=lines.source(i), where=context.where, key=match["key"], value=match["value"])
    ]


_GCLOUD = re.compile(r"\bgcloud\b.*\bdescribe\b.*--format[= ]['\"]?value\((?P<fields>[\w.,\[\]() ]+)\)")


def _read_gcloud(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    """Fields of a cluster that ``gcloud … --format='value(a,b)'`` prints on one line, with tabs between."""
    asked = _GCLOUD.search(context.command.line) if context.command else None
    if asked is None:
        return i, []
    names, values = asked["fields"].replace(" ", "").split(","), tabbed(lines.text[i].rstrip())
    if len(names) != len(values):
        return i, []
    return i + 1, [
        CiliumOption(source=lines.source(i), where=context.where, key=name, value=value)
        for name, value in zip(names, values, strict=True)
        if name in KNOWN and value
    ]


FORMATS = (
    LineFormat("gcloud-value", re.compile(r"^\s*\S.*\d"), _read_gcloud, priority=15),
    ValueFormat("settings", _match, _read, priority=60),
    LineFormat("option", _OPTION, _read_option, priority=60),
)
