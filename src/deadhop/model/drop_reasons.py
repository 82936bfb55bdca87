"""The kernel's drop reasons that the Linux hop answers with: what each means, where, and what counts it.

Names are ``enum skb_drop_reason`` without the prefix. The enum's numbers move between kernels: resolve them through
BTF, never by a table. ``since`` is the first kernel that has the name in the place given here; before it the same drop
is ``NOT_SPECIFIED``. Source: specification "Linux forwarding" §5, checked by ``deadhop.lab.verify`` on 6.18.
"""

from __future__ import annotations

import msgspec


class DropReason(msgspec.Struct, frozen=True):
    """One reason: its meaning, the functions that give it, the counters that move, the first kernel."""

    name: str
    means: str
    functions: tuple[str, ...]
    counters: tuple[str, ...] = ()
    since: str = "5.17"


REASONS: dict[str, DropReason] = {
    reason.name: reason
    for reason in (
        DropReason(
            "NOT_SPECIFIED",
            "the kernel names no reason: blackhole, unreachable and prohibit routes, groups that nobody joined, a "
            "route's own mtu in IPv6",
            ("ip_error", "dst_discard", "ip6_fragment", "ip_rcv_finish_core"),
        ),
        DropReason("NETFILTER_DROP", "a rule dropped or rejected it", ("nft_do_chain", "nf_hook_slow")),
        DropReason(
            "IP_RPFILTER",
            "the route back to the source does not use the device it came from",
            ("ip_rcv_finish_core",),
            ("TcpExt:IPReversePathFilter",),
        ),
        DropReason(
            "IP_LOCAL_SOURCE", "its source is an address of this host", ("ip_rcv_finish_core",), (), "6.13"
        ),
        DropReason("IP_INVALID_SOURCE", "its source cannot be one", ("ip_rcv_finish_core",), (), "6.13"),
        DropReason("IP_INVALID_DEST", "its destination cannot be one", ("ip_rcv_finish_core",), (), "6.13"),
        DropReason(
            "IP_LOCALNET", "127/8 on a wire without route_localnet", ("ip_rcv_finish_core",), (), "6.13"
        ),
        DropReason(
            "IP_INADDRERRORS",
            "not for this host, and it does not forward",
            ("ip_error", "ip6_forward"),
            ("Ip:InAddrErrors", "Ip6InAddrErrors"),
        ),
        DropReason(
            "IP_INNOROUTES",
            "no route to the destination",
            ("ip_error", "ip6_pkt_discard", "ip6_pkt_prohibit"),
            ("IpExt:InNoRoutes", "Ip6InNoRoutes"),
        ),
        DropReason(
            "IP_INHDR",
            "TTL or hop limit used up, or a header that may not be on a wire",
            ("ip_forward", "ip6_forward", "ip6_rcv_core"),
            ("Ip:InHdrErrors", "Ip6InHdrErrors"),
        ),
        DropReason(
            "PKT_TOO_BIG",
            "larger than the way out and not to be fragmented",
            ("ip_forward", "ip6_forward"),
            ("Ip:FragFails", "Ip6InTooBigErrors", "Ip6FragFails"),
        ),
        DropReason(
            "IPV6DISABLED", "IPv6 is off on the device", ("ip6_rcv_core", "ip6_output"), ("Ip6InDiscards",)
        ),
        DropReason("QDISC_DROP", "the device's queue drops: no carrier, or down", ("__dev_queue_xmit",)),
        DropReason("NEIGH_FAILED", "the next hop does not answer", ("neigh_invalidate",)),
    )
}
