"""A VPN client on the host rejects all DNS except to its own resolver, and pods' queries meet the rule.

What happens
------------
To keep names from leaking, the client accepts port 53 through its tunnel to one address and rejects it elsewhere.
Queries of pods and of the cluster's DNS to its upstream are forwarded traffic and rejected as well.

How to tell it from its neighbours
----------------------------------
The rules name port 53 and nothing else; other traffic of pods works by address. A node firewall without trust for
pods rejects all protocols. It comes and goes with the VPN.

Fix
---
Exempt pods and cluster DNS from the lock, or forward the cluster's DNS to the VPN's resolver.

References
----------
Mullvad and NordVPN DNS leak protection; nft(8).
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.net import Link
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.dns import DnsLookup, DnsServerError
from deadhop.model.observed.firewall import FirewallRule
from deadhop.model.observed.kernel import NetfilterLog
from deadhop.model.observed.message import Message
from deadhop.snapshot.firewall import rules
from deadhop.snapshot.said import said

SLUG = "host-vpn-firewall-rejects-dns"

TUNNELS = (
    "wg",
    "tun",
    "tap",
    "nordlynx",
    "mullvad",
    "utun",
    "proton",
    "cscotun",
    "gpd",
    "ppp",
    "CloudflareWARP",
    "ipsec",
    "vpn",
    "nordtun",
)


def check(view: View) -> Iterator[Hypothesis]:
    every = rules(view.of(IptablesTable), view.of(FirewallRule))
    dns = [r for r in every if "53" in r.dport.replace("domain", "53").replace(",", " ").split()]
    rejecting = [r for r in dns if r.drops and not r.src]
    accepting = [
        r for r in dns if r.target == "ACCEPT" and (r.out_dev.lstrip("!").startswith(TUNNELS) or r.dst)
    ]
    excepted = [r for r in rejecting if r.out_dev.startswith("!") or r.dst.startswith("!")]
    logged = [
        log
        for log in view.of(NetfilterLog)
        if log.dport == 53 and any(w in log.prefix.lower() for w in ("rej", "drop", "block", "dns"))
    ]
    if not rejecting:
        return
    vpn = [
        *said(view.of(Message), "vpn-up", "vpn-status"),
        *view.where(Link, lambda k: k.ifname.startswith(TUNNELS)),
    ]
    named = [
        r
        for r in every
        if any(
            w in f"{r.chain} {r.table} {r.text}".lower()
            for w in ("mullvad", "nordvpn", "vpn", "piavpn", "expressvpn", "proton")
        )
    ]
    tunnel = [r for r in (*accepting, *excepted) if r.out_dev.lstrip("!").startswith(TUNNELS)]
    yield Hypothesis(
        subject="the VPN's DNS rules",
        title="The VPN on the host rejects DNS that does not go to its own resolver.",
        checks=(
            shown("a rule rejects port 53", [r.record for r in rejecting], weight=1.0, required=True, decide="iptables-save | grep 53; nft list ruleset | grep 53"),
            shown("an earlier rule accepts port 53 only through one device or to one address", [r.record for r in (*accepting, *excepted)], weight=1.0, required=not named, decide="nft list ruleset | grep -B3 'dport 53'"),
            shown("a VPN's device or client is there", [*vpn, *(r.record for r in (*named, *tunnel))], weight=0.9),
            shown("queries fail", [*logged, *view.where(DnsLookup, lambda d: d.status in ("TIMEOUT", "UNREACHABLE")), *view.where(DnsServerError, lambda e: e.error in ("timeout", "refused", "unreachable"))], weight=0.4),
        ),
        explains=("only DNS fails in pods; addresses can be reached", "it comes and goes with the VPN"),
        fixes=(Fix(title="Exempt the pod network", artifact="iptables -I OUTPUT -d POD-CIDR -p udp --dport 53 -j ACCEPT\niptables -I FORWARD -s POD-CIDR -p udp --dport 53 -j ACCEPT\n"),),
        prior=-1.5,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="A VPN client's DNS lock on the host rejects the DNS queries of pods.",
    inputs=(
        IptablesTable,
        FirewallRule,
        NetfilterLog,
        Message,
        Link,
        DnsLookup,
        DnsServerError,
    ),
    needs=(
        IptablesTable,
        FirewallRule,
        NetfilterLog,
    ),
    rivals=(
        "node-firewall-rejects-pod-traffic",
        "egress-policy-missing-dns-allow",
        "dns-server-unreachable",
    ),
    check=check,
)
