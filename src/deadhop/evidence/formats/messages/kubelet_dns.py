"""What the kubelet says about the resolv.conf that it writes for pods (pkg/kubelet/network/dns/dns.go)."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

_DNS_GO = "kubernetes pkg/kubelet/network/dns/dns.go"

FORMAT = catalogue(
    "kubelet",
    (
        entry(
            "nameserver-limit",
            r"[Nn]ameserver limits? (?:was |were )?exceeded.*?(?:the applied nameserver line is: (?P<applied>[0-9a-fA-F:. ]+)|$)",
            _DNS_GO,
        ),
        entry(
            "search-limit",
            r"Search [Ll]ine limits? (?:was |were )?exceeded.*?(?:the applied search line is: (?P<applied>[\w. -]+)|$)",
            _DNS_GO,
        ),
        entry("search-limit", r"[Rr]esolv\.conf file .*contains search line consisting of more than (?P<limit>\d+) domains", _DNS_GO),
        entry("search-limit", r"[Rr]esolv\.conf file .*contains search line which length is more than allowed (?P<limit>\d+) chars", _DNS_GO),
        entry(
            "no-cluster-dns",
            r"kubelet does not have ClusterDNS IP configured and cannot create Pod using \"?\W?\"?ClusterFirst",
            _DNS_GO,
        ),
    ),
    priority=18,
)  # fmt: skip
