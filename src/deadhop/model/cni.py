"""Which devices belong to which CNI, and what the CNI wants of them."""

from __future__ import annotations

from typing import NamedTuple


class CniDevice(NamedTuple):
    """A device-name prefix. ``role`` is ``pod`` (host end of a pod's veth), ``host``, ``tunnel`` or ``bridge``.

    ``rp_filter`` is the value that the CNI sets or needs, None where it does not care. ``endpoint_routes`` is the
    setting that gives each pod a route of its own.
    """

    prefix: str
    cni: str
    role: str
    rp_filter: int | None
    endpoint_routes: str = ""
    reference: str = ""


_ENDPOINT = (
    "helm upgrade cilium cilium/cilium -n kube-system --reuse-values --set endpointRoutes.enabled=true"
)

DEVICES: tuple[CniDevice, ...] = (
    CniDevice("lxc", "Cilium", "pod", 0, _ENDPOINT, "cilium pkg/datapath/connector, rp_filter off on lxc*"),
    CniDevice("cilium_host", "Cilium", "host", 0, "", "cilium pkg/datapath/loader"),
    CniDevice("cilium_net", "Cilium", "host", 0),
    CniDevice("cilium_vxlan", "Cilium", "tunnel", 0),
    CniDevice("cilium_geneve", "Cilium", "tunnel", 0),
    CniDevice("cilium_wg", "Cilium", "tunnel", 0),
    CniDevice("cali", "Calico", "pod", 1, "", "calico felix endpoint manager: rp_filter=1 on cali*"),
    CniDevice("vxlan.calico", "Calico", "tunnel", None),
    CniDevice("tunl0", "Calico", "tunnel", None),
    CniDevice("eni", "AWS VPC CNI", "pod", None),
    CniDevice("flannel", "Flannel", "tunnel", None),
    CniDevice("cni0", "Flannel or bridge", "bridge", None),
    CniDevice("azv", "Azure CNI", "pod", None),
    CniDevice("gke", "GKE", "pod", None),
    CniDevice("antrea-gw", "Antrea", "host", None),
    CniDevice("genev_sys", "OVN-Kubernetes", "tunnel", None),
    CniDevice("ovn-k8s", "OVN-Kubernetes", "host", None),
    CniDevice("kube-bridge", "kube-router", "bridge", None),
    CniDevice("weave", "Weave", "bridge", None),
    CniDevice("vethwe", "Weave", "pod", None),
)


def device(name: str) -> CniDevice | None:
    """The row whose prefix is the longest that fits ``name``, or None."""
    fitting = [d for d in DEVICES if name.startswith(d.prefix)]
    return max(fitting, key=lambda d: len(d.prefix)) if fitting else None
