"""The plugins' datapaths: by what a node shows them, and what they add to the kernel's own steps.

Only what a listing of the node shows is used to tell them apart: names of devices, rules, routes, chains.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from deadhop.model.netns import NetNamespace


class Datapath(NamedTuple):
    """One datapath. ``shown`` tells whether a node runs it; ``to_pod`` and ``from_pod`` say what happens to packets
    beside routing; ``bypasses`` names the kernel steps that packets of pods do not pass; ``assumes`` is what no listing of
    a node shows and a walk takes for granted."""

    name: str
    shown: Callable[[NetNamespace], bool]
    to_pod: str
    from_pod: str
    bypasses: tuple[str, ...] = ()
    reference: str = ""
    assumes: str = ""


#: Whether Cilium routes in BPF, only its agent says (``cilium-dbg status``: Host Routing).
_LEGACY = "Cilium leaves routing to the kernel (Host Routing: Legacy)"


def _device(ns: NetNamespace, prefix: str) -> bool:
    return any(link.ifname.startswith(prefix) for link in ns.links or ())


def _host_routes(ns: NetNamespace, prefix: str) -> bool:
    """A route for one address out of a device of that prefix: an endpoint route."""
    return any(
        "/" not in route.dst and route.dst != "default" and leg.dev is not None and leg.dev.startswith(prefix)
        for route in ns.routes4 or ()
        for leg in route.legs
        if route.type == "unicast"
    )


def _chains(ns: NetNamespace, prefix: str) -> bool:
    tables = any(c.startswith(prefix) for t in ns.iptables or () for c in t.chains)
    return tables or any(c.name.startswith(prefix) for c in (ns.nft.chains if ns.nft else ()))


def _pod_rules(ns: NetNamespace) -> bool:
    """The VPC CNI's rules: to a pod by main (512), from a pod of another interface by that interface's table (1536)."""
    priorities = {rule.priority for rule in ns.rules4 or ()}
    return _device(ns, "eni") and bool(priorities & {512, 1536})


DATAPATHS: tuple[Datapath, ...] = (
    Datapath(
        "Cilium, endpoint routes",
        lambda ns: _device(ns, "cilium_host") and _host_routes(ns, "lxc"),
        "a route of its own leads to each lxc*; the program at its egress decides about policy",
        "the program at the ingress of lxc* decides about policy, then the kernel routes",
        reference="cilium pkg/datapath/linux/config enable-endpoint-routes; bpf/bpf_lxc.c cil_to_container",
        assumes=_LEGACY,
    ),
    Datapath(
        "Cilium, routes by cilium_host",
        lambda ns: _device(ns, "cilium_host") and not _host_routes(ns, "lxc"),
        "the node's pod network is routed to cilium_host, whose egress program hands the packet to the pod's lxc*",
        "the program at the ingress of lxc* decides about policy, then the kernel routes",
        reference="cilium bpf/bpf_host.c cil_from_host, bpf/lib/local_delivery.h",
        assumes=_LEGACY,
    ),
    Datapath(
        "Cilium, BPF host routing",
        lambda _ns: False,  # only the agent says so (cilium-dbg status: Host Routing)
        "the program of the card hands the packet into the pod's own namespace (bpf_redirect_peer)",
        "the program of lxc* sends it out of the card (bpf_redirect_neigh)",
        ("policy rules", "rp_filter", "iptables and nftables", "conntrack of the node"),
        "cilium bpf/lib/fib.h fib_redirect, bpf/lib/local_delivery.h redirect_ep",
    ),
    Datapath(
        "AWS VPC CNI",
        _pod_rules,
        "rule 512 sends packets for a pod by main, where a route for its address leads to eni*",
        "rule 1536 sends packets of a pod whose address belongs to a secondary interface by that interface's table",
        reference="amazon-vpc-cni-k8s pkg/networkutils toContainerRulePriority, fromPodRulePriority",
    ),
    Datapath(
        "Calico",
        lambda ns: _device(ns, "cali"),
        "a route for each pod's address leads to cali*, whose chains cali-tw-* decide",
        "169.254.1.1 is answered by proxy_arp on cali*; chains cali-fw-* decide",
        reference="calico felix/dataplane/linux endpoint_mgr.go, felix/rules/endpoints.go",
    ),
    Datapath(
        "Flannel",
        lambda ns: _device(ns, "flannel") or _device(ns, "cni0"),
        "the bridge cni0 holds the pods; other nodes' networks lead to flannel.1 with fixed neighbours",
        "the pod's gateway is the address of cni0",
        reference="flannel pkg/backend/vxlan/vxlan_network.go",
    ),
    Datapath(
        "kube-proxy, iptables",
        lambda ns: _chains(ns, "KUBE-SERVICES"),
        "KUBE-SERVICES in PREROUTING and OUTPUT turns a Service's address into a pod's",
        "the same, and KUBE-POSTROUTING masquerades what carries mark 0x4000",
        reference="kubernetes pkg/proxy/iptables/proxier.go",
    ),
    Datapath(
        "kube-proxy, nftables",
        lambda ns: any(t.name == "kube-proxy" for t in (ns.nft.tables if ns.nft else ())),
        "maps service-ips and service-nodeports of table kube-proxy lead to the Service's chain",
        "the same, and masquerading by mark",
        reference="kubernetes pkg/proxy/nftables/proxier.go",
    ),
    Datapath(
        "kube-proxy, IPVS",
        lambda ns: _device(ns, "kube-ipvs0"),
        "kube-ipvs0 holds every Service's address, so packets reach INPUT, where IPVS turns them to a pod",
        "the same from OUTPUT",
        ("FORWARD for the first packet",),
        "kubernetes pkg/proxy/ipvs/proxier.go; net/netfilter/ipvs/ip_vs_core.c ip_vs_in_hook",
    ),
)


def datapaths(ns: NetNamespace) -> tuple[Datapath, ...]:
    """The datapaths that the node shows, in the table's order."""
    return tuple(row for row in DATAPATHS if row.shown(ns))
