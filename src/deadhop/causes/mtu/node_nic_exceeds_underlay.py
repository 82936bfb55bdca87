"""A node interface has a larger MTU than the network it is attached to carries.

What happens
------------
The NIC says 1500 or 9001, the provider's network or a switch carries less. Hosts, and everything that derives its MTU
from that interface, send frames that the layer 2 segment drops without a word.

How to tell it from its neighbours
----------------------------------
The interface's MTU differs from what the provider announces. Host-to-host traffic on this network fails by size as
well, which separates it from a tunnel setting; no ICMP error comes back.

Fix
---
Set the interface MTU to what the network carries, and let the CNI derive its value from it.

References
----------
Provider documentation of network MTU (OpenStack, GCP 1460, Azure); RFC 8899.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.net import Link
from deadhop.model.observed.message import Message
from deadhop.model.observed.node import Ping
from deadhop.model.record import Record
from deadhop.snapshot.sizes import Probe, Sized, devices, limit, probes

SLUG = "node-nic-mtu-higher-than-underlay"


def check(view: View) -> Iterator[Hypothesis]:
    sized = devices(view.of(Link))
    tunnels = [d for d in sized if d.role in ("tunnel", "vpn")]
    announced = [m for m in view.of(Message) if m.kind == "underlay-mtu" and m.field("mtu")]
    tried = probes(view.of(Ping))
    edge = limit(tried)
    for nic in (d for d in sized if d.role == "nic"):
        smaller = [m for m in announced if int(m.field("mtu")) < nic.mtu]
        over = [t for t in tunnels if t.rests_on(nic)]
        lost = [p for p in tried if not p.ok and p.length <= nic.mtu and p.record.error == "lost"]
        fitting = [p for p in lost if not over or (_from_host(p) and not _explained(p, nic, over))]
        if smaller or fitting:
            yield _hypothesis(nic.name, nic.mtu, nic.record, smaller, fitting, edge)


def _from_host(probe: Probe) -> bool:
    return probe.record.where.startswith("host ")


def _explained(probe: Probe, nic: Sized, tunnels: list[Sized]) -> bool:
    """Whether a tunnel that is too large for ``nic`` by itself loses what the probe sent, were it to take the tunnel."""
    return any(
        t.encapsulation
        and t.mtu + t.encapsulation.over_v4 > nic.mtu >= probe.length > nic.mtu - t.encapsulation.over_v6
        for t in tunnels
    )


def _hypothesis(
    name: str,
    mtu: int,
    record: Record,
    smaller: list[Message],
    fitting: list[Probe],
    edge: tuple[Probe, Probe] | None,
) -> Hypothesis:
    real = min([int(m.field("mtu")) for m in smaller] or [edge[0].length if edge else mtu])
    return Hypothesis(
        subject=name,
        title=f"{name} has MTU {mtu}, the network beneath it carries {real}.",
        checks=(
            judged(f"{name} has MTU {mtu}", True, [record], weight=0.4, required=True),
            shown("the network carries less: announced, or found by probing", [*smaller, *(p.record for p in fitting)], weight=1.9, required=True, decide="ping -M do -s SIZE OTHER-NODE-IP   # host to host"),
            shown("the provider announces it", smaller, weight=0.7),
            judged("host-to-host traffic fails by size as well", True if fitting else None, [p.record for p in fitting], weight=0.4, decide="ping -M do -s SIZE OTHER-NODE-IP   # host to host"),
        ),
        explains=("frames are dropped without an ICMP error",),
        fixes=(Fix(title=f"Set the interface's MTU to {real}", artifact=f"ip link set dev {name} mtu {real}   # and in the node's network configuration\n"),),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="A node's NIC has a larger MTU than its network carries.",
    inputs=(Link, Message, Ping),
    needs=(Link,),
    rivals=("tunnel-mtu-exceeds-underlay",),
    check=check,
)
