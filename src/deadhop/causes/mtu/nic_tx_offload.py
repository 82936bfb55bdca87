"""A faulty transmit offload of the NIC or hypervisor corrupts large encapsulated packets.

What happens
------------
Checksum or segmentation offload of encapsulated packets goes wrong in the NIC, its driver or the hypervisor. Large
packets arrive damaged and are discarded; it looks like an MTU fault because it depends on size.

How to tell it from its neighbours
----------------------------------
Turning transmit offload off cures it with the MTU unchanged. Packets arrive damaged rather than not at all; only some
host types are affected. A wrong outer checksum after double NAT is independent of size.

Fix
---
Disable the affected transmit offload, or update the driver or hypervisor.

References
----------
ethtool(8) -K; drivers with NETIF_F_GSO_UDP_TUNNEL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.net import Link
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.message import Message
from deadhop.model.observed.node import Offload, Throughput
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.shell import CommandRun
from deadhop.model.record import Record

SLUG = "nic-tx-offload-corrupts-large-packets"


def check(view: View) -> Iterator[Hypothesis]:
    offloads = [
        o
        for o in view.of(Offload)
        if o.feature.startswith(("tx", "tso", "gso", "generic-seg", "tcp-seg", "checksum", "offload"))
    ]
    typed = [c for c in view.of(CommandRun) if _SWITCHED_OFF.search(c.line)]
    if not offloads and not typed:
        return
    on = [o for o in offloads if o.on and not o.changed]
    bad = [p for p in view.of(CapturedPacket) if p.bad_checksum and p.proto == "tcp"]
    tcp = [
        c
        for c in view.of(Counter)
        if c.name.endswith("TcpInCsumErrors")
        or c.name == "InCsumErrors"
        or (c.name.endswith("InCsumErrors") and "Tcp" in c.name)
    ]
    arrived = [*bad, *(c for c in tcp if c.value > 0)] if bad and any(c.value > 0 for c in tcp) else []
    switched: list[Record] = [*(o for o in offloads if o.changed and not o.on), *typed]
    labelled = [o for o in offloads if o.note]
    runs = view.of(Throughput)
    damaged = [
        *(p for p in view.of(CapturedPacket) if p.bad_checksum),
        *(c for c in view.of(Counter) if "csum" in c.name.lower() and c.value > 0),
    ]
    pair, faster = _compared(runs, switched)
    vxlan = [m for m in view.of(Message) if m.kind == "udp-bad-checksum"]
    retransmits = [r for r in runs if (r.retransmits or 0) > 50]
    tunnels = [link for link in view.of(Link) if link.kind in ("vxlan", "geneve", "gre")]
    dev = offloads[0].dev if offloads else (_SWITCHED_OFF.search(typed[0].line) or [""])[1]
    yield Hypothesis(
        subject=dev or "the node's transmit path",
        title="A transmit offload damages large encapsulated packets; the MTU is not at fault.",
        checks=(
            shown("runs are told apart by a transmit offload that is switched, or it is on while wrong checksums arrive", [*switched, *labelled, *(on if arrived else [])], weight=1.3, required=True, decide="ethtool -K NIC tx off; then repeat the transfer"),
            shown("the transfer suffers: damage or heavy retransmission", [*damaged, *retransmits, *(pair[:1] if faster else [])], weight=1.1, required=not switched, decide="nstat -az | grep -i csum; iperf3 -c PEER   # with tx on and off"),
            judged("the same transfer is many times faster once the offload is off", faster if pair else None, pair, weight=1.0, required=bool(pair) and not faster),
            judged("the wrong checksum is not the tunnel's own outer one", False if vxlan else None, vxlan, weight=1.5, required=bool(vxlan)),
            shown("a tunnel carries the packets", tunnels, weight=0.2),
        ),
        explains=("large packets break on some host types with the same MTU",),
        fixes=(Fix(title="Disable the transmit offload", artifact=f"ethtool -K {dev or 'NIC'} tx off tx-udp_tnl-segmentation off\n"),),
        prior=-1.3,
    )  # fmt: skip


#: ``ethtool -K DEV FEATURE off`` of a transmit feature.
_SWITCHED_OFF = re.compile(
    r"\bethtool\s+(?:-K|--offload|--features)\s+(\S+)\s(?:.*\s)?(?:tx\S*|tso|gso|generic-segmentation-offload|tcp-segmentation-offload)\s+off\b"
)
FASTER = 5


def _compared(runs: list[Throughput], switched: list[Record]) -> tuple[list[Throughput], bool]:
    """The run before the switch and the one behind it in one transcript, and whether the second is many times faster."""
    pair: list[Throughput] = []
    for switch in switched:
        here = [r for r in runs if r.source.file == switch.source.file]
        before = [r for r in here if r.source.line < switch.source.line]
        after = [r for r in here if r.source.line > switch.source.line]
        if before and after:
            pair = [before[-1], after[-1]]
            if after[-1].bits >= FASTER * before[-1].bits:
                return pair, True
    return pair, False


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="A faulty transmit offload damages large encapsulated packets.",
    inputs=(Offload, CommandRun, Throughput, CapturedPacket, Counter, Message, Link),
    needs=(Offload, CommandRun),
    rivals=("vxlan-outer-checksum-broken-by-offload", "tunnel-mtu-exceeds-underlay"),
    check=check,
)
