"""Queries leave the client and no DNS server answers.

What happens
------------
No server runs, is ready, or listens at the address that the clients ask. Every name fails alike, by every transport:
nobody answers, or the address says port unreachable.

How to tell it from its neighbours
----------------------------------
A single answered query, of whatever size, rules it out: then look at sizes, names or policy. A policy drop is recorded
as one. A full answer that is lost on its way shows an answer packet somewhere.

Fix
---
Bring the DNS servers back, or point the clients at ones that run.

References
----------
resolv.conf(5); Kubernetes, Debugging DNS Resolution.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.dns import DnsLookup, DnsQuery, DnsServerError
from deadhop.model.observed.firewall import FirewallRule
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.kube import Endpoints, KubeObject, Pod
from deadhop.model.observed.packets import CapturedPacket, SkbTrace
from deadhop.model.observed.policy import Flow
from deadhop.model.observed.shell import CommandRun
from deadhop.model.record import Record
from deadhop.snapshot.firewall import rules
from deadhop.snapshot.silence import silent as printed_nothing

SLUG = "dns-server-unreachable"
#: curl, busybox and the JDK say the same of EAI_NONAME and EAI_AGAIN (lib/hostip.c; libbb/xconnect.c; InetAddress).
_EITHER = re.compile(
    r"Could not resolve host|[Cc]ouldn't resolve host|bad address|UnknownHostException|unable to resolve host address"
)
#: Fields of the DNS service's endpoints that print nothing where it has none.
_BARE = re.compile(
    r"\bget (?:ep|endpoints)\b.*\b(?:kube-dns|coredns)\b.*-o ?(?:json|yaml)\S*.*(?:subsets|addresses)"
)
DNS_NAMES = ("kube-dns", "coredns", "rke2-coredns", "dns-default", "node-local-dns", "nodelocaldns")


def check(view: View) -> Iterator[Hypothesis]:
    answered = [
        *(q for q in view.of(DnsQuery) if q.rcode),
        *(
            r
            for r in view.of(DnsLookup)
            if r.tool != "zone" and (r.status in ("NOERROR", "NXDOMAIN") or r.answers)
        ),
        *(f for f in view.of(Flow) if f.dns and f.dns.response),
        *(p for p in view.of(CapturedPacket) if p.dns and p.dns.response),
    ]
    delivered = [
        t
        for t in view.of(SkbTrace)
        if any(s.func in ("udp_rcv", "skb_consume_udp", "ip_forward") for s in t.steps)
    ]
    lost = [r for r in view.of(DnsLookup) if r.status in ("TIMEOUT", "UNREACHABLE")]
    dials = [
        d
        for d in view.of(DialFailure)
        if d.error in ("lookup-timeout", "lookup-failed")
        or (d.port == 53 and d.error in ("timeout", "refused"))
        or (d.resolver and d.error == "refused")
    ]
    empty = [e for e in view.of(Endpoints) if e.service in DNS_NAMES and not e.ready]
    down: list[KubeObject] = [
        p
        for p in view.of(Pod)
        if any(p.name.startswith(n) for n in DNS_NAMES) and p.ready is not None and p.ready[0] == 0
    ]
    if empty or down:  # words that a client has for "no such name" and for "no answer" alike
        dials += [d for d in view.of(DialFailure) if d.error == "no-such-host" and _EITHER.search(d.text)]
    unresolved = [e for e in view.of(HttpExchange) if e.error == "unresolved" and (empty or down)]
    empty_said = [c for c in printed_nothing(view.of(CommandRun)) if _BARE.search(c.line)]
    refused: list[Record] = [
        d for d in dials if d.error == "refused" and not (d.resolver or d.ip).startswith(("127.", "[::1]"))
    ]
    refused += [
        p
        for p in view.of(CapturedPacket)
        if p.icmp
        and p.icmp.type == 3
        and p.icmp.code == 3
        and (p.icmp.quoted is None or p.icmp.quoted.dport == 53)
    ]
    refused += [r for r in lost if r.status == "UNREACHABLE" and not r.server.startswith("127.")]
    down += [
        o
        for o in view.of(KubeObject)
        if o.name in DNS_NAMES and str((o.raw.get("cells") or {}).get("READY", "")).startswith("0/")
    ]
    silent = {r.transport for r in lost if r.status == "TIMEOUT"}
    alike = lost if {"tcp"} < silent and not answered else []
    # The DNS server's own upstream, and the same address asked from elsewhere: both in vain.
    errors = [
        e for e in view.of(DnsServerError) if e.error in ("timeout", "refused", "unreachable") and e.upstream
    ]
    direct = [
        r
        for r in lost
        if r.server and any(e.upstream.rpartition(":")[0].strip("[]") == r.server for e in errors)
    ]
    both: list[Record] = [*direct, *errors] if direct and not answered else []
    denied = [f for f in view.of(Flow) if f.denied and f.dst.port == 53]
    walls = [
        r.record
        for r in rules(view.of(IptablesTable), view.of(FirewallRule))
        if r.drops and not r.src and "53" in r.dport.replace("domain", "53").replace(",", " ").split()
    ]
    if not (lost or dials or unresolved or empty or down or refused or answered or delivered):
        return
    if (
        not (lost or dials or unresolved or refused)
        and not delivered
        and not (answered and (empty or down))
        and not answered
    ):
        return
    server = next((r.server for r in lost if r.server), "") or "the DNS service"
    yield Hypothesis(
        subject=server,
        title=f"No DNS server answers at {server}.",
        checks=(
            judged("lookups get no answer at all", True if lost or dials or unresolved or refused else None, [*lost, *dials, *unresolved, *refused], weight=0.8, required=True),
            judged("nothing is answered or delivered", False if answered or delivered else None, (answered or delivered)[:4], weight=1.0, required=bool(answered or delivered)),
            judged("the queries are not denied by policy", False if denied else None, denied, weight=1.0, required=bool(denied)),
            judged("no firewall rule drops or rejects the DNS port", False if walls else None, walls[:3], weight=1.0, required=bool(walls)),
            shown("the DNS service has no ready endpoint, nothing listens there, or every transport fails alike", [*empty, *empty_said, *down, *refused, *alike, *both], weight=2.2 if empty or empty_said or down or refused else 1.2, required=True, decide="kubectl -n kube-system get pods,endpointslices -l k8s-app=kube-dns -o wide"),
        ),
        explains=("every name fails alike, small answers included",),
        fixes=(Fix(title="Bring the DNS servers back", artifact="kubectl -n kube-system rollout status deployment/coredns\nkubectl -n kube-system logs -l k8s-app=kube-dns --tail=50\n"),),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="dns",
    title="No DNS server runs, is ready or listens at the address that clients ask.",
    inputs=(
        DnsLookup,
        DnsQuery,
        DnsServerError,
        DialFailure,
        HttpExchange,
        Endpoints,
        KubeObject,
        Pod,
        CapturedPacket,
        SkbTrace,
        Flow,
        IptablesTable,
        FirewallRule,
        CommandRun,
    ),
    needs=(DnsLookup, DnsQuery, DialFailure, HttpExchange, CapturedPacket, SkbTrace, Flow),
    rivals=(
        "egress-policy-missing-dns-allow",
        "path-mtu-drops-df-udp-dns-response",
        "conntrack-race-on-parallel-udp-dns",
    ),
    check=check,
)
