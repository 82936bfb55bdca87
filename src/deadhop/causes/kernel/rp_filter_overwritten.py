"""systemd-sysctl sets rp_filter on a new interface after the CNI had switched it off.

What happens
------------
The CNI creates a veth pair and writes 0 to the host end's rp_filter, because answers from the pod come in on that
device while the route to the pod leads to another one. A moment later udev runs systemd-sysctl for the new device,
which applies a distribution's or a hardener's file and writes 1 or 2 again. The kernel then drops the pod's packets as
martian in ``fib_validate_source``. Strict mode drops because the reverse route is on another device; loose mode drops
as well where the input device has no IPv4 address at all, which is how CNIs leave their veths.

How to tell it from its neighbours
----------------------------------
The interface's own value is non-zero, and a file or a udev rule says who wrote it; with only ``conf.all`` non-zero the
value is global. The martian line is for unicast IP on the pod's device, not for broadcast ARP. The packet arrives on
the device, so the pod and its application are well; no policy records a denial.

Fix
---
A sysctl drop-in that sorts behind the others and covers the CNI's devices and ``conf.all`` (the larger value counts),
or a route per pod, so that the reverse route names the device.

References
----------
net/ipv4/fib_frontend.c __fib_validate_source; systemd-sysctl(8); sysctl.d(5); udev rule 99-systemd.rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.artifacts import rp_filter as artifact
from deadhop.hops.packet_world import PacketWorld, walk
from deadhop.model import cni
from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.finding import Check
from deadhop.model.net import Address, Link, Listing, NextHop, Route, Sysctl
from deadhop.model.observed.kernel import Counter, MartianSource
from deadhop.model.observed.kube import ContainerProcess, Pod, ProbeFailure
from deadhop.model.observed.message import Message
from deadhop.model.observed.node import RouteGet, SysctlSetting, UdevRule
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.packet import PacketFlow
from deadhop.snapshot import node, veth
from deadhop.snapshot.epochs import route_epochs

SLUG = "rp-filter-overwritten-by-systemd-sysctl"
IPV4 = 0x0800


def check(view: View) -> Iterator[Hypothesis]:
    values = {
        s.key.split(".")[3].replace("/", "."): s
        for s in view.of(Sysctl)
        if s.key.startswith("net.ipv4.conf.") and s.key.endswith(".rp_filter")
    }
    for dev, live in values.items():
        if dev in ("all", "default", "lo") or live.value not in ("1", "2"):
            continue
        row = cni.device(dev)
        paired = [p for p in veth.pairs(view.of(Link)) if p.host.ifname == dev]
        if not paired and (row is None or row.rp_filter != 0):
            continue
        yield _hypothesis(view, dev, live, paired[0] if paired else None)


def _hypothesis(view: View, dev: str, live: Sysctl, pair: veth.VethPair | None) -> Hypothesis:
    martians = view.where(MartianSource, lambda m: m.dev == dev and m.ethertype in (IPV4, None))
    settings = view.where(
        SysctlSetting, lambda s: s.key.endswith(".rp_filter") and s.value in ("1", "2") and not s.exclude
    )
    udev = view.where(UdevRule, lambda u: any(k == "RUN" and "systemd-sysctl" in v for k, _op, v in u.assign))
    pod_ip = (
        martians[0].src
        if martians
        else next(
            (a.local for a in view.of(Address) if pair and a.ifname == pair.pod.ifname and a.family == 4), ""
        )
    )
    here = _places(view, dev, live)
    tables = route_epochs([r for r in view.of(Route) if r.where in here], view.of(Listing))
    routes = tables[0] if tables else ()
    seen = _answer(view, dev, here)
    if not pod_ip and seen:
        pod_ip = seen.src
    if not pod_ip:  # a route to one address through this device is the way to its pod
        ways = [
            r.dst.removesuffix("/32")
            for r in routes
            if r.family == 4
            and r.type == "unicast"
            and r.legs
            and r.legs[0].dev == dev
            and r.dst != "default"
        ]
        pod_ip = next((dst for dst in ways if "/" not in dst), "")
    reverse = node.best(routes, pod_ip) if pod_ip else None
    asked = view.first(RouteGet, lambda r: r.dst == pod_ip)
    back = (
        asked.dev if asked and asked.dev else (reverse.legs[0].dev or "" if reverse and reverse.legs else "")
    )
    covering = [r for r in routes if pod_ip and node.covers(r, pod_ip)]
    evidence_back = [*([asked] if asked else []), *covering]
    addressed = view.where(Address, lambda a: a.ifname == dev and a.family == 4)
    probes = view.where(ProbeFailure, lambda p: p.error == "timeout" and (not pod_ip or p.ip in ("", pod_ip)))
    global_value = next((s for s in view.of(Sysctl) if s.key == "net.ipv4.conf.all.rp_filter"), None)
    processes = view.of(ContainerProcess)
    row = cni.device(dev)
    spared = [s for s in view.of(Sysctl) if s.value == "0" and row and row.role == "pod" and s.where == live.where and s.key.startswith(f"net.ipv4.conf.{row.prefix}") and s.key.endswith(".rp_filter")]  # fmt: skip
    counted = view.where(Counter, lambda c: c.name.endswith("IPReversePathFilter") and c.value > 0)
    upgraded = view.where(
        Message, lambda m: m.kind == "package-upgraded" and m.field("package").startswith(("systemd", "udev"))
    )
    return Hypothesis(
        subject=f"{dev}" + (f" (the host end of {pair.pod.ifname}@{pair.pod.where or 'pod'})" if pair else ""),
        title=f"rp_filter is {live.value} on {dev}: systemd-sysctl wrote it after the CNI had switched it off, and answers from the pod are dropped.",
        checks=(
            Check(text=f"rp_filter of {dev} is {live.value}, where the CNI needs 0", holds=True, weight=1.0, required=True, records=(live,)),
            shown("a sysctl file sets rp_filter" if settings or not spared else "devices differ since systemd was upgraded", [*settings, *(upgraded if spared else ())], weight=1.3 if settings else 1.0, required=True, decide="grep -rs rp_filter /etc/sysctl.conf /etc/sysctl.d /run/sysctl.d /usr/lib/sysctl.d"),
            shown("the kernel drops IPv4 packets from the pod as martian on this device", martians, weight=1.6, decide="sysctl -w net.ipv4.conf.all.log_martians=1; journalctl -kf | grep martian"),
            shown("a udev rule applies sysctl files again to every new device", udev, weight=0.9, decide="grep -rs systemd-sysctl /usr/lib/udev/rules.d /etc/udev/rules.d"),
            judged(f"the route back to {pod_ip or 'the pod'} leads to {back or '?'} and not to {dev}", None if not back else back != dev, evidence_back, weight=0.8, required=back == dev, decide=f"ip route get {pod_ip or 'POD-IP'}"),
            judged(f"{dev} has no IPv4 address, so loose mode drops too", None if pair is None else not addressed, [pair.host] if pair and not addressed else [], weight=0.3),
            shown("the pair of devices leads from the pod to this device", [pair.pod, pair.host] if pair else [], weight=0.4),
            shown("the process behind the entered namespace is known", [p for p in processes if pair and pair.pod.where == f"pid {p.pid}"], weight=0.1),
            shown("other devices of pods still have the 0 that the CNI wrote", spared[:3], weight=0.6),
            shown("the kernel counts packets that failed the filter", counted, weight=0.8, decide="nstat -az TcpExtIPReversePathFilter"),
            shown("probes of the pod time out", probes, weight=0.4),
            judged("the live value of conf.all.rp_filter (the larger of the two counts)", None if global_value is None else True, [global_value] if global_value else [], weight=0.1, decide="sysctl net.ipv4.conf.all.rp_filter"),
        ),
        explains=("the probe's request arrives and its answer dies on the way back", "no policy and no CNI counter shows a drop, the loss is in ip_rcv_finish_core"),
        world=_world(view, dev, live, routes, martians[0].dst if martians else seen.dst if seen else "", pod_ip),
        walk=walk,
        fixes=_fixes(view, dev, pod_ip, settings, global_value),
        prior=-1.2,
    )  # fmt: skip


def _places(view: View, dev: str, live: Sysctl) -> set[str]:
    """Where the listings of the device's own namespace were made."""
    return {live.where} | {link.where for link in view.of(Link) if link.ifname == dev}


