"""Pod-to-pod traffic between nodes leaves with the node's address, so pod selectors do not match it.

What happens
------------
Masquerading should exclude the pod network. Where it does not, a packet to a pod of another node is source-NATed to the
node's address; the destination sees a node, and rules on the client's labels do not match.

How to tell it from its neighbours
----------------------------------
The client is an ordinary pod, and at the destination the same connection comes from a node. Pods of one node reach each
other. A client in the host's network is a node by nature: there is nothing to repair in masquerading then.

Fix
---
Exclude the pod network from masquerading.

References
----------
Cilium ipv4-native-routing-cidr, bpf/lib/nat.h; net/netfilter/nf_nat_masquerade.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.evidence.fields import is_ip
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.netfilter import ConntrackEntry, IptablesTable
from deadhop.model.observed.firewall import FirewallRule
from deadhop.model.observed.kube import NetworkPolicy, Node, Pod
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.policy import CiliumOption, Flow
from deadhop.model.record import Record
from deadhop.snapshot.attribution import nodes_by_address, on_host
from deadhop.snapshot.entities import is_node, is_pod
from deadhop.snapshot.firewall import network, rules, within
from deadhop.snapshot.masquerade import masquerades
from deadhop.snapshot.policy_rules import all_rules, selecting

SLUG = "pod-to-pod-traffic-masqueraded-breaks-policy"
EXCLUSIONS = ("ipv4-native-routing-cidr", "native-routing-cidr", "ipv4nativeroutingcidr")


def check(view: View) -> Iterator[Hypothesis]:
    flows = view.of(Flow)
    for denied in (f for f in flows if f.denied and is_node(f.src) and is_pod(f.dst) and f.dst.port):
        sent = [
            f
            for f in flows
            if not f.denied
            and is_pod(f.src)
            and f.dst.port == denied.dst.port
            and (f.dst.name == denied.dst.name or (f.dst.ip and f.dst.ip == denied.dst.ip))
            and (f.reply is not True)
        ]
        if sent:
            yield _hypothesis(view, denied, sent)
            return
    yield from _from_denial(view)
    yield from _from_capture(view)
    yield from _tracked(view)
    yield from _by_rules(view)


def _hypothesis(view: View, denied: Flow, sent: list[Flow]) -> Hypothesis:
    target = sent[0].dst.ip or denied.dst.ip
    wrong: list[Record] = [
        o for o in view.of(CiliumOption) if o.key.lower() in EXCLUSIONS and _outside(target, o.value)
    ]
    right: list[Record] = [
        o for o in view.of(CiliumOption) if o.key.lower() in EXCLUSIONS and within(target, o.value)
    ]
    for table in (t for t in view.of(IptablesTable) if t.name == "nat"):
        for rule in table.rules:
            excluded = rule.option("-d")
            if rule.target == "MASQUERADE" and excluded and "!" in rule.args:
                (wrong if _outside(target, excluded) else right).append(table)
    return Hypothesis(
        subject=f"{sent[0].src.name} to {denied.dst.name}:{denied.dst.port}",
        title=f"{sent[0].src.name} arrives at {denied.dst.name} as a node: its source was masqueraded on the way.",
        checks=(
            shown("a pod sends to this pod and port", sent[:2], weight=0.9, required=True),
            shown("at the destination the source is a node, and is denied", [denied], weight=1.2, required=True),
            judged("masquerading does not exclude the destination", True if wrong else None, wrong, weight=1.2, decide="cilium-dbg status --verbose | grep -i masq; iptables-save -t nat | grep MASQ"),
            judged("the exclusion does not cover it", False if right and not wrong else None, right if not wrong else [], weight=0.6),
        ),
        explains=("pods of one node match the policy, pods of other nodes do not",),
        fixes=(Fix(title="Exclude the pod network from masquerading", artifact="# cilium-config\nipv4-native-routing-cidr: POD-NETWORK   # holds every node's pod CIDR\n"),),
        prior=-1.3,
    )  # fmt: skip


def _from_denial(view: View) -> Iterator[Hypothesis]:
    """A denied connection from a node whose pods are masqueraded towards other pods too: the exclusion leaves them out."""
    nodes = nodes_by_address(view.of(Node))
    gaps = [
        (r.src, r.record)
        for r in rules(view.of(IptablesTable), view.of(FirewallRule))
        if r.target == "MASQUERADE" and network(r.src) and r.dst.startswith("!") and not within(r.src, r.dst)
    ]
    for denied in (
        f for f in view.of(Flow) if f.denied and is_node(f.src) and is_pod(f.dst) and f.src.ip in nodes
    ):
        node = nodes[denied.src.ip]
        there = [p for p in view.of(Pod) if p.node == node.name and p.ip]
        theirs = [p for p in there if not on_host(p) and p.ip not in nodes]
        snat = [record for cidr, record in gaps if any(within(p.ip, cidr) for p in theirs)]
        if theirs and theirs == there and snat:
            yield Hypothesis(
                subject=f"{theirs[0].ref} to {denied.dst.name}:{denied.dst.port or '?'}",
                title=f"Pods of {node.name} arrive at {denied.dst.name} as {denied.src.ip}: the node masquerades what they send to other pods.",
                checks=(
                    shown("at the destination the source is a node, and is denied", [denied], weight=1.2, required=True),
                    shown("the pods shown of that node have addresses of their own", theirs[:3], weight=0.6, required=True),
                    shown("what its rules exclude from masquerading leaves pods out", snat[:3], weight=1.5, required=True),
                ),
                explains=("pods of one node match the policy, pods of other nodes do not",),
                fixes=(Fix(title="Exclude the pod network from masquerading", artifact="# the CNI's or ip-masq-agent's exclusion: POD-NETWORK   # holds every node's pod CIDR\n"),),
                prior=-1.6,
            )  # fmt: skip
            return


def _by_label(view: View) -> list[NetworkPolicy]:
    """The policies that select their clients by labels."""
    return [
        p
        for p in view.of(NetworkPolicy)
        if any(selecting(rule, "ingress") for _p, rule in all_rules([p], "ingress"))
    ]


def _from_capture(view: View) -> Iterator[Hypothesis]:
    """A capture at the destination whose source is a node that masquerades what its ordinary pods send there."""
    nodes = nodes_by_address(view.of(Node))
    pods = {p.ip: p for p in view.of(Pod) if p.ip and not on_host(p) and p.ip not in nodes}
    rows, by_label = rules(view.of(IptablesTable), view.of(FirewallRule)), _by_label(view)
    for packet in view.of(CapturedPacket):
        node, target = nodes.get(packet.src), pods.get(packet.dst)
        if node is None or target is None or packet.tcp_flags not in ("S", "") or target.node == node.name:
            continue
        there = [p for p in pods.values() if p.node == node.name]
        snat = [*masquerades(rows, packet.dst), *_left_out(view, packet.dst)]
        on_host_too = [p for p in view.of(Pod) if p.node == node.name and (on_host(p) or p.ip in nodes)]
        if there and snat and by_label:
            same = [
                p
                for p in view.of(CapturedPacket)
                if p.dst == packet.dst and p.src in pods and p.tcp_flags == "S"
            ]
            yield Hypothesis(
                subject=f"{there[0].name} to {target.name}:{packet.dport or '?'}",
                title=f"Pods of {node.name} arrive at {target.name} as {packet.src}: the node masquerades what they send to other pods.",
                checks=(
                    shown("at the destination the source is a node's address", [packet], weight=1.2, required=True),
                    shown("that node runs ordinary pods", there[:3], weight=0.6, required=True),
                    shown(f"its rules masquerade packets to {packet.dst}", snat[:3], weight=1.5, required=True),
                    shown("the policy selects its clients by labels", by_label[:2], weight=0.8, required=True),
                    shown("a pod of the destination's own node arrives as itself", same[:2], weight=0.6),
                    judged("the client is not a pod in the host's network", False if on_host_too else None, on_host_too[:2], weight=0.6),
                ),
                explains=("pods of one node match the policy, pods of other nodes do not",),
                fixes=(Fix(title="Exclude the pod network from masquerading", artifact="# ip-masq-agent\nnonMasqueradeCIDRs:\n- POD-NETWORK   # holds every node's pod CIDR\n"),),
                prior=-1.6,
            )  # fmt: skip
            return


def _tracked(view: View) -> Iterator[Hypothesis]:
    """A tracked connection between two pods whose source was translated to a node's address."""
    nodes = nodes_by_address(view.of(Node))
    pods = {p.ip: p for p in view.of(Pod) if p.ip and not on_host(p) and p.ip not in nodes}
    by_label = _by_label(view)
    for entry in view.of(ConntrackEntry):
        source, target = pods.get(entry.original[0]), pods.get(entry.original[1])
        became = entry.reply[1]
        if not (source and target and became in nodes and by_label):
            continue
        yield Hypothesis(
            subject=f"{source.name} to {target.name}:{entry.original[3]}",
            title=f"{source.name} arrives at {target.name} as {became}: its source was masqueraded on the way.",
            checks=(
                shown(f"the connection between two pods leaves with the node's address {became}", [entry], weight=1.7, required=True),
                shown("both ends are ordinary pods", [source, target], weight=0.6, required=True),
                shown("the policy selects its clients by labels", by_label[:2], weight=0.9, required=True),
                shown("nothing comes back", [entry] if "UNREPLIED" in entry.status else [], weight=0.5),
            ),
            explains=("pods of one node match the policy, pods of other nodes do not",),
            prior=-1.5,
        )  # fmt: skip
        return


