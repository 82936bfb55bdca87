"""A node sees one direction of a TCP connection only, takes its packets for invalid, and a rule drops them.

What happens
------------
Routing is asymmetric: the request passes a node, the reply takes another way. The tracker of that node never sees the
SYN-ACK, so the client's ACK and data do not fit its window and are INVALID. kube-proxy and others drop that state.

How to tell it from its neighbours
----------------------------------
Ping works and TCP does not, the reply avoids the node that forwarded the request, and a drop rule for INVALID counts up.
A reverse-path filter logs martians and drops ping as well.

Fix
---
Make the routing symmetric, or let conntrack be liberal and drop no invalid packets of such flows.

References
----------
net/netfilter/nf_conntrack_proto_tcp.c (tcp_in_window); kubernetes pkg/proxy/iptables (KUBE-FORWARD, ctstate INVALID).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.net import Sysctl
from deadhop.model.netfilter import IptablesRule, IptablesTable
from deadhop.model.observed.firewall import FirewallRule
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.kernel import Counter, MartianSource, NetfilterLog
from deadhop.model.observed.node import Ping
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.shell import Attempt, CommandRun
from deadhop.model.record import Record
from deadhop.snapshot.captures import answered_echoes, other_gateway, unheard_acks

SLUG = "conntrack-invalid-drop-asymmetric-routing"
_INVALID = re.compile(r"\bct state (?:== )?(?:\{ ?)?invalid\b")
TCP_TOOLS = ("curl", "wget", "nc", "ncat", "telnet")


def check(view: View) -> Iterator[Hypothesis]:
    nft = [r for r in view.of(FirewallRule) if r.verdict in ("drop", "reject") and _INVALID.search(r.text)]
    tables: list[Record] = [t for t in view.of(IptablesTable) if any(map(_drops_invalid, t.rules))]
    tables += nft
    packets = {id(t): [r.packets for r in t.rules if _drops_invalid(r)] for t in view.of(IptablesTable)}
    packets |= {id(r): [r.packets] for r in nft}
    counting = [t for t in tables if any(packets[id(t)])]
    idle = [t for t in tables if all(n == 0 for n in packets[id(t)])]
    invalid = [
        c
        for c in view.of(Counter)
        if c.name in ("conntrack_invalid", "node_nf_conntrack_stat_invalid") and c.value > 0
    ]
    logged = [r for r in view.of(NetfilterLog) if "invalid" in r.prefix.lower()]
    liberal = [s for s in view.of(Sysctl) if s.key.endswith("nf_conntrack_tcp_be_liberal")]
    pings: list[Record] = [
        *(p for p in view.of(Ping) if p.ok),
        *(a for a in view.of(Attempt) if a.ok and a.program.startswith("ping")),
        *answered_echoes(view.of(CapturedPacket)),
    ]
    tcp: list[Record] = [
        *(a for a in view.of(Attempt) if not a.ok and a.program in TCP_TOOLS),
        *(e for e in view.of(HttpExchange) if e.error in ("timeout", "reset")),
        *(d for d in view.of(DialFailure) if d.proto == "tcp" and d.error in ("timeout", "reset")),
        *unheard_acks(view.of(CapturedPacket)),
    ]
    half = _one_way(view.of(CapturedPacket))
    half += other_gateway(view.of(CapturedPacket))[:4] if tcp else []
    routes = [c for c in view.of(CommandRun) if _static_route(c)]
    martians = view.of(MartianSource)
    shape = [*pings, *tcp] if pings and tcp else []
    on_path: list[Record] = [*half, *routes]
    if (
        not (counting or logged)
        and not (shape and (routes or tables or half or invalid))
        and not (half and tables)
    ):
        return
    yield Hypothesis(
        subject="TCP through a node that sees one direction",
        title="A node sees one direction of the connection only, and its packets are dropped as invalid.",
        checks=(
            shown("a rule drops invalid packets and counts up, or ping passes where TCP fails on a path of its own", [*tables, *logged, *shape, *half], weight=0.8, required=True, decide="iptables -nvL | grep -i invalid"),
            judged("a rule drops packets in the state INVALID", False if idle and not counting else (True if tables or logged else None), [*tables, *logged], weight=0.5, decide="iptables -nvL KUBE-FORWARD"),
            shown("that rule counts up, or the tracker counts invalid packets", [*counting, *logged, *invalid], weight=0.5, decide="conntrack -S"),
            shown("ping works and TCP does not", shape, weight=1.0),
            shown("the request goes through one node and the reply does not", on_path, weight=0.8, decide="tcpdump -ni any tcp port PORT"),
            judged("the tracker is strict", False if any(s.value == "1" for s in liberal) else (True if liberal else None), liberal, weight=0.6, decide="sysctl net.netfilter.nf_conntrack_tcp_be_liberal"),
            judged("no reverse-path filter drops the packets", False if martians else None, martians, weight=1.2, required=bool(martians)),
        ),
        explains=("ping and UDP work, TCP connections hang after the handshake or break off",),
        fixes=(
            Fix(title="Symmetric routes", artifact="# on the outside router: each node's pod range through that node\nip route add POD-CIDR-OF-NODE via NODE-ADDRESS\n"),
            Fix(title="A liberal tracker", artifact="# /etc/sysctl.d/90-conntrack.conf\nnet.netfilter.nf_conntrack_tcp_be_liberal = 1\n", changed=("packets out of window are no longer INVALID on that node",)),
        ),
        prior=-1.5,
    )  # fmt: skip


def _drops_invalid(rule: IptablesRule) -> bool:
    return (
        rule.target in ("DROP", "REJECT")
        and "INVALID" in rule.option("--ctstate", "--state").split(",")
        and "!" not in rule.args
    )


def _one_way(packets: list[CapturedPacket]) -> list[Record]:
    """TCP segments of connections of which the capture holds one direction, with more than a lone SYN."""
    flows: dict[tuple[str, int | None, str, int | None], list[CapturedPacket]] = {}
    for p in packets:
        if p.proto == "tcp" and p.tcp_flags:
            flows.setdefault((p.src, p.sport, p.dst, p.dport), []).append(p)
    found: list[Record] = []
    for (src, sport, dst, dport), rows in flows.items():
        kinds = {p.tcp_flags for p in rows}
        if (dst, dport, src, sport) not in flows and "S" in kinds and kinds & {".", "P.", "R"}:
            found += rows
    return found


def _static_route(command: CommandRun) -> bool:
    """A route to a network through a gateway that a person sets."""
    argv = command.argv
    if len(argv) > 3 and argv[0] == "route" and argv[1] == "add":
        return "gw" in argv and "-net" in argv
    return (
        len(argv) > 4
        and argv[:3] in (("ip", "route", "add"), ("ip", "r", "add"))
        and "via" in argv
        and "default" not in argv
    )


CAUSE = Cause(
    slug=SLUG,
    family="conntrack",
    title="A node sees one direction of a connection, and a rule drops its packets as invalid.",
    inputs=(
        IptablesTable,
        FirewallRule,
        Counter,
        NetfilterLog,
        Sysctl,
        Ping,
        Attempt,
        HttpExchange,
        DialFailure,
        CapturedPacket,
        CommandRun,
        MartianSource,
    ),
    needs=(IptablesTable, FirewallRule, NetfilterLog, Attempt, Ping, CapturedPacket),
    rivals=(
        "rp-filter-enabled-globally-on-node",
        "stale-tcp-conntrack-to-removed-endpoint",
        "conntrack-table-full",
    ),
    check=check,
)
