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
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.firewall import FirewallRule
from deadhop.model.observed.http import DialFailure
from deadhop.model.observed.message import Message
from deadhop.model.observed.node import Ping
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.observed.shell import Attempt
from deadhop.model.record import Record
from deadhop.snapshot.firewall import network, rules, within
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
)
#: Private ranges (RFC 1918): a wider exclusion also covers public addresses.
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")


def check(view: View) -> Iterator[Hypothesis]:
    found: list[tuple[str, str, Record]] = []
    for rule in rules(view.of(IptablesTable), view.of(FirewallRule)):
        if (
            rule.target in ("MASQUERADE", "SNAT", "masquerade")
            and rule.src
            and rule.dst.startswith("!")
            and not rule.src.startswith("!")
        ):
            found.append((rule.src, rule.dst.lstrip("! "), rule.record))
    pods = [
        (o.value.strip('[]" '), o)
        for o in view.of(CiliumOption)
        if o.key in PODS and network(o.value.strip('[]" '))
    ]
    for option in view.of(CiliumOption):
        if option.key in NATIVE and network(option.value):
            found += [(cidr, option.value, option) for cidr, _o in pods]
    for message in said(view.of(Message), "snat-settings"):
        for cidr in re.findall(r"[\d.]+/\d+", message.field("cidrs")):
            found += [(pod, cidr, message) for pod, _o in pods]
    for source, excluded, record in found:
        inner, outer = network(source), network(excluded)
        if inner is None or outer is None or outer.is_multicast or outer.prefixlen == 0:
            continue
        wide = within(source, excluded)
        gap = inner.prefixlen - outer.prefixlen
        beyond = wide and not within(excluded, *PRIVATE)
        disjoint = not wide and not within(excluded, source)
        failed = [*_failed(view, source, excluded)] if wide else []
        unanswered = [
            p
            for p in view.of(CapturedPacket)
            if within(p.src, source) and within(p.dst, excluded) and not within(p.dst, source)
        ]
        if not (disjoint or beyond or (wide and gap >= 4 and (failed or unanswered))):
            continue
        yield Hypothesis(
            subject=f"exclusion {excluded}",
            title=f"Pods of {source} are masqueraded except towards {excluded}, which is {'wider than' if wide else 'not'} the pod network.",
            checks=(
                judged(f"the exclusion {excluded} {'reaches beyond' if wide else 'does not cover'} the pod network {source}", True, [record], weight=1.4, required=True),
                judged("it covers addresses that no cluster owns, or leaves the pods out", True if beyond or disjoint else None, [record] if beyond or disjoint else (), weight=0.6),
                shown("destinations inside it fail, or packets leave with the pod's address", [*failed, *unanswered], weight=1.0, decide=f"tcpdump -ni any src net {source}"),
            ),
            explains=("some destinations cannot be reached from pods, while others outside work",),
            fixes=(Fix(title="Exempt the pod network alone", artifact=f"# Cilium: ipv4-native-routing-cidr: {source}\n# ip-masq-agent: nonMasqueradeCIDRs: [{source}]\n"),),
            prior=-1.3,
        )  # fmt: skip


def _failed(view: View, source: str, excluded: str) -> Iterator[Record]:
    def inside(address: str) -> bool:
        return within(address, excluded) and not within(address, source)

    yield from (p for p in view.of(Ping) if p.ok is False and inside(p.target))
    yield from (d for d in view.of(DialFailure) if inside(d.ip or d.host))
    yield from (a for a in view.of(Attempt) if not a.ok and inside(a.target))


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
        Attempt,
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