def _by_rules(view: View) -> Iterator[Hypothesis]:
    """A denied connection from an address that is no pod's, where the node's rules masquerade what pods send to the
    destination: other nodes' pods arrive so. Which node it is need not be shown."""
    nodes = nodes_by_address(view.of(Node))
    pods = {p.ip: p for p in view.of(Pod) if p.ip and not on_host(p) and p.ip not in nodes}
    rows = [
        r
        for r in rules(view.of(IptablesTable), view.of(FirewallRule))
        if not r.src or any(within(p, r.src) for p in pods)
    ]
    by_label = _by_label(view)
    for denied in (f for f in view.of(Flow) if f.denied and f.src.ip and f.direction != "EGRESS"):
        target = pods.get(denied.dst.ip)
        known = denied.src.ip in nodes or not nodes
        if target is None or is_pod(denied.src) or denied.src.ip in pods or is_node(denied.src) or not known:
            continue
        away = [p for p in pods.values() if p.node and target.node and p.node != target.node]
        snat = [*masquerades(rows, denied.dst.ip), *_left_out(view, denied.dst.ip)]
        on_host_too = [p for p in view.of(Pod) if p.ip == denied.src.ip]
        if not away or not snat or not by_label:
            continue
        yield Hypothesis(
            subject=f"{away[0].name} to {target.name}:{denied.dst.port or '?'}",
            title=f"Pods of other nodes arrive at {target.name} as {denied.src.ip}: what they send to pods is masqueraded.",
            checks=(
                shown("at the destination the source is no pod's address, and is denied", [denied], weight=1.1, required=True),
                shown(f"the rules of a node masquerade packets to {denied.dst.ip}", snat[:3], weight=1.5, required=True),
                shown("ordinary pods of other nodes are its clients", away[:2], weight=0.4, required=True),
                shown("the policy selects its clients by labels", by_label[:2], weight=0.8, required=True),
                judged("the client is not a pod in the host's network", False if on_host_too else None, on_host_too[:2], weight=1.5, required=bool(on_host_too)),
            ),
            explains=("pods of one node match the policy, pods of other nodes do not",),
            fixes=(Fix(title="Exclude the pod network from masquerading", artifact="# ip-masq-agent\nnonMasqueradeCIDRs:\n- POD-NETWORK   # holds every node's pod CIDR\n"),),
            prior=-1.7,
        )  # fmt: skip
        return


def _left_out(view: View, address: str) -> list[Record]:
    """ip-masq-agent's configuration, where its list holds networks and none of them the address."""
    found: list[Record] = []
    for option in view.of(CiliumOption):
        listed = (
            [c.strip(" '\"[]") for c in option.value.split(",")] if option.key == "nonMasqueradeCIDRs" else []
        )
        if listed and all(network(c) for c in listed) and is_ip(address) and not within(address, *listed):
            found.append(option)
    return found


def _outside(address: str, excluded: str) -> bool:
    return is_ip(address) and network(excluded) is not None and not within(address, excluded)


CAUSE = Cause(
    slug=SLUG,
    family="policy",
    title="Pod-to-pod traffic between nodes is masqueraded, so pod selectors do not match.",
    inputs=(Flow, CiliumOption, IptablesTable, FirewallRule, CapturedPacket, Node, Pod, NetworkPolicy, ConntrackEntry),
    needs=(Flow, CapturedPacket, ConntrackEntry),
    rivals=("hostnetwork-source-not-matched-by-pod-selectors", "masquerade-exclusion-cidr-wrong", "destination-ingress-policy-missing-client"),
    check=check,
)  # fmt: skip
