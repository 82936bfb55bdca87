"""The CIDR that is exempt from masquerading does not fit the real pod network.

What happens
------------
Where it is too wide, packets of pods leave with their own source to places inside the range that cannot reply.
Where it does not cover the pods, traffic between pods is translated and loses its source.

How to tell it from its neighbours
----------------------------------
The rule exists and counts packets, so masquerading is not off as a whole. Destinations inside the excluded range
fail, others work. With no-track rules nothing is translated at all.

Fix
---
Set the native-routing or non-masquerade CIDR to the real pod network.

References
----------
Cilium masquerading, ipv4-native-routing-cidr; ip-masq-agent; flannel --ip-masq; kube-proxy clusterCIDR.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.finding import Check
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.firewall import FirewallRule
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.kube import Node, Pod
from deadhop.model.observed.message import Message
from deadhop.model.observed.node import Ping
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.observed.shell import Attempt
from deadhop.model.record import Record
from deadhop.snapshot.attribution import nodes_by_address
from deadhop.snapshot.firewall import network, rules, within
from deadhop.snapshot.masquerade import returned_networks
from deadhop.snapshot.said import said

SLUG = "masquerade-exclusion-cidr-wrong"

NATIVE = (
    "native-routing-cidr",
    "ipv4-native-routing-cidr",
    "nativeRoutingCIDR",
    "ipv4NativeRoutingCIDR",
    "global.nativeRoutingCIDR",
    "egress-masquerade-exclusion",
)
PODS = (
    "cluster-pool-ipv4-cidr",
    "ipam.operator.clusterPoolIPv4PodCIDRList",
    "ipam.operator.clusterPoolIPv4PodCIDR",
    "clusterCIDR",
    "cluster-cidr",
    "podCIDR",
    "Network",
    "clusterIpv4Cidr",
)
SERVICES = ("servicesIpv4Cidr", "service-cidr", "service-cluster-ip-range", "serviceSubnet")
#: Private ranges (RFC 1918): a wider exclusion also covers public addresses.
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")


def check(view: View) -> Iterator[Hypothesis]:
    found: list[tuple[str, str, Record]] = []
    beside: list[tuple[str, str, Record]] = []
    for rule in rules(view.of(IptablesTable), view.of(FirewallRule)):
        if (
            rule.target in ("MASQUERADE", "SNAT", "masquerade")
            and rule.src
            and rule.dst.startswith("!")
            and not rule.src.startswith("!")
        ):
            found.append((rule.src, rule.dst.lstrip("! "), rule.record))
    pods: list[tuple[str, Record]] = [
        (o.value.strip('[]" '), o)
        for o in view.of(CiliumOption)
        if o.key in PODS and network(o.value.strip('[]" '))
    ]
    for option in view.of(CiliumOption):
        if option.key in NATIVE and network(option.value):
            found += [(cidr, option.value, option) for cidr, _o in pods]
    pods += [(cidr, n) for n in view.of(Node) if network(cidr := str(n.spec.get("podCIDR") or ""))]
    for option in view.of(CiliumOption):
        if option.key == "nonMasqueradeCIDRs":
            listed = option.value.split(",")
            for pod, _o in pods:
                found += [
                    (pod, cidr, option) for cidr in listed if within(pod, cidr) or not within(pod, *listed)
                ]
                beside += [
                    (pod, cidr, option) for cidr in listed if within(pod, *listed) and not within(pod, cidr)
                ]
    yield from _chain(view)
    for message in said(view.of(Message), "snat-settings"):
        for cidr in re.findall(r"[\d.]+/\d+", message.field("cidrs")):
            found += [(pod, cidr, message) for pod, _o in pods]
    services = [o.value for o in view.of(CiliumOption) if o.key in SERVICES and network(o.value)]
    returned = list(returned_networks(view.of(IptablesTable), [p for p, _o in pods], view.of(FirewallRule)))
    returned += beside
    for source, excluded, record in found + returned:
        inner, outer = network(source), network(excluded)
        if inner is None or outer is None or outer.is_multicast or outer.prefixlen == 0:
            continue
        wide = within(source, excluded)
        gap = inner.prefixlen - outer.prefixlen
        beyond = wide and not within(excluded, *PRIVATE)
        by_design = (source, excluded, record) in returned
        disjoint = not wide and not within(excluded, source) and not by_design
        failed = [*_failed(view, excluded, [source, *(p for p, _o in pods)])] if wide or by_design else []
        # A default of ip-masq-agent is wide by design: what fails inside it counts where what lies outside works.
        if by_design and not _reached(view, source, excluded, exempt=returned):
            failed = []
        unanswered = _unanswered(view, source, excluded, [*(p for p, _o in pods), *services])
        lost = _unrouted(view, source, bool(failed or unanswered)) if wide or by_design else []
        if not (
            disjoint or beyond or ((by_design or (wide and gap >= 4)) and (failed or unanswered or lost))
        ):
            continue
        yield Hypothesis(
            subject=f"exclusion {excluded}",
            title=f"Pods of {source} are masqueraded except towards {excluded}, which is {'wider than' if wide else 'not'} the pod network.",
            checks=(
                judged(f"the exclusion {excluded} {'reaches beyond' if wide else 'is not' if by_design else 'does not cover'} the pod network {source}", True, [record], weight=1.4, required=True),
                judged("it covers addresses that no cluster owns, or leaves the pods out", True if beyond or disjoint else None, [record] if beyond or disjoint else (), weight=0.6),
                shown("destinations inside it fail, or packets leave with the pod's address", [*failed, *unanswered], weight=1.0, required=not (beyond or disjoint), decide=f"tcpdump -ni any src net {source}"),
                shown("a router on the way has no route back to pods", lost, weight=0.8),
                _from_nodes(view, excluded, failed),
            ),
            explains=("some destinations cannot be reached from pods, while others outside work",),
            fixes=(Fix(title="Exempt the pod network alone", artifact=f"# Cilium: ipv4-native-routing-cidr: {source}\n# ip-masq-agent: nonMasqueradeCIDRs: [{source}]\n"),),
            prior=-1.3,
        )  # fmt: skip


def _unanswered(view: View, source: str, excluded: str, pods: list[str]) -> list[Record]:
    """Packets of pods that leave with the pod's address to a place in the exclusion which is no pod, and get no answer."""
    packets = view.of(CapturedPacket)
    answered = {(p.dst, p.src) for p in packets}
    return [
        p
        for p in packets
        if within(p.src, source)
        and within(p.dst, excluded)
        and not within(p.dst, source, *pods)
        and (p.src, p.dst) not in answered
    ]


