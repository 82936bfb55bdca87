"""Connection marks for policy routing are set on the wrong packets, or not at all, so pod flows leave through another interface than their address belongs to.

What happens
------------
A CNI with several cards marks connections of the primary one and restores the mark on packets from pods; a rule
routes by the mark. Where the mark is restored before the Service's address is translated, or the rule names another
interface, pods with addresses of secondary cards leave by the primary.

How to tell it from its neighbours
----------------------------------
Only pods with addresses of secondary interfaces fail. The mark rule matches another interface name, or the trace
shows the mark before translation. The tables and rules for the pods are there, unlike with deleted rules.

Fix
---
Correct the mark rules' interface and order, or exempt the Service network.

References
----------
amazon-vpc-cni-k8s pkg/networkutils (AWS-CONNMARK-CHAIN); nft(8) priorities.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.net import Address, Link, Route, Rule
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.firewall import FirewallRule, FirewallTrace
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.record import Record
from deadhop.snapshot.firewall import fits, rules, within

SLUG = "connmark-routes-pod-traffic-via-wrong-interface"

POD_SIDE = ("eni", "veth", "lxc", "cali", "azv", "gke", "vlan")


def check(view: View) -> Iterator[Hypothesis]:
    every = rules(view.of(IptablesTable), view.of(FirewallRule))
    marks = [
        r for r in every if "CONNMARK" in r.target.upper() or ("ct mark" in r.text and "meta mark" in r.text)
    ]
    traces = view.of(FirewallTrace)
    traced = [t for t in traces if "CONNMARK" in t.text or ("ct mark" in t.text and t.step == "rule")]
    if not marks and not traced:
        return
    names = (
        {k.ifname for k in view.of(Link)}
        | {a.ifname for a in view.of(Address)}
        | {leg.dev for r in view.of(Route) for leg in r.legs if leg.dev}
    )
    wrong_dev = [
        r
        for r in marks
        if r.in_dev and not r.in_dev.startswith("!") and names and not any(fits(r.in_dev, n) for n in names)
    ]
    marked = [t for t in traces if t.mark and t.step != "rule"]
    leaves = [
        t
        for t in traces
        if t.in_dev.startswith(POD_SIDE) and t.out_dev and not t.out_dev.startswith(POD_SIDE)
    ]
    early = marked and leaves
    forward = [r for r in view.of(Rule) if r.fwmark]
    elsewhere = [
        p
        for p in view.of(CapturedPacket)
        if p.direction.lower() == "out"
        and p.dev
        and any(a.ifname != p.dev and within(p.src, f"{a.local}/{a.prefixlen}") for a in view.of(Address))
        and not any(a.ifname == p.dev and within(p.src, f"{a.local}/{a.prefixlen}") for a in view.of(Address))
    ]
    missing = [r for r in forward if not marks and not traced]
    signs: list[Record] = [*(r.record for r in wrong_dev), *elsewhere, *([*marked, *leaves] if early else [])]
    yield Hypothesis(
        subject="connection marks",
        title="Connection marks send pod flows out of the wrong interface.",
        checks=(
            shown("rules set or restore connection marks", [*(r.record for r in marks), *traced], weight=0.6, required=True, decide="iptables-save -t mangle | grep CONNMARK"),
            shown("a mark rule names a device that is not there, or a marked packet of a pod leaves by the node's card", signs or missing, weight=1.6, required=True, decide="nft monitor trace; ip rule; ip -br link"),
            shown("a routing rule uses the mark", forward, weight=0.4, decide="ip rule"),
        ),
        explains=("pods with addresses of secondary interfaces fail, others on the node work",),
        fixes=(Fix(title="Correct the mark rules", artifact="iptables -t mangle -S | grep CONNMARK\n# match the node's primary device; exempt the Service network: -d SERVICE-CIDR -j RETURN before the restore\n"),),
        prior=-1.3,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="Connection marks send pod flows out of another interface than their address belongs to.",
    inputs=(
        IptablesTable,
        FirewallRule,
        FirewallTrace,
        Link,
        Address,
        Route,
        Rule,
        CapturedPacket,
    ),
    needs=(
        IptablesTable,
        FirewallRule,
        FirewallTrace,
    ),
    rivals=(
        "networkd-deletes-foreign-ip-rules",
        "masquerade-exclusion-cidr-wrong",
        "foreign-ip-rule-table-lacks-pod-routes",
    ),
    check=check,
)
