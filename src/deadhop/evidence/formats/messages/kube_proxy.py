"""What kube-proxy says about connection tracking (pkg/proxy, pkg/proxy/conntrack, cmd/kube-proxy/app/conntrack.go)."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

_CLEANUP = "kubernetes pkg/proxy/conntrack/cleanup.go, up to 1.26 pkg/util/conntrack"

FORMAT = catalogue(
    "kube-proxy",
    (
        entry(
            "endpoint-conntrack-not-deleted",
            r"[Ff]ailed to delete (?:(?P<service>\S+/\S+) )?(?:stale )?endpoint connections.*?(?:(?P<proto>(?i:UDP|SCTP|TCP)) peer \{(?P<vip>[\da-fA-F.:]+), (?P<endpoint>[\da-fA-F.:]+)\}|$)",
            _CLEANUP,
        ),
        entry(
            "endpoint-conntrack-not-deleted",
            r"error deleting conntrack entries for (?P<proto>(?i:UDP|SCTP)) peer \{(?P<vip>[\da-fA-F.:]+), (?P<endpoint>[\da-fA-F.:]+)\}",
            _CLEANUP,
        ),
        entry(
            "service-conntrack-not-deleted",
            r"[Ff]ailed to (?:delete|flush) stale service (?:IP |connections).*?(?P<vip>\d+\.\d+\.\d+\.\d+)",
            _CLEANUP,
        ),
        entry("conntrack-max-set", r"[Ss]et(?:ting)? (?:sysctl.*)?nf_conntrack_max\D+(?P<max>\d+)", "kubernetes cmd/kube-proxy/app/conntrack.go"),
        entry("stale-endpoints-deleted", r"[Dd]eleting (?:stale )?conntrack (?:stale )?entries for (?P<what>.+)", _CLEANUP),
    ),
)  # fmt: skip
