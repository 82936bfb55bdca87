"""Which node address a CNI picked, what its peers do with it (calico-node, BIRD, flannel, Weave, kube-router), and which
routing rules it wrote for its pods (Terway, AWS VPC CNI)."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

_CALICO = "calico node/pkg/lifecycle/startup"

FORMAT = catalogue(
    "cni",
    (
        entry("node-address", r"(?:[Uu]sing|[Dd]etected)? ?[Aa]uto-?detected IPv[46] address(?:(?: on interface|:)? (?P<dev>[\w.@-]+))?: (?P<address>[\d.]+)(?:/(?P<len>\d+))?", _CALICO),
        entry("node-address", r"Using IPv4 address from environment: IP=(?P<address>[\d.]+)", _CALICO),
        entry("node-address", r"[Uu]sing interface with name (?P<dev>[\w.@-]+) and address:? (?P<address>[\d.]+)", "flannel pkg/ip/match"),
        entry("node-address", r"(?:Defaulting|Using) (?P<address>[\d.]+) as external (?:address|endpoint|interface)", "flannel main.go"),
        entry("node-address", r"Defaulting external (?:v4 )?address to interface address \((?P<address>[\d.]+)\)", "flannel main.go"),
        entry("node-address", r"(?:flannel\.alpha\.coreos\.com/public-ip|projectcalico\.org/IPv4Address|k3s\.io/internal-ip|kube-router\.io/\S*ip)\"?[:=]\s*\"?(?P<address>[\d.]+)(?:/(?P<len>\d+))?", "node annotations"),
        entry("node-address-conflict", r"IPv4 address conflict|node '?(?P<node>[\w.-]+)'? is already using the IPv4 address (?P<address>[\d.]+)", _CALICO),
        entry("bgp-not-established", r"BGP not established with (?P<peers>[\d., ]+)", "calico-node readiness"),
        entry("bgp-peer", r"^\s*(?:\|\s*)?(?P<address>\d+\.\d+\.\d+\.\d+)\s*\|\s*(?:node-to-node mesh|node specific|global)\s*\|\s*(?P<state>\w+)\s*\|\s*\S+\s*\|\s*(?P<info>[^|]+?)\s*\|?$", "calicoctl node status"),
        entry("detection-method", r"(?:IP_AUTODETECTION_METHOD|--iface(?:-can-reach|-regex)?|autodetection-?[mM]ethod)\s*[:=]\s*\"?(?P<value>[\w.,=*^$|/-]+)", _CALICO),
        entry("snat-settings", r"nonMasqueradeCIDRs\s*[:=]\s*\[(?P<cidrs>[^\]]+)\]", "ip-masq-agent"),
        entry("cni-rule-added", r"\badd(?:ed|ing)? (?:route |policy )?rule:? .*?\b(?:from all to|to|from) (?P<pod>\d+\.\d+\.\d+\.\d+)(?:/32)?(?![\d./]).*?(?:table|lookup) (?P<table>\w+)", "terway plugin/driver/utils EnsureIPRule"),
        entry("cni-rule-added", r"(?:Successfully setup|Added) (?P<side>toContainer|fromContainer) rule(?: for|, containerAddr[=:]) ?(?P<pod>\d+\.\d+\.\d+\.\d+)(?:/32)?(?![\d./])(?:.*?rtTable=(?P<table>\w+))?", "amazon-vpc-cni-k8s cmd/routed-eni-cni-plugin/driver"),
        entry("nexthop-invalid", r"(?P<what>next hop address \S+ resolvable through recursive route|Invalid NEXT_HOP attribute)", "BIRD"),
    ),
    priority=21,
)  # fmt: skip
