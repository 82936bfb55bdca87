"""Where each CNI keeps its MTU: the setting a person changes."""

from __future__ import annotations

from typing import NamedTuple


class MtuSetting(NamedTuple):
    """``marks`` are device-name prefixes or object names by which evidence shows the CNI."""

    cni: str
    marks: tuple[str, ...]
    command: str
    reference: str


#: One row per CNI. ``{mtu}`` is the value to set.
SETTINGS: tuple[MtuSetting, ...] = (
    MtuSetting(
        "AWS VPC CNI (EKS)",
        ("aws-node", "eni"),
        "kubectl -n kube-system set env daemonset/aws-node AWS_VPC_ENI_MTU={mtu}   # POD_MTU for pods alone",
        "amazon-vpc-cni-k8s README, AWS_VPC_ENI_MTU, POD_MTU",
    ),
    MtuSetting(
        "Cilium",
        ("cilium_", "lxc"),
        "helm upgrade cilium cilium/cilium -n kube-system --reuse-values --set MTU={mtu}",
        "Cilium Helm reference, MTU",
    ),
    MtuSetting(
        "Calico (operator)",
        ("cali", "vxlan.calico", "tunl0"),
        'kubectl patch installation default --type merge -p \'{{"spec":{{"calicoNetwork":{{"mtu":{mtu}}}}}}}\'',
        "Calico docs, Configure MTU",
    ),
    MtuSetting(
        "Calico (manifest)",
        (),
        'kubectl -n kube-system patch configmap calico-config --type merge -p \'{{"data":{{"veth_mtu":"{mtu}"}}}}\'',
        "Calico docs, veth_mtu",
    ),
    MtuSetting(
        "Flannel",
        ("flannel", "cni0"),
        'kubectl -n kube-flannel edit configmap kube-flannel-cfg   # cni-conf.json: "mtu": {mtu}',
        "flannel Documentation/configuration.md",
    ),
    MtuSetting(
        "Azure CNI",
        ("azv", "azure"),
        "ip link set dev eth0 mtu {mtu}   # node image or VM network setting",
        "Azure VM MTU guidance",
    ),
    MtuSetting(
        "GKE",
        ("gke", "gkepod"),
        "gcloud compute networks update NETWORK --mtu={mtu}   # then recreate the nodes",
        "GKE, MTU of the VPC network",
    ),
    MtuSetting(
        "Weave",
        ("weave", "vethwe"),
        "kubectl -n kube-system set env daemonset/weave-net WEAVE_MTU={mtu}",
        "Weave Net, WEAVE_MTU",
    ),
)


def seen(names: set[str]) -> tuple[MtuSetting, ...]:
    """The settings of the CNIs that device or object names give away; all of them where none does."""
    found = tuple(s for s in SETTINGS if any(name.startswith(mark) for mark in s.marks for name in names))
    return found or SETTINGS


def table(settings: tuple[MtuSetting, ...], mtu: int) -> str:
    """The commands, one per CNI, each under its name."""
    return "\n".join(f"# {s.cni} ({s.reference})\n{s.command.format(mtu=mtu)}" for s in settings)
