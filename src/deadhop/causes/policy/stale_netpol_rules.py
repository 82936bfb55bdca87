"""Rules of a policy controller that no longer runs keep enforcing the last policy.

What happens
------------
The controller was removed or switched off, its chains stay in the kernel and are still called from the base chains. They
enforce what was true when it ended: new pods and changed policies do not count.

How to tell it from its neighbours
----------------------------------
Chains of the controller are referenced, and nothing that runs owns them. Nodes that were set up after the change are
not affected, and policy objects do not explain the drops.

Fix
---
Delete the left-over chains (the controller's clean-up, or a reboot of the node).

References
----------
kube-router pkg/controllers/netpol (KUBE-NWPLCY, KUBE-POD-FW), Calico cali-*, Weave WEAVE-NPC chains,
azure-container-networking npm/util AZURE-NPM; iptables-save(8).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.netfilter import IptablesRule, IptablesTable
from deadhop.model.observed.kube import Absent, KubeObject, Pod
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.observed.shell import CommandRun, LineCount
from deadhop.model.record import Record
from deadhop.snapshot.sought import found_nowhere, would_show

SLUG = "stale-netpol-iptables-rules"
BASE = ("INPUT", "FORWARD", "OUTPUT")


class Controller(NamedTuple):
    """A policy controller: how its chains and its pods begin, and how it removes what it left."""

    name: str
    chains: tuple[str, ...]
    pods: tuple[str, ...]
    cleanup: str


CONTROLLERS = (
    Controller("kube-router", ("KUBE-ROUTER-", "KUBE-POD-FW-", "KUBE-NWPLCY-"), ("kube-router",), "kube-router --cleanup-config"),
    Controller("Calico", ("cali-",), ("calico-node", "canal"), "iptables-save | grep -v cali- | iptables-restore"),
    Controller("Weave NPC", ("WEAVE-NPC",), ("weave-net",), "weave reset --force"),
    Controller("Azure NPM", ("AZURE-NPM",), ("azure-npm",), "iptables-save | grep -v AZURE-NPM | iptables-restore"),
    Controller("Cilium", ("CILIUM_",), ("cilium-",), "cilium-dbg cleanup"),
)  # fmt: skip
#: Pods that k3s alone brings; its server runs kube-router's policy part itself (k3s pkg/agent/netpol).
K3S = ("local-path-provisioner-", "svclb-", "helm-install-")
OFF = {"disable-network-policy": "true", "disable_network_policy": "true", "disablenetworkpolicy": "true"}


def check(view: View) -> Iterator[Hypothesis]:
    pods = view.of(Pod)
    system = [p for p in pods if p.namespace in ("kube-system", "calico-system") or p.name.startswith(("kube-proxy", "coredns"))]  # fmt: skip
    off = [o for o in view.of(CiliumOption) if OFF.get(o.key.lower().lstrip("-")) == o.value.lower()]
    calls = [(r, t) for t in view.of(IptablesTable) if t.name == "filter" for r in t.rules if r.chain in BASE]
    none = [
        a for a in view.of(Absent) if a.kind == "NetworkPolicy" and not (a.name or a.namespace or a.selector)
    ]
    runs = view.of(CommandRun)
    for controller in CONTROLLERS:
        jumps = [(r, t) for r, t in calls if r.target.startswith(controller.chains)]
        # A listing cut down by grep shows the chains and not who calls them.
        jumps = jumps or [(r, t) for t in view.of(IptablesTable) if t.name == "filter" and not set(BASE) & {*t.chains, *t.policies} for r in t.rules if r.chain.startswith(controller.chains) and r.target in ("REJECT", "DROP")]  # fmt: skip
        if not jumps:
            continue
        name = controller.pods[0]
        running = [p for p in pods if p.name.startswith(controller.pods) and "operator" not in p.name]
        disabled: list[Record] = list(off) if controller.name == "kube-router" else []
        disabled += [a for a in view.of(Absent) if a.kind in ("DaemonSet", "Pod") and _names(a, controller)]
        disabled += found_nowhere(name, runs, view.of(LineCount))
        daemons = [o for o in view.of(KubeObject) if o.kind == "DaemonSet" and o.raw.get("cells") and would_show(o, name, runs)]  # fmt: skip
        # A list of DaemonSets that the controller is not in; one row may be all that was asked for.
        gone = daemons if (len(daemons) > 1 or none) and not any(d.name.startswith(controller.pods) for d in daemons) else []  # fmt: skip
        disabled += gone[:3]
        clean = [c for c in view.of(LineCount) if c.count == 0 and c.unit == "lines" and any(n.strip("-") in c.pattern for n in controller.chains)]  # fmt: skip
        # No policy anywhere, and another node without a single chain: what is left here is nobody's.
        others = [p for p in system if would_show(p, name, runs)]
        if controller.name == "kube-router" and any(p.name.startswith(K3S) for p in pods):
            disabled, others = list(off), []  # it runs inside k3s, and no pod of it is to be expected
        disabled += clean if none and not running else []
        disabled += none if disabled else []
        yield _hypothesis(controller, jumps, running, others, disabled, clean)


def _names(absent: Absent, controller: Controller) -> bool:
    """Whether what kubectl did not find is the controller's, by its name or by the labels asked for."""
    return absent.name.startswith(controller.pods) or any(
        v.startswith(controller.pods) for _k, v in absent.selector
    )


def _hypothesis(
    controller: Controller,
    jumps: list[tuple[IptablesRule, IptablesTable]],
    running: list[Pod],
    system: list[Pod],
    disabled: list[Record],
    clean: list[LineCount],
) -> Hypothesis:
    absent: list[Record] = [*disabled, *(system if not running else [])]
    return Hypothesis(
        subject=f"{controller.name} chains from {jumps[0][0].chain}",
        title=f"Chains of {controller.name} are still called, but it does not run: they enforce an old policy.",
        checks=(
            shown(f"the filter table still calls chains of {controller.name}", [t for _r, t in jumps][:2], weight=0.9, required=True),
            judged(f"{controller.name} does not run", True if absent else (False if running else None), absent[:4] or running, weight=1.8, required=True, decide="kubectl get pods -A -o wide; systemctl cat k3s | grep disable-network-policy"),
            judged("its policy part is switched off", True if disabled else None, disabled, weight=0.5),
            shown("another node has none of these chains", clean, weight=0.5),
        ),
        explains=("nodes set up after the change are not affected", "policy objects do not explain the drops"),
        fixes=(Fix(title="Remove the left-over chains", artifact=f"{controller.cleanup}\n", note="Or reboot the node."),),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="Rules of a policy controller that no longer runs stay in force.",
    inputs=(IptablesTable, Pod, CiliumOption, Absent, KubeObject, LineCount, CommandRun),
    needs=(IptablesTable,),
    rivals=("policy-enforced-for-completed-pod-with-reused-ip", "benign-rules-in-other-iptables-backend"),
    check=check,
)
