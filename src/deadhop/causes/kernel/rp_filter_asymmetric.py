"""Reverse-path filtering drops packets of a pod flow, because the route back to their source names another device than the one they came in on.

What happens
------------
The kernel looks up the source of each packet. With strict filtering the answer must name the receiving device;
policy routing, several cards or tunnels make it name another one, and the packet is dropped in the IP stack.

How to tell it from its neighbours
----------------------------------
The kernel logs a martian source for the flow's unicast addresses, or a capture shows the packet on the device and a
reverse lookup names another. Only paths with asymmetric routing fail. A setting that hits every pod device is one
of the two rp_filter patterns beside this; broadcast ARP is harmless.

Fix
---
Make the route symmetric, or set loose reverse-path filtering on the receiving interface.

References
----------
net/ipv4/fib_frontend.c __fib_validate_source; Documentation/networking/ip-sysctl rp_filter.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.cni import device
from deadhop.model.net import Address, Route, Rule, Sysctl
from deadhop.model.observed.kernel import Counter, MartianSource
from deadhop.model.observed.message import Message
from deadhop.model.observed.node import RouteGet
from deadhop.model.observed.packets import CapturedPacket
from deadhop.snapshot import node
from deadhop.snapshot.said import said

SLUG = "rp-filter-drops-asymmetric-pod-reply"


def check(view: View) -> Iterator[Hypothesis]:
    martians = [
        m for m in view.of(MartianSource) if m.ethertype in (0x0800, None) and m.ll_dst != "ff:ff:ff:ff:ff:ff"
    ]
    arp = [m for m in view.of(MartianSource) if m.ethertype == 0x0806]
    settings = {
        s.key.split(".")[3]: s
        for s in view.of(Sysctl)
        if s.key.startswith("net.ipv4.conf.") and s.key.endswith(".rp_filter")
    }
    counted = [
        c
        for c in view.of(Counter)
        if c.name in ("TcpExtIPReversePathFilter", "IPReversePathFilter") and c.value > 0
    ]
    for dev in dict.fromkeys(
        [
            *(m.dev for m in martians),
            *(d for d, s in settings.items() if s.value == "1" and d not in ("all", "default", "lo")),
        ]
    ):
        row = device(dev)
        if row is not None and row.rp_filter == 0 and settings:
            continue
        own = [m for m in martians if m.dev == dev]
        effective = max((s.value for d, s in settings.items() if d in ("all", dev)), default="")
        strict = [s for d, s in settings.items() if d in ("all", dev) and s.value == "1"]
        asked = [m for m in said(view.of(Message), "reverse-path") if m.field("iif") == dev]
        other: list[RouteGet] | list[Route] | list[Message] = [*asked] or [
            g
            for g in view.of(RouteGet)
            if g.dev and g.dev != dev and (not own or any(g.dst == m.src for m in own))
        ]
        arrived = [p for p in view.of(CapturedPacket) if p.dev == dev]
        if strict and counted and not other:
            ways = _ways_back(view, dev, strict[-1].where, arrived)
            other, arrived = ways, arrived if ways else []
        if not own and not (strict and other and (arrived or asked)) and not (counted and other):
            continue
        yield Hypothesis(
            subject=f"device {dev}",
            title=f"Packets that arrive on {dev} fail the reverse-path check: the route to their source names another device.",
            checks=(
                shown(f"the kernel drops unicast packets on {dev} as martian, or a capture shows them there and no further", own or [*arrived, *counted], weight=0.9, required=True, decide="journalctl -k | grep martian"),
                shown("the route to the source names another device", other, weight=1.2, decide=f"ip route get {own[0].src if own else 'SOURCE'} from {own[0].dst if own else 'DESTINATION'}"),
                judged(f"reverse-path filtering is strict on {dev}", None if not effective else effective == "1" or None if effective != "0" else False, strict or list(settings.values())[:2] if effective in ("0", "1") else (), weight=1.0, required=effective == "0", decide=f"sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.{dev}.rp_filter"),
                shown("the frames are unicast IPv4", [m for m in own if m.ethertype == 0x0800] if row is None or row.rp_filter != 0 else (), weight=0.6),
                judged("the martians are no broadcast ARP", False if arp and not own else None, arp if not own else ()),
            ),
            explains=("a capture on the device shows the packet, and no firewall or CNI counter moves",),
            fixes=(Fix(title="Loose reverse-path filtering on the device", artifact=f"# /etc/sysctl.d/99-rp-filter.conf\nnet.ipv4.conf.{dev}.rp_filter = 2\n"),),
            prior=-1.2,
        )  # fmt: skip


def _ways_back(view: View, dev: str, where: str, arrived: list[CapturedPacket]) -> list[Route]:
    """The routes to the sources of what came in on ``dev`` where they name another device, by the main table: the
    kernel's log is rate-limited for the whole machine, so that it may lack the line. Empty where rules choose."""
    if any(r.where == where and r.family == 4 and 0 < r.priority < 32766 for r in view.of(Rule)):
        return []
    own = {a.local for a in view.of(Address) if a.where == where}
    routes = tuple(r for r in view.of(Route) if r.where == where and r.family == 4 and r.table == "main")
    found: dict[str, Route] = {}
    for source in {
        p.src for p in arrived if p.src and p.src not in own and p.dst in own and ":" not in p.src
    }:
        back = node.best(routes, source)
        if back and back.legs and all(leg.dev != dev for leg in back.legs):
            found[source] = back
    return list(found.values())


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="Reverse-path filtering drops a pod flow whose reverse route names another device.",
    inputs=(
        Message,
        MartianSource,
        Sysctl,
        Counter,
        RouteGet,
        CapturedPacket,
        Route,
        Rule,
        Address,
    ),
    needs=(
        MartianSource,
        Sysctl,
        RouteGet,
    ),
    rivals=(
        "rp-filter-enabled-globally-on-node",
        "rp-filter-overwritten-by-systemd-sysctl",
        "foreign-ip-rule-table-lacks-pod-routes",
        "netfilter-rpfilter-rule-drops-pod-traffic",
        "benign-martian-log-broadcast-arp",
    ),
    check=check,
)
