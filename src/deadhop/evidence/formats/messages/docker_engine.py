"""The container engine and node preflight checks on forwarding and bridge netfilter (dockerd, kubeadm, kube-proxy, flannel)."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

FORMAT = catalogue(
    "engine",
    (
        entry("forwarding-disabled", r"(?:WARNING: |\[Warning\] )?IPv4 forwarding is disabled(?:\. Networking will not work)?", "moby daemon/oci_linux.go, docker info"),
        entry("preflight-file", r"\[(?P<level>ERROR|WARNING) FileContent--(?P<name>[\w-]+)\]: (?P<path>/proc/sys/\S+) (?P<what>contents are not set to 1|does not exist)", "kubeadm preflight checks"),
        entry("bridge-nf-missing", r"[Mm]issing br-netfilter module or unset (?:sysctl )?br-nf-call-iptables", "kubernetes pkg/proxy/iptables, proxier.go"),
        entry("bridge-nf-missing", r"Failed to check br_netfilter: stat (?P<path>/proc/sys/\S+):", "flannel main.go"),
        entry("bridge-nf-missing", r"WARNING: bridge-nf-call-ip6?tables is disabled", "moby daemon/info_unix.go"),
        entry("sysctl-set", r"[Ss]et(?:ting)? sysctl\W+(?:entry=\"?|name=\"?)?(?P<key>net[/.][\w/.-]+)\"?\s*(?:to|=|value=|,)\s*\"?(?P<value>\d+)", "kubernetes pkg/proxy/util, cri-o, calico felix"),
        entry("sysctl-set", r"\* Applying (?P<path>/\S+\.conf) \.\.\.", "sysctl --system"),
        entry("forward-policy-set", r"[Ss]et(?:ting)? (?:the )?(?:default )?(?:policy of )?(?:filter )?FORWARD (?:chain )?(?:policy )?to (?P<policy>DROP|ACCEPT)|iptables .*-P FORWARD (?P<policy2>DROP|ACCEPT)\b.*level=", "moby libnetwork/iptables"),
        entry("hostport-failed", r"[Ff]ailed to (?:add|set ?up|ensure|sync|open) hostports?\b.*", "kubernetes pkg/kubelet/dockershim/network/hostport"),
        entry("cni-del-failed", r"(?:[Ff]ailed to (?:tear ?down|destroy|delete).*(?:network|CNI|sandbox)|DeleteNetwork|portmap.*(?:DEL|teardown)).*(?:[Ff]ailed|error|timeout|timed out)", "containerd, cri-o, libcni"),
    ),
    priority=19,
)  # fmt: skip
