"""A large UDP DNS answer with DF does not fit the MTU of a hop that forwards it.

What happens
------------
The DNS server sends its answer as one UDP datagram with the don't-fragment bit. A node on the way has to forward it
out of a device (or by a route) with a smaller MTU. ``ip_forward`` finds that it does not fit, sends ICMP
fragmentation-needed to the server and frees the packet. The server does not send the answer again, the client times
out, and its retries meet the same end. Small answers pass, so only some names fail.

How to tell it from its neighbours
----------------------------------
The ICMP error is there and quotes a packet from the DNS port, so ICMP is not filtered. There are no fragments on the
wire, unlike fragment loss. The answer would fit the client's buffer, unlike an answer above the announced EDNS size.
The query is answered, unlike an unreachable server; no policy records a denial.

Fix
---
Give every hop the same MTU (the CNI's setting), or keep answers small: DNS over TCP, or a smaller EDNS buffer. Until
then a cache that is kept warm over TCP hides the loss.

References
----------
net/ipv4/ip_forward.c ip_forward, ip_exceeds_mtu; RFC 1191; RFC 6891 §6.2.5; DNS flag day 2020.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deadhop.artifacts import dns as dns_artifacts
from deadhop.artifacts import mtu as mtu_artifacts
from deadhop.hops.packet_world import PacketWorld, walk
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.finding import Check
from deadhop.model.net import Address, Link, Listing, NextHop, Route, Sysctl
from deadhop.model.netns import assemble
from deadhop.model.observed.dns import DnsLookup, DnsQuery
from deadhop.model.observed.kube import ConfigMap, Workload
from deadhop.model.observed.packets import CapturedPacket, SkbStep, SkbTrace
from deadhop.model.observed.shell import CommandRun
from deadhop.model.packet import PacketFlow

SLUG = "path-mtu-drops-df-udp-dns-response"
FORWARD = frozenset({"ip_forward", "ip6_forward", "__ip_forward", "ip_forward_finish"})
ERRORS = frozenset({"__icmp_send", "icmp_send", "icmp6_send", "icmpv6_send"})
UDP = frozenset(
    {
        "udp_rcv",
        "__udp4_lib_rcv",
        "udp_unicast_rcv_skb",
        "udp_queue_rcv_skb",
        "skb_consume_udp",
        "__udp6_lib_rcv",
    }
)
IP_UDP = 28
JUMBO = 9001
ETHERNET = 1500


def check(view: View) -> Iterator[Hypothesis]:
    for trace in view.of(SkbTrace):
        if hit := _parting(trace, _way_out(view.of(SkbTrace), trace)):
            yield _from_trace(view, trace, *hit)
    yield from _from_capture(view)


def _parting(trace: SkbTrace, out: int | None) -> tuple[SkbStep, SkbStep, int] | None:
    """The forwarding step of a packet that is too large, the ICMP error behind it, and the MTU it does not fit.

    A tracer prints the MTU of the skb's device, which at that step may still be the one it came in by; then the
    kernel's own reason says what happened, and ``out`` is the MTU of the way out that another packet took.
    """
    too_big = any(step.reason.removeprefix("SKB_DROP_REASON_") == "PKT_TOO_BIG" for step in trace.steps)
    for step, after in zip(trace.steps, trace.steps[1:], strict=False):
        if step.func not in FORWARD or after.func not in ERRORS or not step.len:
            continue
        if step.mtu and step.len > step.mtu:
            return step, after, step.mtu
        if too_big:
            return step, after, out if out and out < step.len else min(ETHERNET, step.len - 1)
    return None


def _way_out(traces: Sequence[SkbTrace], trace: SkbTrace) -> int | None:
    """The smallest MTU that smaller packets met behind the forwarding step."""
    seen = [
        step.mtu
        for other in traces
        if other is not trace and any(s.func in FORWARD for s in other.steps)
        for step in other.steps[next(i for i, s in enumerate(other.steps) if s.func in FORWARD) + 1 :]
        if step.mtu
    ]
    return min(seen, default=None)


def _from_trace(view: View, trace: SkbTrace, step: SkbStep, error: SkbStep, mtu: int) -> Hypothesis:
    length = step.len or 0
    seen = bool(step.mtu and step.mtu < length)
    passed = [
        other
        for other in view.of(SkbTrace)
        if other is not trace
        and any(s.func in FORWARD and s.len == length and (s.mtu or 0) >= length for s in other.steps)
    ]
    udp = [
        t
        for t in (*passed, trace)
        if any(s.func in UDP for s in t.steps) or any("udp" in s.tuple.lower() for s in t.steps)
    ]
    payload = next((s.len for t in passed for s in t.steps if s.func == "skb_consume_udp"), None)
    hints = [
        c
        for c in view.of(CommandRun)
        if c.program in ("dig", "pwru", "nslookup")
        and ("dig" in c.argv[:1] or "port 53" in c.line or "udp" in c.line)
    ]
    checks = (
        Check(
            text=f"{step.func} is followed by {error.func}: a packet of {length} bytes does not fit"
            + (f" MTU {mtu}" if seen else " the way out (PKT_TOO_BIG)"),
            holds=True, weight=2.0, required=True, records=(trace,),
        ),
        shown(f"a packet of {length} bytes passes the same function and arrives where the MTU is larger (the other epoch)", passed, weight=0.5),
        shown(f"the packet is UDP; its payload is {payload or length - IP_UDP} bytes ({length} less 20 IP and 8 UDP)", udp, weight=0.3),
        judged("the datagram has DF set: ip_forward sends this error only for DF", True, weight=0.0, inferred=True),
        judged("the error is ICMP fragmentation needed (type 3 code 4)", True, weight=0.0, inferred=True, decide="tcpdump -nvi any 'icmp[0]=3 and icmp[1]=4'"),
        judged(
            "the datagram is a DNS answer", True if hints else None, hints, weight=0.2, inferred=True,
            decide="tcpdump -nnvi any 'udp src port 53 or icmp'   # the DNS answer, its DF flag and the ICMP error",
        ),
        judged(
            "the egress route has this MTU (pwru prints the MTU of the skb's device, the limit is the route's)", None,
            decide="ip route get POD-IP; ip -d link show   # on the node that forwards",
        ),
    )  # fmt: skip
    return Hypothesis(
        subject=f"{step.func} in netns {step.netns}, ifindex {step.ifindex}, MTU {mtu}",
        title=f"A UDP answer of {length} bytes with DF does not fit the MTU of {mtu} of a hop that forwards it.",
        checks=checks,
        explains=(f"the kernel drops the datagram in {step.func} and tells its sender, the client gets nothing and times out", "smaller answers pass the same way"),
        world=_world(length, mtu, trace),
        walk=walk,
        fixes=_fixes(view, max((s.mtu or 0) for t in (*passed, trace) for s in t.steps) if passed else JUMBO, length),
        prior=-1.1,
    )  # fmt: skip


def _from_capture(view: View) -> Iterator[Hypothesis]:
    packets = view.of(CapturedPacket)
    errors = [
        p for p in packets
        if p.icmp and p.icmp.too_big and (p.icmp.quoted is None or p.icmp.quoted.sport in (53, None) or p.icmp.quoted.proto == "udp")
    ]  # fmt: skip
    if not errors:
        return
    first = errors[0]
    assert first.icmp is not None
    known = next((p.icmp.mtu for p in errors if p.icmp and p.icmp.mtu), None)
    answers = [
        p
        for p in packets
        if p.proto == "udp" and (p.sport == 53 or (p.dns and p.dns.response)) and p.src == first.dst
    ]
    # A summary that leaves out the next hop's MTU: the largest answer is then what did not fit.
    sizes = [p.length or (p.payload or 0) + IP_UDP for p in answers]
    mtu = known or min(ETHERNET, max(sizes, default=ETHERNET + 1) - 1)
    big = [p for p in answers if (p.length or (p.payload or 0) + IP_UDP) > mtu]
    quoted = [p for p in errors if p.icmp and p.icmp.quoted and (p.icmp.quoted.sport == 53)]
    if not big and not quoted:
        return
    fragments = [p for p in packets if p.more_fragments or p.fragment_offset]
    length = max(
        [(p.length or (p.payload or 0) + IP_UDP) for p in big]
        or [first.icmp.quoted.length or mtu + 1 if first.icmp.quoted else mtu + 1]
    )
    tcp_ok = [r for r in view.of(DnsLookup) if r.transport == "tcp" and not r.failed]
    udp_lost = [r for r in view.of(DnsLookup) if r.status == "TIMEOUT" and r.transport != "tcp"]
    yield Hypothesis(
        subject=f"{first.src}, which forwards from {first.dst}",
        title=f"A UDP DNS answer of {length} bytes with DF does not fit {f'an MTU of {mtu}' if known else 'the next MTU'} at {first.src}.",
        checks=(
            Check(
                text=f"ICMP says that a packet of {first.dst} does not fit{f' MTU {mtu}' if known else ''}",
                holds=True,
                weight=2.2,
                required=True,
                records=tuple(errors),
            ),
            judged(
                "the packet is a DNS answer, by its quoted port or by the answer before it",
                True,
                (*quoted, *big),
                weight=1.0,
                required=True,
            ),
            judged("no fragments are on the wire", not fragments, fragments, weight=0.6),
            judged(
                "the answer has DF set",
                True if any(p.df for p in big) else None,
                [p for p in big if p.df],
                weight=0.4,
            ),
            shown("the lookup times out over UDP", udp_lost, weight=0.5),
            shown("the same server answers over TCP", tcp_ok, weight=0.5),
        ),
        explains=(f"{first.src} drops the answer and tells {first.dst}; the client times out",),
        world=_world(length, mtu, first),
        walk=walk,
        fixes=_fixes(view, JUMBO, length),
        prior=-1.0,
    )


def _world(length: int, mtu: int, record: CapturedPacket | SkbTrace) -> PacketWorld:
    """The least world in which the answer is forwarded: a wide device to the server, one of ``mtu`` to the client."""
    up = ("BROADCAST", "UP", "LOWER_UP")
    state = (
        Link(source=record.source, ifname="to-server", ifindex=2, mtu=65535, flags=up, link_type="ether"),
        Link(source=record.source, ifname="to-client", ifindex=3, mtu=mtu, flags=up, link_type="ether"),
        Address(source=record.source, ifname="to-server", local="192.0.2.1", prefixlen=24, family=4, scope="global"),
        Address(source=record.source, ifname="to-client", local="198.51.100.1", prefixlen=24, family=4, scope="global"),
        Route(source=record.source, family=4, dst="192.0.2.0/24", legs=(NextHop(dev="to-server"),), scope="link"),
        Route(source=record.source, family=4, dst="198.51.100.0/24", legs=(NextHop(dev="to-client"),), scope="link"),
        Route(source=record.source, family=4, dst="192.0.2.1", type="local", table="local", legs=(NextHop(dev="to-server"),), scope="host"),
        Route(source=record.source, family=4, dst="198.51.100.1", type="local", table="local", legs=(NextHop(dev="to-client"),), scope="host"),
        *(Listing(what=what) for what in ("links", "addresses", "routes4", "neighbours", "conntrack")),
        *(Sysctl(key=f"net.ipv4.conf.{dev}.{key}", value=value) for dev in ("all", "default", "to-server", "to-client") for key, value in _CONF),
        *(Sysctl(key=key, value=value) for key, value in _GLOBAL),
    )  # fmt: skip
    ns = assemble(state, name="the node that forwards").assuming_defaults()
    flow = PacketFlow(
        src="192.0.2.53",
        dst="198.51.100.10",
        in_dev="to-server",
        sport=53,
        dport=40000,
        length=length,
        df=True,
    )
    return PacketWorld(ns=ns, flow=flow, where="the node that forwards the answer")


_CONF = (
    ("forwarding", "1"), ("rp_filter", "0"), ("accept_local", "0"), ("route_localnet", "0"), ("src_valid_mark", "0"), ("send_redirects", "0"), ("log_martians", "0"),
)  # fmt: skip
_GLOBAL = (
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv4.ip_forward_use_pmtu", "0"),
    ("net.ipv4.ip_no_pmtu_disc", "0"),
)


def _fixes(view: View, mtu: int, length: int) -> tuple[Fix, ...]:
    names = {link.ifname for link in view.of(Link)} | {
        o.name for o in (*view.of(Workload), *view.of(ConfigMap))
    }
    names |= {w for c in view.of(CommandRun) for w in c.line.replace("/", " ").split()}
    wanted = mtu if mtu > length else JUMBO
    questions = [q.qname for q in view.of(DnsLookup) if q.failed] or [
        q.qname for q in view.of(DnsQuery) if q.qtype == "SRV"
    ]
    name = questions[0] if questions else "NAME"
    return (
        Fix(
            title=f"Give the path an MTU of {wanted} with the CNI's own setting",
            artifact=mtu_artifacts.table(mtu_artifacts.seen(names), wanted),
            apply=lambda w: w.with_ns(lambda ns: ns.with_mtu("to-client", wanted)),
            changed=(f"every pod interface of the CNI gets MTU {wanted}; both ends of a veth pair must have it, or the receiver drops without ICMP",),
            assumes=("the underlay carries frames of that size",),
        ),
        Fix(
            title="Ask that zone over TCP",
            artifact=dns_artifacts.force_tcp("ZONE", "DNS-SERVER"),
            apply=lambda w: w.with_flow(proto="tcp", length=min(length, _mss_limited(w)), tcp_flags=("ack",)),
            changed=("lookups of that zone cost one TCP connection each when they miss the cache",),
            assumes=("the client advertises an MSS from its own MTU, so each segment fits",),
        ),
        Fix(
            title="Keep the answer in the cluster's cache, asked over TCP (a workaround)",
            artifact=dns_artifacts.warm_sidecar(name, "SRV", 10),
            note=dns_artifacts.race(30, 10),
        ),
    )  # fmt: skip


def _mss_limited(world: PacketWorld) -> int:
    link = world.ns.link("to-client")
    return link.mtu or 1500 if link else 1500


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="A large UDP DNS answer with DF does not fit the MTU of a forwarding hop.",
    inputs=(SkbTrace, CapturedPacket, DnsLookup, DnsQuery, CommandRun, Link, Workload, ConfigMap),
    needs=(SkbTrace, CapturedPacket),
    rivals=(
        "udp-dns-response-fragments-dropped",
        "dns-udp-response-exceeds-client-bufsize",
        "egress-policy-missing-dns-allow",
        "dns-server-unreachable",
        "upstream-dns-oversize-udp-without-tc",
    ),
    check=check,
)
