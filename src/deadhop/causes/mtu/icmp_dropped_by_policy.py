"""The network policy engine denies the ICMP fragmentation-needed message as unmatched ingress.

What happens
------------
A policy selects the pod and allows a TCP port. The router's ICMP error is a new flow for the engine, matches no rule
and is denied, so the pod's path MTU discovery is blind: large flights on an allowed connection stall.

How to tell it from its neighbours
----------------------------------
The engine logs a deny for ICMP right after it accepted the TCP flow. Removing the policy cures large exchanges, small
ones work all the time. It is not a missing port rule: the port is accepted.

Fix
---
Allow the ICMP error (or the peer without a port restriction), or lower the pod MTU so that it is never needed.

References
----------
RFC 1191; RFC 4890; Cilium issue 33844 and CiliumNetworkPolicy icmps rules.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, shown
from deadhop.model.observed.kube import CiliumNetworkPolicy, NetworkPolicy
from deadhop.model.observed.message import Message
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.policy import CiliumEvent, Flow
from deadhop.model.record import Record

SLUG = "icmp-frag-needed-dropped-by-networkpolicy"


def _error(text: str, proto: str) -> bool:
    lowered = text.lower()
    return ("icmp" in lowered or "icmp" in proto.lower()) and "echo" not in lowered


def check(view: View) -> Iterator[Hypothesis]:
    denied: list[Record] = [f for f in view.of(Flow) if f.denied and _error(f.summary + f.event, f.proto)]
    denied += [
        e
        for e in view.of(CiliumEvent)
        if e.verdict == "DROPPED"
        and "olicy" in e.reason
        and _error(e.text, e.proto)
        and "icmp" in (e.text + e.proto).lower()
    ]
    denied += [
        m
        for m in view.of(Message)
        if m.kind == "netpol-verdict"
        and m.field("verdict").upper() in ("DENY", "DROP")
        and m.field("proto").upper() in ("ICMP", "1", "ICMPV6")
    ]
    if not denied:
        return
    named = [
        d
        for d in denied
        if any(word in str(d).lower() for word in ("frag", "toobig", "too big", "unreachable"))
    ]
    accepted: list[Record] = [f for f in view.of(Flow) if not f.denied and f.proto == "TCP"]
    accepted += [
        m
        for m in view.of(Message)
        if m.kind == "netpol-verdict"
        and m.field("verdict").upper() in ("ACCEPT", "ALLOW")
        and m.field("proto").upper() in ("TCP", "6")
    ]
    errors = [p for p in view.of(CapturedPacket) if p.icmp and p.icmp.too_big]
    policies = [*view.of(NetworkPolicy), *view.of(CiliumNetworkPolicy)]
    yield Hypothesis(
        subject="the policy engine",
        title="The policy engine denies ICMP errors, so pods selected by a policy have no path MTU discovery.",
        checks=(
            shown("the engine denies an ICMP error", denied, weight=1.4, required=True),
            shown("it is the unreachable / too-big kind, or one is on the wire", [*named, *errors], weight=1.0, decide="tcpdump -nvi any 'icmp[0]=3 and icmp[1]=4'"),
            shown("the TCP flow itself is accepted", accepted, weight=0.7),
            shown("a policy selects by port", policies, weight=0.3),
        ),
        explains=("small exchanges on the same connection work",),
        fixes=(Fix(title="Allow the ICMP error", artifact="# CiliumNetworkPolicy\ningress:\n- icmps:\n  - fields:\n    - {type: 3, family: IPv4}\n    - {type: 2, family: IPv6}\n"),),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="The network policy engine denies ICMP fragmentation-needed.",
    inputs=(Flow, CiliumEvent, Message, CapturedPacket, NetworkPolicy, CiliumNetworkPolicy),
    needs=(Flow, CiliumEvent, Message),
    rivals=("icmp-frag-needed-dropped-by-node-firewall", "icmp-frag-needed-dropped-by-security-group"),
    check=check,
)
