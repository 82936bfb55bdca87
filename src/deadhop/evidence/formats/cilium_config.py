"""``cilium-dbg config -a`` (``cilium config --all``): the agent's options under their names in Go (pkg/option DaemonConfig)."""

from __future__ import annotations

import re

from deadhop.evidence.format import Context, LineFormat, Lines
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.record import Record

#: Fields of DaemonConfig whose flag is not their name in other letters.
_FLAGS = {
    "ToFQDNsMaxIPsPerHost": "tofqdns-endpoint-max-ip-per-hostname",
    "ToFQDNsMinTTL": "tofqdns-min-ttl",
    "ToFQDNsIdleConnectionGracePeriod": "tofqdns-idle-connection-grace-period",
    "ToFQDNsMaxDeferredConnectionDeletes": "tofqdns-max-deferred-connection-deletes",
    "FQDNRejectResponse": "tofqdns-dns-reject-response-code",
    "PolicyCIDRMatchMode": "policy-cidr-match-mode",
    "EnablePolicy": "enable-policy",
    "PolicyAuditMode": "policy-audit-mode",
    "IPv4NativeRoutingCIDR": "ipv4-native-routing-cidr",
    "NativeRoutingCIDR": "native-routing-cidr",
    "EnableIPv4Masquerade": "enable-ipv4-masquerade",
    "EnableBPFMasquerade": "enable-bpf-masquerade",
    "EnableHostLegacyRouting": "enable-host-legacy-routing",
    "EnableHostFirewall": "enable-host-firewall",
    "ExternalEnvoyProxy": "external-envoy-proxy",
    "RoutingMode": "routing-mode",
    "TunnelProtocol": "tunnel-protocol",
    "MTU": "mtu",
    "DNSMaxLabelLength": "dns-max-label-length",
    "DNSProxyEnableTransparentMode": "dnsproxy-enable-transparent-mode",
}
_LINE = re.compile(rf"^\s*(?P<field>{'|'.join(_FLAGS)})\s*:\s+(?P<value>\S.*?)\s*$")


def _read(lines: Lines, i: int, context: Context) -> tuple[int, list[Record]]:
    match = _LINE.match(lines.text[i])
    if match is None:
        return i, []
    value = match["value"].strip('"')
    return i + 1, [
        CiliumOption(source=lines.source(i), where=context.where, key=_FLAGS[match["field"]], value=value)
    ]


FORMAT = LineFormat("cilium-config", _LINE, _read, priority=40)