def _answer(view: View, dev: str, here: set[str]) -> CapturedPacket | None:
    """A packet that a capture shows on the device, from elsewhere to an address of the node: the log of martians is
    rate-limited for the whole machine and may lack it."""
    own = {a.local for a in view.of(Address) if a.where in here}
    caught = view.where(CapturedPacket, lambda p: p.dev == dev and p.dst in own and p.src not in own)
    return next((p for p in caught if p.src and ":" not in p.src), None)


def _world(
    view: View, dev: str, live: Sysctl, routes: tuple[Route, ...], dst: str, pod_ip: str
) -> PacketWorld | None:
    if not dst or not routes:
        return None
    here = _places(view, dev, live)
    state = [r for r in (*view.of(Link), *view.of(Address), *view.of(Sysctl)) if r.where in here]
    ns = node.host(state, routes)
    files = [
        s for s in view.of(SysctlSetting) if s.key == "net.ipv4.conf.all.rp_filter" and s.value.isdigit()
    ]
    if "net.ipv4.conf.all.rp_filter" not in {s.key for s in view.of(Sysctl)} and files:
        ns = ns.with_sysctl("net.ipv4.conf.all.rp_filter", files[-1].value)
        ns = ns.replace(
            assumed=(*ns.assumed, f"conf.all.rp_filter has the value that {files[-1].source} sets")
        )
    flow = PacketFlow(
        src=pod_ip,
        dst=dst,
        in_dev=dev,
        proto="tcp",
        sport=8080,
        dport=40000,
        length=60,
        tcp_flags=("syn", "ack"),
    )
    return PacketWorld(ns=ns, flow=flow, where="the node, on the answer's way back")


