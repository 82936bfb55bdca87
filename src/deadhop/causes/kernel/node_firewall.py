"""The node's own firewall does not trust the pod interfaces or the pod network and rejects or drops pod and Service traffic.

What happens
------------
firewalld, ufw or a distribution's rule set ends INPUT or FORWARD with a reject. Overlay packets, pod to node and
pod to pod traffic meet it, because no zone holds the CNI's interfaces.

How to tell it from its neighbours
----------------------------------
Clients see no route to host or an administratively prohibited error although routes are right: the reject rule
sends that ICMP error. The firewall's chains or log prefixes are in the evidence. Policy tools show no denial. An
accept in one base chain does not override a reject in another.

Fix
---
Put the CNI's interfaces, or the pod and Service networks, into a trusted zone, or accept them before the final
reject.

References
----------
firewalld zones; nft(8) base chains of one hook; RFC 1812 5.2.7.1 (codes 9, 10 and 13).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.dns import DnsServerError
from deadhop.model.observed.firewall import FirewallRule
from deadhop.model.observed.http import DialFailure, HttpExchange, LocalReply
from deadhop.model.observed.kernel import NetfilterLog
from deadhop.model.observed.message import Message
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.shell import CommandRun
from deadhop.snapshot.firewall import rules
from deadhop.snapshot.said import said

SLUG = "node-firewall-rejects-pod-traffic"

#: What firewalld and ufw themselves log; rejected DNS under another prefix may be a VPN client's doing.
OWN = ("final_reject", "[ufw block]", "state_invalid_drop")
MARKS = (
    "final_reject",
    "_reject",
    "ufw",
    "filter_fwd",
    "filter_in",
    "fwdi_",
    "fwdo_",
    "in_public",
    "rejected",
    "blocked",
    "dropped",
)
CHAINS = (
    "IN_",
    "FWDI_",
    "FWDO_",
    "FWD_",
    "filter_",
    "ufw",
    "INPUT_ZONES",
    "FORWARD_IN_ZONES",
    "FORWARD_OUT_ZONES",
    "INPUT_direct",
)


def check(view: View) -> Iterator[Hypothesis]:
    every = rules(view.of(IptablesTable), view.of(FirewallRule))
    prohibited = [
        p
        for p in view.of(CapturedPacket)
        if p.icmp and not p.icmp.v6 and p.icmp.type == 3 and p.icmp.code in (9, 10, 13)
    ]
    logged = [
        log
        for log in view.of(NetfilterLog)
        if any(m in log.prefix.lower() for m in MARKS)
        and (str(log.dport) != "53" or log.prefix.strip().rstrip(":").lower() in OWN)
    ]
    rejecting = [
        r
        for r in every
        if (r.target == "REJECT" and r.chain in ("INPUT", "FORWARD", "RH-Firewall-1-INPUT"))
        or (r.drops and (r.chain.startswith(CHAINS) or "prohibited" in r.text))
    ]
    rejecting = [
        r
        for r in rejecting
        if not r.dport and not any(w in r.text for w in ("no endpoints", "fib saddr", "rpfilter"))
    ]
    zones = [r for r in every if r.chain.startswith(CHAINS)]
    running = said(view.of(Message), "firewall-running", "firewall-port-warning", "firewall-zone")
    routed = [
        m
        for m in said(view.of(Message), "ufw-default")
        if m.field("routed").lower() in ("deny", "drop", "reject", "disabled")
        or m.field("incoming") in ("deny", "reject")
    ]
    stopped = [
        c
        for c in view.of(CommandRun)
        if re.search(
            r"(?:systemctl|service)\b.*\b(?:stop|disable|status|restart)\b.*\b(?:firewalld|ufw|nftables|iptables)|(?:firewalld|ufw|iptables) stop|ufw disable|firewall-cmd .*--(?:add|zone)",
            c.line,
        )
    ]
    unreachable = [
        *view.where(DialFailure, lambda d: "no route to host" in d.text.lower() or d.error == "unreachable"),
        *view.where(
            LocalReply, lambda r: "113" in r.transport_failure or "No route to host" in r.transport_failure
        ),
        *view.where(DnsServerError, lambda e: e.error == "unreachable" or "no route to host" in e.text),
        *view.where(HttpExchange, lambda x: "o route to host" in x.error_text),
    ]
    if not (rejecting or prohibited or logged or running or routed or stopped):
        return
    signs = [*(r.record for r in rejecting), *prohibited, *logged]
    firewall = [*running, *routed, *stopped, *(r.record for r in zones)]
    fits = bool(signs) or bool(firewall and unreachable)
    yield Hypothesis(
        subject="the node's firewall",
        title="The node's own firewall rejects pod traffic.",
        checks=(
            judged("a firewall on the node rejects, or is active while hosts seem unreachable", True if fits else None, [*signs, *([] if signs else [*firewall, *unreachable])], weight=1.5, required=True, decide="systemctl is-active firewalld ufw; nft list ruleset; iptables-save"),
            shown("clients see an ICMP error: no route to host, or administratively prohibited", [*unreachable, *prohibited], weight=0.7),
            shown("the firewall's service or its zones are in force", firewall if signs else (), weight=0.7),
            shown("its log or counters name the traffic", [*logged, *(r.record for r in rejecting if r.packets)], weight=0.7),
        ),
        explains=("all protocols between nodes and pods fail alike, with no route to host", "policy tools show no denial"),
        fixes=(Fix(title="Trust the pod network", artifact="firewall-cmd --permanent --zone=trusted --add-source=POD-CIDR\nfirewall-cmd --permanent --zone=trusted --add-source=SERVICE-CIDR\nfirewall-cmd --permanent --zone=trusted --add-interface=CNI-DEVICE\nfirewall-cmd --reload\n"),),
        prior=-1.4,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="The node's own firewall rejects or drops pod and Service traffic.",
    inputs=(
        DnsServerError,
        IptablesTable,
        FirewallRule,
        CapturedPacket,
        NetfilterLog,
        Message,
        CommandRun,
        DialFailure,
        LocalReply,
        HttpExchange,
    ),
    needs=(
        IptablesTable,
        FirewallRule,
        Message,
        NetfilterLog,
        CapturedPacket,
        DialFailure,
        LocalReply,
        CommandRun,
    ),
    rivals=(
        "docker-sets-forward-policy-drop",
        "host-vpn-firewall-rejects-dns",
        "netfilter-rpfilter-rule-drops-pod-traffic",
        "bridge-nf-call-iptables-forced-on",
    ),
    check=check,
)