def _unrouted(view: View, source: str, failing: bool) -> list[Record]:
    kinds = ("no-route-to", "only-default-route-to") if failing else ("no-route-to",)
    return [m for m in said(view.of(Message), *kinds) if within(m.field("address"), source)]


def _reached(view: View, source: str, excluded: str, exempt: list[tuple[str, str, Record]]) -> bool:
    """Whether the evidence shows a destination work that is no pod and in none of the exempt networks."""
    networks = [source, excluded, *(cidr for _s, cidr, _r in exempt)]
    there = [_address(a) for a in view.of(Attempt) if a.ok]
    there += [p.target for p in view.of(Ping) if p.ok]
    there += [x.dialled or x.host for x in view.of(HttpExchange) if x.status is not None]
    return any(network(ip) and not within(ip, *networks) for ip in there)


def _from_nodes(view: View, excluded: str, failed: list[Record]) -> Check:
    """A node has an address that the place knows: what fails for pods and for nodes alike is not for want of NAT."""
    there = [a for a in view.of(Attempt) if a.where.startswith("host ") and within(_address(a), excluded)]
    works = [a for a in there if a.ok]
    fails = [f for f in failed if f.where.startswith("host ")]
    return judged("nodes reach it", True if works else False if fails else None, works or fails, weight=0.6, required=bool(fails and not works))  # fmt: skip


def _address(attempt: Attempt) -> str:
    return attempt.target.rpartition(":")[0] or attempt.target


def _chain(view: View) -> Iterator[Hypothesis]:
    """A chain that returns for the networks it exempts and masquerades the rest: which pods does it not exempt?"""
    nodes = set(nodes_by_address(view.of(Node)))
    known = {p.ip: p for p in view.of(Pod) if p.ip and p.ip not in nodes}
    for table in (t for t in view.of(IptablesTable) if t.name in ("nat", "")):
        for chain in {r.chain for r in table.rules}:
            mine = [r for r in rules([table]) if r.chain == chain]
            last = next((r for r in mine if r.target == "MASQUERADE" and not r.src and not r.dst), None)
            exempt = [
                r.dst
                for r in mine
                if r.target in ("RETURN", "ACCEPT") and r.dst and not r.dst.startswith("!")
            ]
            if last is None or not exempt or last.packets == 0 or "mark" in last.text:
                continue
            outside = [p for ip, p in known.items() if not within(ip, *exempt)]
            arrived = [
                p
                for p in view.of(CapturedPacket)
                if p.src in nodes and p.dst in known and not within(p.dst, *exempt)
            ]
            if outside:
                yield _translated(chain, exempt, outside, arrived, table)


def _translated(
    chain: str, exempt: list[str], pods: list[Pod], arrived: list[CapturedPacket], table: IptablesTable
) -> Hypothesis:
    return Hypothesis(
        subject=f"chain {chain}",
        title=f"{chain} exempts {', '.join(exempt[:4])} from masquerading, and pods have other addresses ({pods[0].ip}).",
        checks=(
            shown(f"{chain} masquerades what it does not exempt", [table], weight=0.8, required=True),
            shown("pods' addresses are in no exempt network", pods[:4], weight=1.0, required=True),
            shown("packets reach a pod with a node's address as their source", arrived, weight=1.4, required=True, decide="tcpdump -ni eth0   # in the server pod: whose address comes in"),
        ),
        explains=("pods of other nodes arrive with their node's address, which policies by labels do not match",),
        fixes=(Fix(title="Exempt the pod network", artifact="# ip-masq-agent: nonMasqueradeCIDRs: [POD-NETWORK]\n"),),
        prior=-1.2,
    )  # fmt: skip


def _failed(view: View, excluded: str, pods: list[str]) -> Iterator[Record]:
    """What times out at a place in the exclusion that is neither a pod nor a node."""
    nodes = nodes_by_address(view.of(Node))

    def inside(address: str) -> bool:
        return within(address, excluded) and not within(address, *pods) and address not in nodes

    yield from (p for p in view.of(Ping) if p.ok is False and inside(p.target))
    yield from (e for e in view.of(HttpExchange) if e.error == "timeout" and inside(e.dialled or e.host))
    yield from (d for d in view.of(DialFailure) if d.error != "refused" and inside(d.ip or d.host))
    yield from (a for a in view.of(Attempt) if not a.ok and inside(_address(a)))


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="The network that is exempt from masquerading does not fit the pod network.",
    inputs=(
        IptablesTable,
        FirewallRule,
        CiliumOption,
        Message,
        CapturedPacket,
        Ping,
        DialFailure,
        HttpExchange,
        Attempt,
        Node,
        Pod,
    ),
    needs=(
        IptablesTable,
        FirewallRule,
        CiliumOption,
        Message,
    ),
    rivals=(
        "notrack-disables-iptables-masquerade",
        "masqueraded-pod-traffic-in-tunnel-asymmetric",
    ),
    check=check,
)
