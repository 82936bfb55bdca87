"""A hostPort NAT rule of a deleted pod was not removed and precedes the new one, so the port leads to an address that is gone.

What happens
------------
The CNI's delete call failed or never came. The old pod's DNAT chain stays, and the first rule that fits a port
wins.

How to tell it from its neighbours
----------------------------------
Two rules exist for one host port, or a rule remains whose address no pod has. After a flush the rules are missing
instead.

Fix
---
Delete the stale chains, and make the CNI's delete path reliable.

References
----------
containernetworking/plugins portmap; CNI specification DEL and GC.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.kube import Pod
from deadhop.model.observed.message import Message
from deadhop.snapshot.firewall import Row, rules
from deadhop.snapshot.said import said

SLUG = "stale-hostport-dnat-rule"


def check(view: View) -> Iterator[Hypothesis]:
    translated: dict[tuple[str, str], list[Row]] = {}
    for rule in rules(view.of(IptablesTable)):
        if (
            rule.target == "DNAT"
            and rule.to
            and rule.dport
            and (rule.chain.startswith(("CNI-", "KUBE-HP", "CILIUM", "DOCKER")) or "hostport" in rule.text)
        ):
            kind = "udp" if "udp" in rule.text.split() else "tcp"
            translated.setdefault((rule.dport, kind), []).append(rule)
    by_port: dict[tuple[str, str], list[Row]] = {}
    for rule in rules(view.of(IptablesTable)):
        if (
            rule.chain in ("CNI-HOSTPORT-DNAT", "KUBE-HOSTPORTS")
            and rule.dport
            and not translated.get((rule.dport, "tcp"))
            and not translated.get((rule.dport, "udp"))
        ):
            kind = "udp" if "udp" in rule.text.split() else "tcp"
            by_port.setdefault((rule.dport, kind), []).append(rule._replace(to=rule.target))
    translated |= {
        key: found
        for key, found in by_port.items()
        if not any(r.dst for r in found) and all(r.target.startswith(("CNI-DN", "KUBE-HP")) for r in found)
    }
    alive = {p.ip for p in view.of(Pod) if p.ip}
    for (port, proto), found in translated.items():
        targets = list(dict.fromkeys(r.to for r in found))
        dead = [t for t in targets if alive and ":" in t and t.rsplit(":", 1)[0] not in alive]
        if len(targets) < 2 and not dead:
            continue
        current = [p for p in view.of(Pod) if any(t.startswith(p.ip + ":") for t in targets) and p.ip]
        yield Hypothesis(
            subject=f"host port {port}/{proto}",
            title=f"Host port {port} has a rule that leads to {(dead or targets)[0]}, which is stale.",
            checks=(
                judged(f"port {port}/{proto} is translated to several addresses, or to one that no pod has", True, [r.record for r in found], weight=1.6, required=True),
                judged("the first rule leads to an address that no pod has", None if not alive else targets[0] in dead, current if alive and targets[0] not in dead else view.of(Pod) if alive else (), weight=0.8, required=bool(alive) and targets[0] not in dead, decide="kubectl get pods -A -o wide | grep ADDRESS"),
                shown("a delete of a pod's network failed", said(view.of(Message), "cni-del-failed"), weight=0.6, decide="journalctl -u containerd -u kubelet | grep -i portmap"),
            ),
            explains=("the port stops working after its pod was replaced, though a rule for it exists",),
            fixes=(Fix(title="Delete the stale chain", artifact=f"iptables -t nat -S | grep {(dead or targets)[0]}\niptables -t nat -D CNI-HOSTPORT-DNAT RULE\niptables -t nat -F CHAIN && iptables -t nat -X CHAIN\n"),),
            prior=-1.0,
        )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="A hostPort rule of a deleted pod precedes the new one.",
    inputs=(
        IptablesTable,
        Pod,
        Message,
    ),
    needs=(IptablesTable,),
    rivals=("iptables-flush-lost-hostport-rules",),
    check=check,
)
