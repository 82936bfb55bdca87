"""A cloud security group admits only the service port, so ICMP fragmentation-needed is discarded.

What happens
------------
Clients behind a narrower path make routers answer with ICMP. The security group or the load balancer's filter lists TCP
ports only; the error never reaches the server, which repeats its first large flight (the TLS certificate) for ever.

How to tell it from its neighbours
----------------------------------
The filter lists TCP only and no ICMP; the handshake completes and the first large flight stalls. Only clients behind a
narrower path are affected, and nothing on the node or in a policy denies the ICMP.

Fix
---
Allow ICMP type 3 code 4 (and ICMPv6 packet-too-big) in the security group or network ACL.

References
----------
AWS, Network MTU: path MTU discovery and security groups; RFC 4890.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.node import CloudFlow, PortRange
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.shell import CommandRun

SLUG = "icmp-frag-needed-dropped-by-security-group"


def check(view: View) -> Iterator[Hypothesis]:
    rules = [r for r in view.of(PortRange) if r.ingress]
    logged = view.of(CloudFlow)
    refused = [f for f in logged if f.refused_error]
    if not rules and not refused:
        return
    # A listing that was asked for one protocol shows no other, whatever the group admits.
    chosen = any(
        re.search(r"IpProtocol\W{1,4}=\W{0,6}\w|ip-permission\.protocol", c.line) for c in view.of(CommandRun)
    )
    icmp = [r for r in rules if r.protocol in ("icmp", "icmpv6", "all", "58", "1")]
    tcp = [r for r in rules if r.protocol in ("tcp", "6")]
    spoke = [f for f in logged if f.accepted and f.protocol == 6 and f.dst in {r.dst for r in refused}]
    stalled = [
        *(e for e in view.of(HttpExchange) if e.error in ("tls", "timeout", "reset", "empty")),
        *(d for d in view.of(DialFailure) if d.error in ("tls", "reset", "timeout")),
    ]
    errors = [p for p in view.of(CapturedPacket) if p.icmp and p.icmp.too_big]
    yield Hypothesis(
        subject=(rules[0].group if rules else refused[0].device) or "the security group",
        title="The security group admits TCP only: ICMP fragmentation-needed is discarded and large flights stall.",
        checks=(
            shown("the network admits TCP to the server", [*tcp, *spoke], weight=0.8, required=True),
            judged("no rule admits ICMP", True if refused else False if icmp else (None if chosen else True), refused or icmp, weight=1.0, required=True),
            shown("the flow log shows ICMP errors towards the server discarded", refused, weight=1.2),
            shown("the connection stalls after the handshake, or an ICMP error is on its way", [*stalled, *errors, *refused], weight=1.2, required=True, decide="curl -v https://HOST/   # stops after the client hello; tcpdump 'icmp[0]=3' at the router"),
        ),
        explains=("only clients behind a narrower path are affected",),
        fixes=(Fix(title="Allow fragmentation-needed", artifact="aws ec2 authorize-security-group-ingress --group-id SG --ip-permissions IpProtocol=icmp,FromPort=3,ToPort=4,IpRanges='[{CidrIp=0.0.0.0/0}]'\n"),),
        prior=-1.3,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="A cloud security group admits no ICMP fragmentation-needed.",
    inputs=(PortRange, CloudFlow, CommandRun, HttpExchange, DialFailure, CapturedPacket),
    needs=(PortRange, CloudFlow),
    rivals=("icmp-frag-needed-dropped-by-node-firewall", "icmp-frag-needed-dropped-by-networkpolicy"),
    check=check,
)
