"""Tunnel packets that were source-NATed twice get a wrong outer UDP checksum from transmit offload.

What happens
------------
kube-proxy masquerades node-originated traffic to a Service; after encapsulation the tunnel packet is masqueraded again
and its outer checksum, left to offload, comes out wrong. The receiving kernel discards it before any listener sees it.

How to tell it from its neighbours
----------------------------------
The receiver's kernel log reports bad UDP checksums for the tunnel port. Node-originated and host-network traffic to
Service addresses with remote backends fails; pod addresses and pod-originated traffic work, whatever the size.

Fix
---
Disable transmit checksum offload on the tunnel interface, or use a kernel or kube-proxy that masquerades only once.

References
----------
kubernetes issues 87852, 88986; flannel issue 1243; net/ipv4/udp.c udp4_csum_init; kube-proxy --random-fully.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadhop.model.cause import Cause, Fix, Hypothesis, View, judged, shown
from deadhop.model.observed.dns import DnsLookup
from deadhop.model.observed.http import HttpExchange
from deadhop.model.observed.kube import Service
from deadhop.model.observed.message import Message
from deadhop.model.observed.node import Offload
from deadhop.model.observed.packets import CapturedPacket

SLUG = "vxlan-outer-checksum-broken-by-offload"
TUNNEL_PORTS = ("4789", "8472", "6081")


def check(view: View) -> Iterator[Hypothesis]:
    bad = [m for m in view.of(Message) if m.kind == "udp-bad-checksum" and m.field("dport") in TUNNEL_PORTS]
    damaged = [p for p in view.of(CapturedPacket) if p.bad_checksum and str(p.dport) in TUNNEL_PORTS]
    off = [
        o
        for o in view.of(Offload)
        if o.changed
        and not o.on
        and o.dev.startswith(("flannel", "vxlan", "cilium_vxlan", "antrea", "genev"))
    ]
    services = {s.cluster_ip for s in view.of(Service) if s.cluster_ip}
    from_node = [r for r in view.of(DnsLookup) if r.status == "TIMEOUT" and r.server in services]
    from_node_http = [e for e in view.of(HttpExchange) if e.error == "timeout" and e.dialled in services]
    if not (bad or damaged or off):
        return
    yield Hypothesis(
        subject="the tunnel's outer UDP checksum",
        title="Tunnel packets carry a wrong outer UDP checksum, and the receiving kernel discards them.",
        checks=(
            shown("the receiver discards tunnel packets for their UDP checksum, or switching offload off on the tunnel cures it", [*bad, *damaged, *off], weight=2.2, required=True, decide="dmesg | grep 'bad checksum'; ethtool -K flannel.1 tx-checksum-ip-generic off"),
            shown("calls from a node to a Service address time out", [*from_node, *from_node_http], weight=0.8, decide="curl CLUSTER-IP from the node, from a pod, and to the pod address"),
            judged("it does not depend on size", None, weight=0.3, decide="curl a small answer from the node by ClusterIP"),
        ),
        explains=("pods resolve and call, hosts and host-network pods do not",),
        fixes=(Fix(title="Disable transmit checksum offload on the tunnel", artifact="ethtool -K flannel.1 tx-checksum-ip-generic off\n"),),
        prior=-1.2,
    )  # fmt: skip


CAUSE = Cause(
    slug=SLUG,
    family="mtu",
    title="Tunnel packets get a wrong outer UDP checksum from transmit offload.",
    inputs=(Message, CapturedPacket, Offload, Service, DnsLookup, HttpExchange),
    needs=(Message, CapturedPacket, Offload),
    rivals=("nic-tx-offload-corrupts-large-packets", "dns-server-unreachable"),
    check=check,
)
