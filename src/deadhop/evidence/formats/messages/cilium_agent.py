"""What cilium-agent says of named ports, limits of the FQDN cache, and what the API server says of webhooks."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

FORMAT = catalogue(
    "cilium-agent",
    (
        entry("named-port", r"(?P<what>[Dd]uplicate named ports?|[Nn]amed port not found|[Aa]mbiguous named port|[Uu]nable to resolve named port|named port \S+ (?:is ambiguous|not found))(?:.*[Pp]ort(?:Name)?=\"?(?P<port>[a-z][\w-]*))?", "cilium pkg/policy, pkg/u8proto named ports"),
        entry("agent-regeneration", r"(?P<what>Regenerating \d+ restored endpoints|Finished regenerating restored endpoints|Restored endpoint\b|Restoring endpoints|Endpoints restored|Building all endpoints)", "cilium daemon/cmd/state.go"),
        entry("agent-start", r"(?:Cilium (?P<version>\d+\.\d+\.\d+)\S* [0-9a-f]{6,}|Started Cilium(?: Agent)?\b|Daemon initialization completed)", "cilium daemon/cmd/daemon_main.go"),
        entry("proxy-identity", r"cilium\.bpf_metadata \((?P<direction>\w+)\).*?source identity: (?P<src>\d+), destination identity: (?P<dst>\d+)", "cilium/proxy cilium/bpf_metadata.cc"),
        entry("webhook-failed", r"failed calling webhook \"?\\?\"?(?P<webhook>[\w.-]+).*?https://(?P<service>[\w.-]+?)(?:\.svc)?(?::(?P<port>\d+))?/.*(?P<error>context deadline exceeded|i/o timeout|Client\.Timeout|no route to host|connection refused)", "kubernetes apiserver admission webhooks"),
        entry("apiservice-failed", r"(?:failing or missing response from|error trying to reach service:?).*?https?://(?P<ip>[\d.]+):(?P<port>\d+).*?(?P<error>context deadline exceeded|i/o timeout|Client\.Timeout|no route to host)", "kube-aggregator"),
    ),
    priority=20,
)  # fmt: skip