def _fixes(
    view: View, dev: str, pod_ip: str, settings: tuple[SysctlSetting, ...], global_value: Sysctl | None
) -> tuple[Fix, ...]:
    row = cni.device(dev)
    prefix = row.prefix if row else re.sub(r"[0-9a-f]{4,}.*$|\d+$", "", dev) or dev
    pattern = f"{prefix}*"
    paths = [s.path for s in settings if s.path]
    fixed = view.where(
        Pod, lambda p: bool(p.ready) and p.ready is not None and p.ready[0] == p.ready[1] and p.ready[1] > 0
    )
    seen = " The evidence shows pods ready after a change." if fixed else ""

    def zero(world: PacketWorld, both: bool) -> PacketWorld:
        ns = world.ns.with_sysctl(f"net.ipv4.conf.{dev}.rp_filter", 0)
        return world.with_ns(lambda _ns: ns.with_sysctl("net.ipv4.conf.all.rp_filter", 0) if both else ns)

    all_zero = global_value is not None and global_value.value == "0"
    return (
        Fix(
            title=f"A drop-in for {pattern} and conf.all that sorts behind the others",
            artifact=artifact.drop_in(pattern, paths),
            apply=lambda w: zero(w, True),
            changed=("conf.all.rp_filter becomes 0 for every device; devices with a value of their own keep it",),
            assumes=("existing devices are rewritten by the restart of systemd-sysctl",),
            note="Restart nothing else: new connections pass at once." + seen,
        ),
        Fix(
            title=f"A drop-in for {pattern} alone",
            artifact=artifact.drop_in(pattern, paths, all_too=False),
            apply=(lambda w: zero(w.with_ns(lambda ns: ns.with_sysctl("net.ipv4.conf.all.rp_filter", 0)), False)) if not all_zero else (lambda w: zero(w, False)),
            conditional=not all_zero,
            note="" if all_zero else "Enough only if conf.all.rp_filter is 0: the larger of the two values counts. Ask for the live value first.",
        ),
        Fix(
            title="A route per pod, so that the reverse route names the device",
            artifact=(row.endpoint_routes if row and row.endpoint_routes else f"ip route replace {pod_ip or 'POD-IP'}/32 dev {dev}") + "\n",
            apply=(lambda w: w.with_ns(lambda ns: ns.with_route(Route(family=4, dst=f"{pod_ip}/32", legs=(NextHop(dev=dev),), scope="link")))) if pod_ip else None,
            changed=("packets to the pod leave by its own device instead of the CNI's host device",),
        ),
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="kernel",
    title="systemd-sysctl re-enables rp_filter on the CNI's new interfaces.",
    inputs=(Sysctl, CapturedPacket, SysctlSetting, UdevRule, MartianSource, Link, Address, Route, Listing, RouteGet, ProbeFailure, ContainerProcess, Pod, Counter, Message),
    needs=(Sysctl,),
    rivals=(
        "rp-filter-enabled-globally-on-node", "rp-filter-drops-asymmetric-pod-reply", "app-not-listening",
        "destination-ingress-policy-missing-client", "kubelet-probe-blocked-by-strict-mtls", "benign-martian-log-broadcast-arp",
    ),
    check=check,
)  # fmt: skip
